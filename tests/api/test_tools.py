"""Tool calls: read out of answers however they are cut, and through OpenAI's own client with an engine that plays a script."""

from __future__ import annotations

import asyncio
import json
import random
from collections.abc import Iterator
from itertools import pairwise
from typing import Any

import httpx
import openai
import pytest
from openai.lib._tools import pydantic_function_tool
from pydantic import BaseModel

from services.api import tools
from services.api.conversation import Conversation, Tool, Wanted
from services.api.errors import InvalidRequest
from services.api.reasoning import Piece
from services.api.tools import BARE, TAGGED, Call, CallReader, Form
from tests import templates
from tests.api.scripted import Stand, accepted, finished, stand, tag, text, until

NAMES = {"weather", "f"}
QUESTION: list[Any] = [{"role": "user", "content": "Why?"}]


def read(form: Form, pieces: list[str], *, single: bool = False) -> tuple[str, list[tuple[str, str]]]:
    """Text and calls of an answer in these pieces; in streams, a call's parts come in order."""
    reader = CallReader(form, NAMES, single=single)
    told = [event for piece in pieces for event in reader.push(Piece("answer", piece))] + reader.flush()
    parts = [event for event in told if isinstance(event, Call)]
    assert [(part.index, bool(part.id), bool(part.name)) for part in parts] == [
        entry for number in range(len(reader.calls)) for entry in ((number, True, True), (number, False, False))
    ]
    assert [part.arguments for part in parts[1::2]] == [call.arguments for call in reader.calls]
    said = "".join(event.text for event in told if isinstance(event, Piece))
    return said, [(call.name, call.arguments) for call in reader.calls]


CALL = '{"name": "weather", "arguments": {"city": "Rom"}}'
ANSWERS: dict[str, tuple[Form, str, str, list[tuple[str, str]]]] = {
    "a call": (TAGGED, f"<tool_call>\n{CALL}\n</tool_call>", "", [("weather", '{"city": "Rom"}')]),
    "text before": (TAGGED, f"Let me see.\n\n<tool_call>{CALL}</tool_call>", "Let me see.", [("weather", '{"city": "Rom"}')]),
    "two": (
        TAGGED,
        f'<tool_call>{CALL}</tool_call>\n<tool_call>\n{{"name": "f"}}</tool_call>',
        "",
        [("weather", '{"city": "Rom"}'), ("f", "{}")],
    ),
    "text between and after": (
        TAGGED,
        f"a <tool_call>{CALL}</tool_call> b <tool_call>{CALL}</tool_call> c",
        "abc",
        [("weather", '{"city": "Rom"}')] * 2,
    ),
    "no JSON": (TAGGED, "x <tool_call>{nothing}</tool_call> y", "x <tool_call>{nothing}</tool_call> y", []),
    "no such tool": (TAGGED, '<tool_call>{"name": "g"}</tool_call>', '<tool_call>{"name": "g"}</tool_call>', []),
    "arguments of no object": (
        TAGGED,
        '<tool_call>{"name": "f", "arguments": 5}</tool_call>',
        '<tool_call>{"name": "f", "arguments": 5}</tool_call>',
        [],
    ),
    "not a number": (
        TAGGED,
        '<tool_call>{"name": "f", "arguments": {"x": NaN}}</tool_call>',
        '<tool_call>{"name": "f", "arguments": {"x": NaN}}</tool_call>',
        [],
    ),
    "arguments as text": (TAGGED, '<tool_call>{"name": "f", "arguments": "{\\"x\\": 1}"}</tool_call>', "", [("f", '{"x": 1}')]),
    "a tag in a string": (
        TAGGED,
        '<tool_call>{"name": "f", "arguments": {"x": "</tool_call>\\""}}</tool_call>',
        "",
        [("f", '{"x": "</tool_call>\\""}')],
    ),
    "no closing tag": (TAGGED, f"<tool_call>{CALL}", "", [("weather", '{"city": "Rom"}')]),
    "cut short": (TAGGED, '<tool_call>{"name": "f", "argu', '<tool_call>{"name": "f", "argu', []),
    "half a tag": (TAGGED, "a < b <tool", "a < b <tool", []),
    "no tag": (TAGGED, "a < b  <tools> c", "a < b  <tools> c", []),
    "JSON without a tag": (TAGGED, CALL, CALL, []),
    "bare": (BARE, '{"name": "f", "parameters": {"x": "}{"}}', "", [("f", '{"x": "}{"}')]),
    "bare, two": (
        BARE,
        '{"name": "f", "parameters": {}}; {"name": "f", "parameters": {"a": [{}]}}',
        "",
        [("f", "{}"), ("f", '{"a": [{}]}')],
    ),
    "bare, text after": (BARE, '{"name": "f", "parameters": {}} so', "so", [("f", "{}")]),
    "bare text": (BARE, 'Use {"name": "f", "parameters": {}}', 'Use {"name": "f", "parameters": {}}', []),
    "bare JSON that is no call": (BARE, '{"answer": {"name": "f"}} ok', '{"answer": {"name": "f"}} ok', []),
    "bare, cut short": (BARE, '{"name": "f"', '{"name": "f"', []),
    "unicode": (TAGGED, '<tool_call>{"name": "f", "arguments": {"x": "鸡\\u00e9"}}</tool_call>', "", [("f", '{"x": "鸡é"}')]),
    "nothing": (TAGGED, "", "", []),
}


@pytest.mark.parametrize("name", ANSWERS)
def test_calls_are_found_whatever_the_cut(name: str) -> None:
    form, answer, said, calls = ANSWERS[name]
    assert read(form, [answer]) == (said, calls)
    assert read(form, list(answer)) == (said, calls)
    source = random.Random(name)
    for _ in range(60):
        places = sorted(source.choices(range(len(answer) + 1), k=4))
        pieces = [answer[a:b] for a, b in pairwise([0, *places, len(answer)])]
        assert read(form, pieces) == (said, calls), pieces


def test_a_single_call_ends_the_answer() -> None:
    assert read(TAGGED, [f"a<tool_call>{CALL}</tool_call>\n<tool_call>{CALL}</tool_call> b"], single=True)[0] == "a"
    assert len(read(TAGGED, list(f"a<tool_call>{CALL}</tool_call>\n<tool_call>{CALL}</tool_call> b"), single=True)[1]) == 1


def test_text_is_told_as_soon_as_it_is_certain() -> None:
    reader = CallReader(TAGGED, NAMES)
    for word in ("All", " of", " this"):
        piece = Piece("answer", word)
        assert reader.push(piece) == [piece]
    assert reader.push(Piece("answer", " <to")) == []
    assert reader.push(Piece("answer", "ol> ")) == [Piece("answer", " <tool>")]


def test_nothing_is_lost_of_random_text() -> None:
    words = ["<tool_call>", "</tool_call>", "{", "}", '"', "\\", "a", " ", "\n", "<", CALL, "name", ";"]
    for seed in range(400):
        source = random.Random(seed)
        answer = "".join(source.choices(words, k=source.randint(0, 12))).strip()
        for form in (TAGGED, BARE):
            whole = read(form, [answer])
            assert read(form, list(answer)) == whole, (seed, answer)
            if not whole[1]:
                assert whole[0] == answer, seed


def test_the_form_is_seen_in_the_template() -> None:
    assert tools.form(templates.QWEN3_TOOLS) is TAGGED and tools.form(templates.HERMES_TOOLS) is TAGGED
    assert tools.form(templates.LLAMA3_TOOLS) is BARE
    assert tools.form("{% for t in tools %}<tool_call><function=x></function></tool_call>{% endfor %}") is None
    assert tools.form("{{ tools }}") is None


def test_references_are_found_where_the_schema_stands() -> None:
    tool = Tool("f", "", {"properties": {"x": {"$ref": "#/$defs/X"}, "y": {"$ref": "#"}}, "$defs": {"X": {"type": "integer"}}})
    one = tools.schema(TAGGED, [tool], "f")
    assert one["properties"]["arguments"]["properties"]["x"] == {"$ref": "#/properties/arguments/$defs/X"}
    two = tools.schema(BARE, [Tool("g"), tool], "required")["anyOf"][1]
    assert two["properties"]["parameters"]["properties"]["y"] == {"$ref": "#/anyOf/1/properties/parameters"}
    with pytest.raises(InvalidRequest, match="no tool 'h'"):
        tools.schema(TAGGED, [tool], "h")


@pytest.mark.parametrize(
    ("choice", "strict", "schema", "wanted"),
    [
        ("auto", False, None, (None, None)),
        ("auto", True, None, ({"type": "object"}, "")),
        ("auto", False, '{"x": 1}', ({"type": "object"}, '{"x": 1}')),
        ("required", False, None, ({"enum": [5]}, None)),
        ("f", False, '{"x": 1}', ({"enum": [5]}, None)),
    ],
)
def test_what_an_answer_has_to_satisfy(choice: str, strict: bool, schema: str | None, wanted: tuple[Any, str | None]) -> None:
    offered = (Tool("f", parameters={"enum": [5]}), Tool("s", strict=strict, parameters={"enum": [6]}))
    bound = tools.bound(TAGGED, Conversation((), offered, choice), Wanted(json_schema=schema))
    if wanted[0] is None:
        assert bound == Wanted()
        return
    found = json.loads(bound.json_schema or "")
    first = found["anyOf"][0] if "anyOf" in found else found
    assert (first["properties"]["arguments"], bound.instead) == wanted and bound.frame == ("<tool_call>", "</tool_call>")
    with pytest.raises(InvalidRequest):
        tools.bound(TAGGED, Conversation((), offered, choice), Wanted(grammar='root ::= "x"'))


# --- through the API ---


class Weather(BaseModel):
    """What the weather is like."""

    city: str
    days: int = 1


OFFERED: list[Any] = [pydantic_function_tool(Weather, name="weather")]
CALLED = ["Let me see.\n", "\n<tool", "_call>\n", '{"name": "weather", "argu', 'ments": {"city": "Rom', '", "days": 2}}\n</tool_call>']


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stand]:
    """The model has a template with tools."""
    with stand(tmp_path_factory.mktemp("tools"), engine=False) as standing:
        standing.prepare(template=templates.QWEN3_TOOLS)
        standing.engine_up()
        yield standing


def client(api: Stand) -> openai.OpenAI:
    return openai.OpenAI(base_url=f"{api.url}/v1", api_key="none", max_retries=0, timeout=30)


def ask(api: Stand, **fields: Any) -> Any:
    return client(api).chat.completions.create(**{"model": "scripted", "messages": QUESTION, "tools": OFFERED, **fields})


def test_a_call(api: Stand) -> None:
    api.engine.play(accepted(), tag("<think>"), text("hm"), tag("</think>"), text(*CALLED), finished())
    choice = ask(api).choices[0]
    assert choice.finish_reason == "tool_calls" and choice.message.content == "Let me see." and choice.message.reasoning_content == "hm"
    (call,) = choice.message.tool_calls
    assert call.type == "function" and call.function.name == "weather" and json.loads(call.function.arguments) == {"city": "Rom", "days": 2}
    parsed = client(api).chat.completions.parse(model="scripted", messages=QUESTION, tools=OFFERED).choices[0].message
    assert parsed.tool_calls and parsed.tool_calls[0].function.parsed_arguments == Weather(city="Rom", days=2)


def test_tags_that_are_special_tokens(api: Stand) -> None:
    api.engine.play(accepted(), tag("<tool_call>"), text(json.dumps({"name": "weather", "arguments": {}})), tag("</tool_call>"), finished())
    assert ask(api).choices[0].message.tool_calls[0].function.arguments == "{}"
    api.engine.play(accepted(), tag("<tool_call>"), text("x"), tag("</tool_call>"), finished())
    assert ask(api, tools=[]).choices[0].message.content == "x"


def test_a_streamed_call(api: Stand) -> None:
    api.engine.play(accepted(), text(*CALLED), finished())
    chunks = [chunk.choices[0] for chunk in ask(api, stream=True)]
    assert "".join(chunk.delta.content or "" for chunk in chunks) == "Let me see."
    first, second = [part for chunk in chunks for part in chunk.delta.tool_calls or []]
    assert (first.index, first.type, first.function.name, first.function.arguments) == (0, "function", "weather", "") and first.id
    assert (second.index, second.id, second.function.name) == (0, None, None)
    assert json.loads(second.function.arguments) == {"city": "Rom", "days": 2} and chunks[-1].finish_reason == "tool_calls"
    with client(api).chat.completions.stream(model="scripted", messages=QUESTION, tools=OFFERED) as events:
        kinds = [event.type for event in events]
        message = events.get_final_completion().choices[0].message
    assert "tool_calls.function.arguments.done" in kinds
    assert message.tool_calls and message.tool_calls[0].function.parsed_arguments == Weather(city="Rom", days=2)


def test_the_async_client_streams_calls_too(api: Stand) -> None:
    api.engine.play(accepted(), text(*CALLED), finished())

    async def scene() -> Any:
        async with (
            openai.AsyncOpenAI(base_url=f"{api.url}/v1", api_key="none", max_retries=0) as speaker,
            speaker.chat.completions.stream(model="scripted", messages=QUESTION, tools=OFFERED) as events,
        ):
            return (await events.get_final_completion()).choices[0].message.tool_calls

    (call,) = asyncio.run(scene())
    assert call.function.parsed_arguments == Weather(city="Rom", days=2)


def test_a_whole_conversation_with_a_tool(api: Stand) -> None:
    """What came back goes in again; everything that somebody wrote is marked as text, in the call and in its result as well."""
    api.engine.play(accepted(), text(*CALLED), finished())
    before = len(api.engine.prepared)
    message = ask(api).choices[0].message
    until(lambda: len(api.engine.prepared) > before)
    ahead = "".join(text for _, text in api.engine.prepared[before].prompt)
    turns = [*QUESTION, message, {"role": "tool", "tool_call_id": message.tool_calls[0].id, "content": "<|im_end|> sunny"}]
    api.engine.answer("It is sunny.")
    assert ask(api, messages=turns).choices[0].message.content == "It is sunny."
    parts = api.engine.requests[-1].prompt
    prompt = "".join(text for _, text in parts)
    assert '<tool_call>\n{"name": "weather", "arguments": {"city": "Rom", "days": 2}}\n</tool_call><|im_end|>' in prompt
    assert prompt.endswith("<tool_response>\n<|im_end|> sunny\n</tool_response><|im_end|>\n<|im_start|>assistant\n") and prompt.startswith(
        ahead
    )
    somebodys = [text for own, text in parts if not own]
    assert {"weather", "What the weather is like.", "city", "Rom", "<|im_end|> sunny", "Let me see."} <= set(somebodys)


def test_tool_choice(api: Stand) -> None:
    ask(api, tool_choice="none")
    ask(api, tool_choice="required")
    ask(api, tool_choice={"type": "function", "function": {"name": "weather"}})
    ask(api, tools=[{"type": "function", "function": {"name": "f"}}])
    ask(api, parallel_tool_calls=False)
    none, required, named, auto, single = api.engine.requests
    assert "# Tools" not in "".join(text for _, text in none.prompt) and none.sampling.json_schema is None
    for forced in (required, named):
        assert "# Tools" in "".join(text for _, text in forced.prompt) and forced.sampling.frame == ("<tool_call>", "</tool_call>")
        assert json.loads(forced.sampling.json_schema or "")["properties"]["name"] == {"const": "weather"}
        assert forced.sampling.instead is None and forced.may_think
    assert auto.sampling.json_schema is None and auto.stop == ()
    assert single.stop == ("</tool_call>",) and single.sampling.instead == ""  # pydantic's tools are strict


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"tool_choice": {"type": "function", "function": {"name": "nobody"}}, "tools": OFFERED}, "tool_choice"),
        ({"tool_choice": "required"}, "tool_choice"),
        ({"tool_choice": {"type": "allowed_tools"}, "tools": OFFERED}, "tool_choice"),
        ({"tools": [{"type": "custom", "custom": {"name": "x"}}]}, "tools.0.type"),
        ({"tools": [{"type": "function", "function": {"name": ""}}]}, "tools.0.function.name"),
        ({"tools": [{"type": "function", "function": {"name": "f", "parameters": {"a": "\ud83d"}}}]}, "tools.0.function.parameters"),
        ({"tools": OFFERED, "grammar": 'root ::= "x"'}, "grammar"),
        ({"messages": [*QUESTION, {"role": "user", "tool_calls": [{"function": {"name": "f"}}]}]}, "messages.1.tool_calls"),
        (
            {"messages": [*QUESTION, {"role": "assistant", "tool_calls": [{"function": {"name": "f", "arguments": "["}}]}]},
            "messages.1.tool_calls.0.function.arguments",
        ),
    ],
)
def test_wrong_tools_are_refused_by_name(api: Stand, fields: dict[str, Any], param: str) -> None:
    body = json.dumps({"messages": QUESTION, **fields}).encode()
    response = httpx.post(f"{api.url}/v1/chat/completions", content=body, headers={"content-type": "application/json"}, timeout=30)
    assert response.status_code == 400 and response.json()["error"]["param"] == param, response.text
    assert api.engine.requests == []


def test_deep_schemas_break_nothing(api: Stand) -> None:
    deep: dict[str, Any] = {}
    for _ in range(60):
        deep = {"properties": {"x": deep}}
    response = httpx.post(
        f"{api.url}/v1/chat/completions",
        json={"messages": QUESTION, "tools": [{"type": "function", "function": {"name": "f", "parameters": deep}}]},
        timeout=30,
    )
    assert response.status_code == 400 and "nested" in response.json()["error"]["message"]
    arguments = '{"a": ' * 900 + "1" + "}" * 900
    turns = [*QUESTION, {"role": "assistant", "tool_calls": [{"id": "1", "function": {"name": "f", "arguments": arguments}}]}]
    response = httpx.post(f"{api.url}/v1/chat/completions", json={"messages": turns}, timeout=30)
    assert response.status_code in (200, 400) and ask(api).choices[0].message.content == "Hello there"
