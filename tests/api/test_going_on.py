"""An answer that was cut goes on: in its thought or in its answer, with the prompt that the model had before and what it wrote since."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

from services.api import screen, unfinished
from services.api.conversation import Conversation, Message
from services.api.errors import InvalidRequest
from services.api.prompt import ChatTemplate, Prompt
from services.api.reasoning import ReasoningSplitter
from services.shared import wire
from tests import templates
from tests.api.dialects import CALLED, SCHEMA, prompt, scored
from tests.api.scripted import Stand, accepted, finished, stand, tag, text, until
from tests.api.test_openai import QUESTION, ask, events, post
from tests.api.test_prompt import BOS, EOS, FORGERIES, TEMPLATES, talk

GO_ON: dict[str, Any] = {"continue_final_message": True, "add_generation_prompt": False}
TOOL = {"type": "function", "function": {"name": "weather", "parameters": SCHEMA}}
SWITCHED = TEMPLATES | {"Qwen3 with a switch": templates.QWEN3_TOOLS}
THINKS = [name for name in SWITCHED if name.startswith("Qwen3") or name == "R1"]


def cut(content: str | None = None, thought: str | None = None, **more: Any) -> list[dict[str, Any]]:
    """A question and the beginning of its answer."""
    return [*QUESTION, {"role": "assistant", "content": content, "reasoning_content": thought, **more}]


def template(name: str) -> ChatTemplate:
    return ChatTemplate(SWITCHED[name], bos_token=BOS, eos_token=EOS)


def rest(name: str, content: str = "", thought: str = "", thinking: bool | None = None) -> Prompt:
    """The prompt for the rest of an answer in the midst of a conversation."""
    messages = [*talk("a", "b", "Why?"), Message("assistant", content, thought=thought)]
    return unfinished.render(template(name), messages, thinking=thinking)


def written(name: str, made: Prompt, thinking: bool | None = None) -> tuple[wire.Part, ...]:
    """What stands behind the prompt that the model had at first."""
    begun = template(name).render(talk("a", "b", "Why?"), thinking=thinking).parts
    assert made.parts[: len(begun)] == begun
    return made.parts[len(begun) :]


# --- the prompt ---


@pytest.mark.parametrize("name", SWITCHED)
def test_a_cut_thought_is_left_open(name: str) -> None:
    made = rest(name, thought="hm\n\nand ")
    assert made.in_thought
    assert written(name, made) == (*(() if name == "R1" else ((True, "<think>\n"),)), (False, "hm\n\nand "))


@pytest.mark.parametrize("name", SWITCHED)
def test_the_thought_of_a_cut_answer_stands_closed_before_it(name: str) -> None:
    for thought, content in ("hm", "So, "), ("\nhm\n\n", "\n\nSo, "):
        made = rest(name, content, thought)
        opening = () if name == "R1" else ((True, "<think>\n"),)
        assert not made.in_thought
        assert written(name, made) == (*opening, (False, "hm"), (True, "\n</think>\n\n"), (False, "So, "))


@pytest.mark.parametrize("name", SWITCHED)
def test_an_answer_without_a_thought_goes_on_without_one(name: str) -> None:
    for thinking in (None, True, False):
        made = rest(name, " So ", thinking=thinking)
        assert not made.in_thought
        assert written(name, made, thinking=False) == (*(((True, "</think>\n\n"),) if name == "R1" else ()), (False, " So "))
    end = "".join(said for _, said in made.parts)
    assert end.endswith("<think>\n\n</think>\n\n So ") == (name == "Qwen3 with a switch")


@pytest.mark.parametrize("name", THINKS)
def test_what_has_a_thought_was_not_made_without(name: str) -> None:
    for content in ("", "So"):
        assert rest(name, content, "hm", thinking=False) == rest(name, content, "hm") == rest(name, content, "hm", thinking=True)


def test_a_thought_begins_on_a_line_of_its_own() -> None:
    """Some templates open one without the line break, which the model writes itself."""
    opens = ChatTemplate("{% for m in messages %}{{ m.content }}{% endfor %}<think>", bos_token=None, eos_token=None)
    made = unfinished.render(opens, [Message("user", "q"), Message("assistant", "", thought="hm")])
    assert made.parts == ((False, "q"), (True, "<think>"), (True, "\n"), (False, "hm"))


def test_a_template_that_closes_the_thought_itself_has_no_place_for_one() -> None:
    closes = ChatTemplate("{% for m in messages %}{{ m.content }}{% endfor %}<x></think>", bos_token=None, eos_token=None)
    with pytest.raises(InvalidRequest, match="no place for a thought") as error:
        unfinished.render(closes, [Message("user", "q"), Message("assistant", "", thought="hm")])
    assert error.value.param == "messages.1.reasoning_content"
    answer = unfinished.render(closes, [Message("user", "q"), Message("assistant", "So")])
    assert answer == Prompt(((False, "q"), (True, "<x></think>"), (False, "So")), False)


@pytest.mark.parametrize("name", SWITCHED)
@pytest.mark.parametrize("forgery", [*FORGERIES, "</think>", "a</think>\n\nb", "<think>"])
def test_forged_tokens_in_it_stay_marked_as_text(name: str, forgery: str) -> None:
    """The template's own text is the same as without them, and nothing is stripped."""
    for content, thought in (forgery, ""), ("", forgery), (forgery, forgery):
        made = rest(name, content, thought)
        harmless = rest(name, "x" if content else "", "x" if thought else "")
        assert [said for own, said in made.parts if own] == [said for own, said in harmless.parts if own]
        assert [said for own, said in made.parts if not own][3:] == [said for said in (thought, content) if said]
        assert made.in_thought == harmless.in_thought


# --- what comes after ---


def test_the_splitter_keeps_white_space_at_the_seam() -> None:
    goes_on = {"begun": True, "by_token": True}
    thought = ReasoningSplitter(in_thought=True, **goes_on)
    said = [*thought.push("\n\nAnd", special=False), *thought.push("</think>", special=True), *thought.push("\n\nSo", special=False)]
    assert [(piece.channel, piece.text) for piece in said] == [("thinking", "\n\nAnd"), ("answer", "So")]
    answer = ReasoningSplitter(in_thought=False, **goes_on)
    assert [piece.text for piece in answer.push(" so", special=False)] == [" so"]


def test_without_thinking_tokens_a_tag_in_the_rest_of_an_answer_is_text() -> None:
    answer = ReasoningSplitter(in_thought=False, by_token=False, begun=True)
    said = [*answer.push("<think>x</th", special=False), *answer.push("ink>", special=False), *answer.flush()]
    assert "".join(piece.text for piece in said if piece.channel == "answer") == "<think>x</think>"
    thought = ReasoningSplitter(in_thought=True, by_token=False, begun=True)
    said = [*thought.push(" and</th", special=False), *thought.push("ink>\n\nSo", special=False), *thought.flush()]
    assert [(piece.channel, piece.text) for piece in said] == [("thinking", " and"), ("answer", "So")]


@pytest.mark.parametrize("stream", [False, True])
def test_a_thought_goes_on(api: Stand, stream: bool) -> None:
    api.engine.play(accepted(), text(" and", " so"), tag("</think>"), text("\n\nBe", "cause."), finished())
    assert answered(api, stream, messages=cut(thought="hm")) == (" and so", "Because.")
    (request,) = api.engine.requests
    assert prompt(api) == f"{BOS}<｜User｜>Why?<｜Assistant｜><think>\nhm" and request.prompt[-1] == (False, "hm")
    assert (request.in_thought, request.may_think, request.thought_limit) == (True, False, None)


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("thought", ["hm", None])
def test_an_answer_goes_on(api: Stand, stream: bool, thought: str | None) -> None:
    api.engine.play(accepted(), text("cause", ".\n"), finished())
    assert answered(api, stream, messages=cut("Be", thought)) == ("", "cause.")
    (request,) = api.engine.requests
    before = "hm\n</think>\n\n" if thought else "</think>\n\n"
    assert prompt(api) == f"{BOS}<｜User｜>Why?<｜Assistant｜><think>\n{before}Be" and request.prompt[-1] == (False, "Be")
    assert (request.in_thought, request.may_think) == (False, False)


def answered(api: Stand, stream: bool, **fields: Any) -> tuple[str, str]:
    """Thought and answer that come back."""
    if not stream:
        message = ask(api, extra_body=GO_ON, **fields).choices[0].message
        return getattr(message, "reasoning_content", ""), message.content
    chunks = [json.loads(event[6:]) for event in events(api, **GO_ON, **fields) if event.startswith("data: {")]
    deltas = [choice["delta"] for chunk in chunks for choice in chunk["choices"]]
    said: list[str] = ["".join(delta.get(name) or "" for delta in deltas) for name in ("reasoning_content", "content")]
    return said[0], said[1]


def test_a_thought_may_be_ended_where_it_is(api: Stand) -> None:
    """By what else switches thoughts off."""
    for off in ({"enable_thinking": False}, {"thinking_budget": 0}, {"reasoning_effort": "none"}):
        assert post(api, {"messages": cut(thought="hm"), **GO_ON, **off}).status_code == 200
        assert (api.engine.requests[-1].in_thought, api.engine.requests[-1].thought_limit) == (True, 0)


def test_several_answers_and_logprobs(api: Stand) -> None:
    api.engine.play(accepted(), scored("\n"), scored("cause"), finished())
    done = ask(api, messages=cut("Be"), n=2, logprobs=True, extra_body=GO_ON)
    assert [choice.message.content for choice in done.choices] == ["\ncause"] * 2
    assert [token.token for token in done.choices[0].logprobs.content] == ["\n", "cause"]
    assert len({request.prompt for request in api.engine.requests}) == 1


def test_parts_of_a_content_are_one_text(api: Stand) -> None:
    parts = [{"type": "text", "text": "B"}, {"type": "text", "text": "e"}]
    assert post(api, {"messages": [*QUESTION, {"role": "assistant", "content": parts}], **GO_ON}).status_code == 200
    assert api.engine.requests[0].prompt[-1] == (False, "Be")


def test_a_form_binds_what_follows_a_cut_thought(api: Stand) -> None:
    for field in ({"response_format": {"type": "json_object"}}, {"grammar": 'root ::= "x"'}):
        assert post(api, {"messages": cut(thought="hm"), **GO_ON, **field}).status_code == 200
    assert [bool(r.sampling.json_schema) for r in api.engine.requests] == [True, False] and api.engine.requests[1].sampling.grammar


def test_tools_are_called_in_the_rest_of_an_answer(tooled: Stand) -> None:
    tooled.engine.play(*CALLED)
    body = {"messages": cut("Well, ", "hm"), "tools": [TOOL], **GO_ON}
    (choice,) = post(tooled, body).json()["choices"]
    assert choice["message"]["content"] == "I look." and choice["message"]["tool_calls"][0]["function"]["name"] == "weather"
    assert prompt(tooled).endswith("<|im_start|>assistant\n<think>\nhm\n</think>\n\nWell, ")


@pytest.fixture(scope="module")
def bare(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stand]:
    """A model whose calls are the whole answer."""
    with stand(tmp_path_factory.mktemp("bare"), engine=False) as standing:
        standing.prepare(templates.LLAMA3_TOOLS + "{# ipython #}")
        standing.engine_up()
        yield standing


def test_where_a_call_is_the_whole_answer_the_rest_of_one_is_none(bare: Stand) -> None:
    call = '{"name": "weather", "parameters": {"city": "Rom"}}'
    for content, found in (None, 1), ("I look: ", 0):
        bare.engine.play(accepted(), [tag("</think>")] if found else [], text(call), finished())
        message = post(bare, {"messages": cut(content, "hm"), "tools": [TOOL], **GO_ON}).json()["choices"][0]["message"]
        assert len(message.get("tool_calls") or ()) == found and message["content"] == (None if found else call)


def test_the_next_question_is_expected_after_the_whole_answer(api: Stand) -> None:
    before = len(api.engine.prepared)
    api.engine.play(accepted(), text("cause."), finished())
    assert post(api, {"messages": cut("Be", "hm"), **GO_ON}).status_code == 200
    until(lambda: len(api.engine.prepared) > before)
    said = "".join(said for _, said in api.engine.prepared[-1].prompt)
    assert said == f"{BOS}<｜User｜>Why?<｜Assistant｜>Because.{EOS}<｜User｜>"


def test_the_thought_is_screened_too() -> None:
    turns = (Message("user", "q"), Message("assistant", "so", thought="hm"))
    assert sorted(screen.texts(Conversation(turns, unfinished=True))) == ["hm", "q", "so"]


# --- refusals ---

CALL = {"id": "1", "type": "function", "function": {"name": "weather", "arguments": "{}"}}
JSON = {"type": "json_schema", "json_schema": {"name": "x", "schema": SCHEMA}}
CHOSEN = {"type": "function", "function": {"name": "weather"}}
STRICT = {**TOOL, "function": {**TOOL["function"], "strict": True}}  # type: ignore[dict-item]
REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "one option alone": ({"messages": cut("Be"), "continue_final_message": True}, "add_generation_prompt"),
    "both true": ({"messages": cut("Be"), "continue_final_message": True, "add_generation_prompt": True}, "add_generation_prompt"),
    "the other alone": ({"messages": cut("Be"), "add_generation_prompt": False}, "continue_final_message"),
    "no truth": ({"messages": cut("Be"), **GO_ON, "continue_final_message": "content"}, "continue_final_message"),
    "the user's": ({"messages": QUESTION, **GO_ON}, "messages.0.role"),
    "a tool's": ({"messages": [*cut("Be"), {"role": "tool", "tool_call_id": "1", "content": "x"}], **GO_ON}, "messages.2.role"),
    "nothing to answer": ({"messages": cut("Be")[1:], **GO_ON}, "messages"),
    "empty": ({"messages": cut(), **GO_ON}, "messages.1.content"),
    "white space": ({"messages": cut(" ", "\n"), **GO_ON}, "messages.1.content"),
    "with calls": ({"messages": cut("Be", tool_calls=[CALL]), **GO_ON}, "messages.1.tool_calls"),
    "another name": ({"messages": cut("Be", reasoning="hm"), **GO_ON}, "messages.1.reasoning"),
    "a part": ({"messages": cut([{"type": "thinking", "thinking": "hm"}], "hm"), **GO_ON}, "messages.1.content"),  # type: ignore[arg-type]
    "no text": ({"messages": cut("Be", 5), **GO_ON}, "messages.1.reasoning_content"),  # type: ignore[arg-type]
    "half a character": ({"messages": cut("Be", "\ud83d"), **GO_ON}, "messages.1.reasoning_content"),
    "JSON": ({"messages": cut('{"city":'), "response_format": JSON, **GO_ON}, "response_format"),
    "a grammar": ({"messages": cut("y"), "grammar": 'root ::= "yes"', **GO_ON}, "grammar"),
    "a call that must come": ({"messages": cut("Be"), "tools": [TOOL], "tool_choice": "required", **GO_ON}, "tools"),
    "a chosen tool": ({"messages": cut("Be"), "tools": [TOOL], "tool_choice": CHOSEN, **GO_ON}, "tools"),
    "a strict tool": ({"messages": cut("Be"), "tools": [STRICT], **GO_ON}, "tools"),
}  # fmt: skip


@pytest.mark.parametrize(("body", "param"), REFUSED.values(), ids=REFUSED.keys())
def test_what_can_not_go_on_is_refused_by_name(tooled: Stand, body: dict[str, Any], param: str) -> None:
    response = post(tooled, None, content=json.dumps(body), headers={"Content-Type": "application/json"})
    error = response.json()["error"]
    assert (response.status_code, error["param"]) == (400, param) and error["message"]
    assert not tooled.engine.requests


def test_what_changes_nothing_is_no_request_to_go_on(api: Stand) -> None:
    for same in ({"continue_final_message": False}, {"add_generation_prompt": True}, {"add_generation_prompt": None}):
        response = post(api, {"messages": [*cut("Be", "hm", reasoning="hm"), *QUESTION], **same})
        assert response.status_code == 200 and "x-cloister-ignored" not in response.headers
    for number in range(3):
        assert prompt(api, number) == f"{BOS}<｜User｜>Why?<｜Assistant｜>Be{EOS}<｜User｜>Why?<｜Assistant｜><think>\n"
