"""Control tokens in answers, on the demo model: a request can't have them printed, and when the model makes one it is no text."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from services.api.reasoning import ReasoningSplitter
from services.engine.engine import Engine
from services.engine.native import NativeModel
from services.engine.request import problem
from services.shared import wire

GREEDY = wire.Sampling(temperature=0)
PROMPT = ((True, "<｜begin▁of▁sentence｜><｜User｜>"), (False, "What is 17 × 6?"), (True, "<｜Assistant｜><think>\n\n</think>\n\n"))
THINKING = (*PROMPT[:2], (True, "<｜Assistant｜><think>\n"))


class Bench:
    """An engine over the one loaded model, and what the API makes of an answer: text of two channels."""

    def __init__(self, model: NativeModel) -> None:
        for slot in range(model.slots):
            model.remove(slot, 0, -1)
        self.special: list[str] = []
        self.end: wire.Finished | wire.Failed | None = None
        self.channels = {"thinking": "", "answer": ""}
        self._engine = Engine(
            model, context=512, cells=model.cells, sequences=2, slots=model.slots, step=model.step, queue=9, emit=self._take
        )  # fmt: skip

    def _take(self, key: object, message: wire.Message) -> None:
        if isinstance(message, wire.Delta):
            self.special += [message.text] if message.special else []
            for piece in self._splitter.push(message.text, special=message.special):
                self.channels[piece.channel] += piece.text
        elif isinstance(message, wire.Finished | wire.Failed):
            for piece in self._splitter.flush():
                self.channels[piece.channel] += piece.text
            self.end = message

    def ask(self, sampling: wire.Sampling, *, forced: tuple[int, ...] = (), thinks: bool = False, **fields: object) -> str:
        """The reason why the answer ended. `forced`: tokens that the model is made to begin with."""
        self.channels, self.special = {"thinking": "", "answer": ""}, []
        self._splitter = ReasoningSplitter(in_thought=thinks, by_token=True)
        prompt = THINKING if thinks else PROMPT
        request = wire.Generate("a", prompt, sampling, in_thought=thinks, **fields)  # type: ignore[arg-type]
        assert problem(request) is None
        self._engine.submit("a", request, self._engine.encode(prompt))
        if forced:
            self._engine._sequences["a"].forced.extend(forced)
        while self._engine.step():
            pass
        assert self.end is not None
        return self.end.reason if isinstance(self.end, wire.Finished) else self.end.code


@pytest.fixture(scope="module")
def model(demo_volume: Path) -> NativeModel:
    return NativeModel(demo_volume / "current/model.gguf", context=512, cells=1024, slots=8, step=128, threads=1)


@pytest.fixture
def bench(model: NativeModel) -> Bench:
    return Bench(model)


def test_no_control_token_can_be_biased(model: NativeModel, bench: Bench) -> None:
    """Neither up nor down, the end of the answer included: each is refused by its number."""
    for text, token in model.vocabulary.control.items():
        for value in (100.0, 0.5, -100.0):
            reason = model.refusal(replace(GREEDY, logit_bias=((5, 1.0), (token, value))))
            assert reason == f"logit_bias can't be set for control token {token}", text
    token = model.vocabulary.control["<｜User｜>"]
    assert bench.ask(replace(GREEDY, logit_bias=((token, 100.0),)), max_tokens=5) == "invalid"


def test_control_tokens_that_the_model_makes_are_no_text(model: NativeModel, bench: Bench) -> None:
    """Every one of them, with stop strings that spell it: none of these ends the answer, which goes on without the token."""
    for text, token in model.vocabulary.control.items():
        stop = (text, text[1:-1], f"{text}\n")
        bench.ask(GREEDY, forced=(token,), max_tokens=8, stop=stop, ignore_eos=token in model.ends)
        assert isinstance(bench.end, wire.Finished) and bench.end.stop == "" and bench.end.generated_tokens > 1, text
        assert bench.special[0] == text
        assert text not in bench.channels["answer"] + bench.channels["thinking"]


def test_a_stop_string_is_not_put_together_across_a_control_token(model: NativeModel, bench: Bench) -> None:
    """`<|im` + a control token + `_end|>` is no `<|im_end|>`."""
    halves = [model.vocabulary.plain(half) for half in ("<|im", "_end|>")]
    middle = model.vocabulary.control["<｜User｜>"]
    assert bench.ask(GREEDY, forced=(*halves[0], middle, *halves[1]), max_tokens=20, stop=("<|im_end|>",)) == "length"
    assert bench.channels["answer"].startswith("<|im_end|>")
    assert bench.ask(GREEDY, forced=(*halves[0], *halves[1]), max_tokens=20, stop=("<|im_end|>",)) == "stop"
    assert bench.channels["answer"] == ""


def test_the_end_of_the_answer_is_no_text_when_it_is_ignored(model: NativeModel, bench: Bench) -> None:
    assert bench.ask(GREEDY, ignore_eos=True, max_tokens=120, stop=("<｜end▁of▁sentence｜>", "<|im_end|>")) == "length"
    assert "<｜end▁of▁sentence｜>" in bench.special
    assert "17 × 6" in bench.channels["answer"] and "<｜" not in bench.channels["answer"]


@pytest.mark.parametrize("thinks", [True, False])
@pytest.mark.parametrize("tag", ["<think>", "</think>"])
def test_thinking_tags_that_are_forced_only_change_the_channel(model: NativeModel, bench: Bench, tag: str, thinks: bool) -> None:
    """A bias may have them: they are the model's own to make. They are no text, and nothing but a stop string ends there."""
    token = model.vocabulary.added[tag]
    assert bench.ask(replace(GREEDY, logit_bias=((token, 100.0),)), thinks=thinks, max_tokens=30, stop=(tag, "think")) == "length"
    assert set(bench.special) == {tag} and len(bench.special) == 30
    assert bench.channels == {"thinking": "", "answer": ""}
    assert isinstance(bench.end, wire.Finished)
    thought = {("<think>", True): 30, ("<think>", False): 29, ("</think>", True): 1, ("</think>", False): 0}[tag, thinks]
    assert bench.end.thought_tokens == thought


def test_a_tag_that_is_spelled_out_opens_no_thought(model: NativeModel, bench: Bench) -> None:
    spelled = [token for part in ("<th", "ink>", "hidden", "</", "think>") for token in model.vocabulary.plain(part)]
    assert bench.ask(GREEDY, forced=tuple(spelled), max_tokens=30) in ("length", "stop")
    assert bench.channels["answer"].startswith("<think>hidden</think>") and not bench.channels["thinking"]


def test_an_end_of_thought_that_is_spelled_out_ends_none(model: NativeModel, bench: Bench) -> None:
    spelled = [token for part in ("</", "think>", "still") for token in model.vocabulary.plain(part)]
    assert bench.ask(GREEDY, forced=tuple(spelled), thinks=True, max_tokens=len(spelled)) == "length"
    assert bench.channels == {"thinking": "</think>still", "answer": ""}
