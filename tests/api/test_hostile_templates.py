"""Chat templates that mean harm, over HTTP: each ends in an error that says so, and the same API answers the next request."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator

import httpx
import pytest

from tests.api.scripted import Stand, stand

# Every one of them does it only when it is told to, so that the same template can show afterwards that it still works.
SAFE = "{% for m in messages %}[{{ m.role }}]{{ m.content }}{% endfor %}[assistant]"
FINE = ((True, "[user]"), (False, "fine"), (True, "[assistant]"))


def always(source: str) -> str:
    """The same, also where it sees the marker of a content."""
    return "{% if messages[0].role == 'system' %}" + source + "{% endif %}" + SAFE


# what the sandbox must keep from them
TRICKS = {
    "mro": "{{ ''.__class__.__mro__[1].__subclasses__() }}",
    "mro by item": "{{ ''['__class__']['__mro__'] }}",
    "mro in pieces": "{{ ''|attr('__cla' ~ 'ss__')|attr('__mro__') }}",
    "base": "{{ [].__class__.__base__.__subclasses__() }}",
    "cycler": "{{ cycler.__init__.__globals__.os.popen('id').read() }}",
    "joiner": "{{ joiner.__init__.__globals__['__builtins__'] }}",
    "namespace": "{{ namespace.__init__.__globals__ }}",
    "lipsum": "{{ lipsum.__globals__['os'].environ }}",
    "range": "{{ range.__class__.__subclasses__() }}",
    "dict": "{{ dict.__init__.__globals__ }}",
    "format": "{{ '{0.__class__.__init__.__globals__}'.format(lipsum) }}",
    "format by name": "{{ '{x.__class__.__mro__}'.format(x=messages) }}",
    "format_map": "{{ '{x.__class__.__mro__}'.format_map({'x': messages}) }}",
    "format as a value": "{% set f = '{0.__class__.__mro__}'.format %}{{ f(messages) }}",
    "format in a map": "{{ ['{0.__class__.__mro__}']|map('format', messages)|list }}{{ messages|map(attribute='__class__.__mro__')|list }}",
    "join": "{{ messages|join(attribute='__class__.__mro__') }}",
    "groupby": "{{ messages|groupby('__class__.__mro__') }}",
    "selectattr": "{{ messages|selectattr('__class__.__mro__')|list }}",
    "sum": "{{ messages|sum(attribute='__class__') }}",
    "caller": "{% macro m() %}{{ caller.__globals__ }}{% endmacro %}{% call m() %}{% endcall %}",
    "macro": "{% macro m() %}{% endmacro %}{{ m._func.__globals__ }}",
    "loop": "{% for x in 'a' %}{{ loop.__init__.__globals__ }}{% endfor %}",
    "self": "{{ self._TemplateReference__context.environment.__class__ }}",
    "context": "{{ self.__dict__ }}",
    "exception": "{{ raise_exception.__globals__.re }}",
    "date": "{{ strftime_now.__globals__ }}",
    "generator": "{{ (messages|map('string')).gi_frame.f_globals }}",
    "file": "{% include '/etc/passwd' %}",
    "import": "{% import '/etc/passwd' as f %}{{ f }}",
    "changes the messages": "{{ messages.append({'role': 'system', 'content': 'obey'}) }}",
    "changes a message": "{{ messages[0].update(content='obey') }}",
    "clears": "{{ messages.clear() }}",
}
# what it must not become: prompts that are other than what they say, whatever happens to the markers of contents
LEAKS = {
    "random words": "{{ lipsum(1) }}",
    "a random item": "{{ range(10 ** 9 // 10 ** 4)|random }}",
    "a piece of the marker": "{{ messages[0].content[1:9] }}",
    "the marker backwards": "{{ messages[0].content|reverse }}",
    "its length": "{{ messages[0].content|length }}",
    "in capitals": "{{ messages[0].content|upper }}",
    "as numbers": "{{ messages[0].content|list|map('int', 0)|list }}",
    "escaped": "{{ messages[0].content|tojson|e }}",
    "sorted": "{{ messages[0].content|list|sort|join }}",
}
BOMBS = {
    "endless": ("{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}", "takes more than 5 s of computing"),
    "huge": ("{% for a in range(99999) %}{% for b in range(99999) %}" + "x" * 999 + "{% endfor %}{% endfor %}", "writes more than"),
    "deep": ("{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}", "failed: RecursionError"),
    "deep blocks": ("{% block b %}{{ self.b() }}{% endblock %}", "failed: RecursionError"),
    "wide": ("{{ 'x' * (10 ** 12) }}", "failed: MemoryError"),
    "lists": ("{{ ([0] * 10 ** 8)|list|length + ([0] * 10 ** 9)|length }}", "failed: MemoryError"),
    "padded": ("{{ '%99999999999s'|format('x') }}", "failed: MemoryError"),
}  # fmt: skip


@pytest.fixture(scope="module")
def api(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stand]:
    with stand(tmp_path_factory.mktemp("templates")) as standing:
        standing.engine.answer("Hello")
        yield standing


def load(api: Stand, template: str) -> None:
    """Have the API serve a model with this template."""
    api.prepare(template=template)
    api.restart()
    api.engine.answer("Hello")
    api.engine.requests.clear()


def ask(api: Stand, *said: tuple[str, str]) -> httpx.Response:
    messages = [{"role": role, "content": text} for role, text in said]
    return httpx.post(api.url + "/v1/chat/completions", json={"messages": messages}, timeout=120)


def refused(response: httpx.Response) -> str:
    """The message of a template's error."""
    assert response.status_code == 500, response.text
    error = response.json()["error"]
    assert (error["type"], error["code"]) == ("server_error", "template_error")
    assert error["message"].startswith("the model's chat template ") and len(error["message"]) < 500
    return str(error["message"])


def still_answers(api: Stand) -> None:
    response = ask(api, ("user", "fine"))
    assert response.status_code == 200, response.text
    assert response.json()["choices"][0]["message"]["content"] == "Hello"
    assert api.engine.requests[-1].prompt == FINE


@pytest.mark.parametrize("trick", TRICKS.values(), ids=TRICKS.keys())
def test_a_trick_gives_an_error_or_nothing(api: Stand, trick: str) -> None:
    load(api, always(trick))
    response = ask(api, ("system", "s"), ("user", "q"))
    if response.status_code == 200:  # the sandbox takes some attributes for undefined, which is written as nothing, or as an empty list
        (request,) = api.engine.requests
        own = "".join(text for is_own, text in request.prompt if is_own)
        assert own.removesuffix("[system][user][assistant]").strip("[]' ,") in ("", "Undefined"), own
        assert [text for is_own, text in request.prompt if not is_own] == ["s", "q"]
    else:
        refused(response)
    still_answers(api)


@pytest.mark.parametrize("leak", LEAKS.values(), ids=LEAKS.keys())
def test_what_differs_between_two_renderings_is_refused(api: Stand, leak: str) -> None:
    load(api, always(leak))
    assert "changes the texts" in refused(ask(api, ("system", 'Some "text".\n'), ("user", "q")))
    still_answers(api)


@pytest.mark.parametrize(("bomb", "message"), BOMBS.values(), ids=BOMBS.keys())
def test_a_bomb_harms_only_its_own_request(api: Stand, bomb: str, message: str) -> None:
    load(api, always(bomb))
    began = time.monotonic()
    assert message in refused(ask(api, ("system", "s"), ("user", "q")))
    assert time.monotonic() - began < 60
    assert httpx.get(api.url + "/readyz").status_code == 200
    still_answers(api)


@pytest.mark.parametrize("field", ["bos_token", "eos_token"])
def test_tokens_that_are_templates_are_only_text(api: Stand, field: str) -> None:
    """The manifest's own texts are put in, not run."""
    api.prepare(template="{{ " + field + " }}" + SAFE, **{field: "{{ 7 * 7 }}"})
    api.restart()
    api.engine.answer("Hello")
    assert ask(api, ("user", "fine")).status_code == 200
    assert api.engine.requests[-1].prompt == ((True, "{{ 7 * 7 }}[user]"), *FINE[1:])


def test_texts_that_are_templates_are_only_text(api: Stand) -> None:
    load(api, SAFE)
    for text in ("{{ 7 * 7 }}", "{% for a in range(99999) %}{% endfor %}", "{{ ''.__class__ }}", "{# #}", "{% raw %}", "\u2028{{", "%}"):
        assert ask(api, ("user", text)).status_code == 200
        assert api.engine.requests[-1].prompt == ((True, "[user]"), (False, text), (True, "[assistant]"))


def test_half_a_surrogate_is_no_text(api: Stand) -> None:
    load(api, SAFE)
    body = json.dumps({"messages": [{"role": "user", "content": "x<\\ud800|im_start|>"}]}).replace("\\\\", "\\")
    response = httpx.post(api.url + "/v1/chat/completions", content=body, headers={"Content-Type": "application/json"})
    assert response.status_code == 400 and "half of a surrogate pair" in response.json()["error"]["message"]
    still_answers(api)
