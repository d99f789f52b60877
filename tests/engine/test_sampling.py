"""Sampling through the real library on the demo model: bias, penalties, logprobs, seeds and grammars, per request in one batch."""

from __future__ import annotations

import ctypes
import json
import math
import random
import subprocess
import sys
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import llama_cpp
import numpy as np
import pytest

from services.engine.engine import Engine
from services.engine.native import NativeModel
from services.engine.request import problem
from services.engine.sampling import logprobs
from services.engine.scheduler import Chunk
from services.engine.sequence import Sampler, SamplingError, Sequence
from services.engine.text import TextStream
from services.shared import wire
from tests.conftest import ROOT
from tests.engine.scripted import ScriptedModel, ScriptedSampler

GREEDY = wire.Sampling(temperature=0)
WARM = wire.Sampling(temperature=1.5, top_p=1.0)
BEGIN, USER = "<｜begin▁of▁sentence｜>", "<｜User｜>"
THINKING, THOUGHT = "<｜Assistant｜><think>\n", "<｜Assistant｜><think>\n\n</think>\n\n"
CHICKENS = "鸡兔同笼,共有 35 个头,94 条腿,请问鸡和兔各有多少只?"
SUM = "What is 17 × 6?"


@dataclass
class Said:
    text: str = ""
    answer: str = ""
    logprobs: list[wire.TokenLogprob] = field(default_factory=list)
    end: wire.Finished | wire.Failed | None = None


class Bench:
    """An engine over the one loaded model, with an empty cache; what it says to each request."""

    def __init__(self, model: NativeModel) -> None:
        for slot in range(model.slots):
            model.remove(slot, 0, -1)
        self.said: dict[str, Said] = {}
        self._engine = Engine(
            model, context=model.context, cells=model.cells, sequences=8, slots=model.slots, step=model.step, queue=100, emit=self._take
        )  # fmt: skip

    def _take(self, key: object, message: wire.Message) -> None:
        said = self.said.setdefault(message.id, Said())
        if isinstance(message, wire.Delta):
            said.text += message.text
            said.answer = "" if message.special else said.answer + message.text
            said.logprobs += message.logprobs
        elif isinstance(message, wire.Finished | wire.Failed):
            assert said.end is None
            said.end = message

    def submit(self, name: str, question: str, sampling: wire.Sampling, *, thinks: bool = False, **fields: Any) -> None:
        prompt = ((True, BEGIN + USER), (False, question), (True, THINKING if thinks else THOUGHT))
        request = wire.Generate(name, prompt, sampling, in_thought=thinks, **fields)
        assert problem(request) is None
        self._engine.submit(name, request, self._engine.encode(prompt))

    def run(self) -> None:
        while self._engine.step():
            pass

    def ask(self, question: str, sampling: wire.Sampling, *, thinks: bool = False, **fields: Any) -> Said:
        """One request alone."""
        name = f"ask {len(self.said)}"
        self.submit(name, question, sampling, thinks=thinks, **fields)
        self.run()
        return self.said[name]


@pytest.fixture(scope="module")
def model(demo_volume: Path) -> NativeModel:
    return NativeModel(demo_volume / "current/model.gguf", context=2048, cells=4096, slots=20, step=256, threads=1)


@dataclass
class Row:
    """A computed row of logits; `sample` puts others into it first."""

    model: NativeModel
    number: int
    logits: np.ndarray

    def sample(self, sampler: Sampler, logits: np.ndarray) -> int:
        self.logits[:] = logits
        return sampler.sample(self.number)


@pytest.fixture
def row(model: NativeModel) -> Row:
    sampler = ScriptedSampler(ScriptedModel(lambda _: 0, cells=1, slots=2, step=1))
    tokens = model.vocabulary.plain(SUM)
    sequence = Sequence("row", tokens, len(tokens) + 1, sampler, TextStream(), slot=0)
    model.remove(0, 0, -1)
    ((number,),) = model.decode([Chunk(sequence, len(sequence.tokens))])
    address = llama_cpp.llama_get_logits_ith(model._context, number)
    return Row(model, number, np.ctypeslib.as_array(address, shape=(model.vocabulary.size,)))


def spread(seed: int, size: int) -> np.ndarray:
    return np.random.default_rng(seed).normal(0, 4, size).astype(np.float32)


# --- bias ---


def test_a_bias_forces_and_forbids(model: NativeModel) -> None:
    bench = Bench(model)
    plain = bench.ask(SUM, GREEDY, max_tokens=8).text
    forced, forbidden = model.vocabulary.plain("鸡")[0], model.vocabulary.plain(plain)[0]
    for sampling in (GREEDY, wire.Sampling(seed=1)):
        said = bench.ask(SUM, replace(sampling, logit_bias=((forced, 100),)), max_tokens=8, ignore_eos=True)
        assert said.text == "鸡" * 8
    for sampling in (GREEDY, wire.Sampling(temperature=100, top_k=0, top_p=1.0, seed=1)):
        said = bench.ask(SUM, replace(sampling, logit_bias=((forbidden, -100),)), max_tokens=40, ignore_eos=True)
        assert said.text and model.piece(forbidden).decode() not in said.text


def test_a_small_bias_is_added_to_the_logit(model: NativeModel, row: Row) -> None:
    logits = spread(1, model.vocabulary.size)
    first, second = np.argsort(logits)[::-1][:2]
    gap = float(logits[first] - logits[second])
    for bias, expected in ((gap * 0.9, first), (gap * 1.1, second)):
        assert row.sample(model.sampler(replace(GREEDY, logit_bias=((int(second), bias),))), logits) == expected


# --- penalties ---


@pytest.mark.parametrize("penalties", [(1.3, 0.0, 0.0), (1.0, 0.7, 0.0), (1.0, 0.0, 0.4), (0.5, -0.5, 1.5)])
def test_penalties_are_those_of_llama_cpp(model: NativeModel, row: Row, penalties: tuple[float, float, float]) -> None:
    repeat, presence, frequency = penalties
    size, source = model.vocabulary.size, random.Random(1)
    theirs = llama_cpp.llama_sampler_init_penalties(size, 4096, repeat, frequency, presence)
    ours = model.sampler(replace(GREEDY, repeat_penalty=repeat, presence_penalty=presence, frequency_penalty=frequency))
    logits = spread(2, size)
    for _ in range(60):
        token = source.choice([3, 5, 8, 13, 21, 34])
        ours.accept(token)
        llama_cpp.llama_sampler_accept(theirs, token)
    candidates = (llama_cpp.llama_token_data * size)(*[(token, logit, 0.0) for token, logit in enumerate(logits.tolist())])
    array = llama_cpp.llama_token_data_array(data=candidates, size=size, selected=-1, sorted=False)
    llama_cpp.llama_sampler_apply(theirs, ctypes.byref(array))
    expected = np.array([candidate.logit for candidate in candidates], np.float32)
    row.sample(ours, logits)
    assert np.allclose(row.logits, expected, atol=1e-5) and not np.allclose(row.logits, logits)
    llama_cpp.llama_sampler_free(theirs)


def test_sampled_tokens_count_for_penalties(model: NativeModel, row: Row) -> None:
    logits = spread(3, model.vocabulary.size)
    best = np.argsort(logits)[::-1][:5].tolist()
    sampler = model.sampler(replace(GREEDY, presence_penalty=100.0))
    assert [row.sample(sampler, logits) for _ in range(5)] == best


def test_a_token_that_the_grammar_refused_is_not_penalized(model: NativeModel, row: Row) -> None:
    letters = [model.vocabulary.plain(letter)[0] for letter in "ab"]
    logits = spread(4, model.vocabulary.size)
    (refused,) = model.vocabulary.plain("7")
    logits[[*letters, refused]] = (30, 29, 50)
    sampler = model.sampler(replace(GREEDY, presence_penalty=3.0, grammar="root ::= [ab]{2} .*"))
    assert [row.sample(sampler, logits) for _ in range(2)] == letters
    sampler.constrained = False
    assert row.sample(sampler, logits) == refused


# --- logprobs ---


@pytest.mark.parametrize("size", [1, 5, 63, 64, 65, 1000, 151_936])
def test_logprobs_are_a_sorted_log_softmax(size: int) -> None:
    logits = spread(5, size)
    logits[: size // 2] = logits[size - size // 2 :]  # many equal ones
    wide = logits.astype(np.float64)
    expected = wide - wide.max() - math.log(np.exp(wide - wide.max()).sum())
    order = sorted(range(size), key=lambda token: (-logits[token], token))[:20]
    for top in (0, 1, 5, 20):
        result = logprobs(logits, size // 3, top)
        assert result.chosen == pytest.approx(expected[size // 3], abs=1e-4)
        assert [token for token, _ in result.top] == order[:top]
        assert [value for _, value in result.top] == pytest.approx([expected[token] for token in order[:top]], abs=1e-4)


@pytest.mark.parametrize("sampling", [GREEDY, wire.Sampling(seed=7, temperature=1.2)])
def test_logprobs_are_those_of_the_raw_logits(model: NativeModel, row: Row, sampling: wire.Sampling) -> None:
    """Before temperature, bias, penalties and grammar."""
    logits, size = spread(6, model.vocabulary.size), model.vocabulary.size
    digits = [model.vocabulary.plain(str(digit))[0] for digit in range(10)]
    odd = replace(sampling, logit_bias=((digits[3], 60.0),), repeat_penalty=1.5, grammar="root ::= [0-9]+", logprobs=5)
    expected = logprobs(logits, digits[3], 5)
    sampler = model.sampler(odd)
    sampler.accept(digits[3])
    assert sampler.logprobs is None
    assert row.sample(sampler, logits) == digits[3]
    assert sampler.logprobs == expected
    probabilities = np.exp([logprobs(logits, token, 0).chosen for token in range(0, size, 1000)])
    assert (probabilities >= 0).all() and probabilities.sum() < 1


def test_each_token_of_an_answer_comes_with_its_logprobs(model: NativeModel) -> None:
    bench = Bench(model)
    without = bench.ask(CHICKENS, GREEDY, thinks=True, max_tokens=40)
    said = bench.ask(CHICKENS, replace(GREEDY, logprobs=3), thinks=True, max_tokens=40)
    assert (said.text, without.logprobs) == (without.text, [])
    assert len(said.logprobs) == 40
    assert b"".join(piece for piece, _, _ in said.logprobs).decode("utf-8", "replace") == said.text
    for piece, chosen, top in said.logprobs:
        assert top[0] == (piece, chosen), "greedy takes the best"
        assert 0 >= top[0][1] >= top[1][1] >= top[2][1]
        assert len(top) == 3 and sum(math.exp(value) for _, value in top) <= 1 + 1e-6
    only = bench.ask(CHICKENS, replace(GREEDY, logprobs=0), thinks=True, max_tokens=5).logprobs
    assert only == [(piece, pytest.approx(chosen), ()) for piece, chosen, _ in said.logprobs[:5]]


# --- seeds ---


def test_a_seed_draws_the_same_whoever_else_draws(model: NativeModel, row: Row) -> None:
    """From the same logits. Whether a batch computes the same logits as another one is the kernels' affair; see test_native."""
    variants = [
        *(replace(WARM, seed=seed) for seed in (1, 2, -1)),
        replace(WARM, seed=3, top_k=0, json_schema='{"type": "string"}'),
        replace(WARM, seed=4, presence_penalty=1.0, logprobs=2),
        replace(WARM, seed=5, logit_bias=((100, 5.0),)),
        GREEDY,
    ]
    steps = [spread(seed, model.vocabulary.size) for seed in range(12)]

    def drawn(samplings: list[wire.Sampling]) -> list[list[int]]:
        samplers = [model.sampler(sampling) for sampling in samplings]
        tokens = [[row.sample(sampler, logits) for sampler in samplers] for logits in steps]
        for sampler in samplers:
            sampler.close()
        return [list(of_one) for of_one in zip(*tokens, strict=True)]

    together = drawn(variants)
    assert [drawn([sampling])[0] for sampling in variants] == together
    assert len(set(map(tuple, together))) == len(variants)


def test_a_seed_gives_the_same_answer_in_company(model: NativeModel) -> None:
    bench, schema = Bench(model), json.dumps(SCHEMA)
    variants = [replace(WARM, seed=1), replace(WARM, seed=2, presence_penalty=0.1), replace(WARM, seed=3, logprobs=5), GREEDY]
    alone = [bench.ask(CHICKENS, sampling, thinks=True, max_tokens=30).text for sampling in variants]
    for number, sampling in enumerate(variants):
        bench.submit(str(number), CHICKENS, sampling, thinks=True, max_tokens=30)
        bench.submit(f"beside {number}", SUM, replace(WARM, json_schema=schema), max_tokens=30)
    bench.run()
    assert [bench.said[str(number)].text for number in range(len(variants))] == alone


# --- grammars ---


SCHEMA = {
    "type": "object",
    "properties": {
        "鸡": {"type": "integer", "minimum": 0, "maximum": 99},
        "note": {"type": "string", "maxLength": 8},
        "list": {"type": "array", "items": {"type": "boolean"}, "maxItems": 3},
    },
    "required": ["鸡", "note", "list"],
    "additionalProperties": False,
}


def fits(text: str) -> bool:
    value = json.loads(text)
    return (
        list(value) == ["鸡", "note", "list"]
        and type(value["鸡"]) is int
        and 0 <= value["鸡"] <= 99
        and isinstance(value["note"], str)
        and len(value["note"]) <= 8
        and all(type(item) is bool for item in value["list"])
        and len(value["list"]) <= 3
    )


def test_answers_satisfy_their_schema(model: NativeModel) -> None:
    """Greedy, warm and hot, side by side in a batch."""
    bench, schema = Bench(model), json.dumps(SCHEMA)
    for temperature in (0, 0.8, 1.5, 5.0):
        for seed in range(6):
            sampling = wire.Sampling(temperature=temperature, seed=seed, top_k=0 if seed == 5 else 50, json_schema=schema)
            bench.submit(f"{temperature} {seed}", CHICKENS, sampling, max_tokens=300)
    bench.run()
    for said in bench.said.values():
        assert isinstance(said.end, wire.Finished) and said.end.reason == "stop", said
        assert fits(said.text), said.text
    assert len({said.text for said in bench.said.values()}) > 10


def test_any_object(model: NativeModel) -> None:
    said = Bench(model).ask(SUM, wire.Sampling(json_schema='{"type": "object", "maxProperties": 0}', seed=1))
    assert json.loads(said.text) == {}


def test_a_gbnf_grammar(model: NativeModel) -> None:
    bench = Bench(model)
    for seed in range(5):
        bench.submit(str(seed), SUM, replace(WARM, seed=seed, grammar='root ::= "yes" | "no" | "maybe " [0-9]{3}'))
    bench.run()
    texts = {said.text for said in bench.said.values()}
    assert all(text in ("yes", "no") or (text[:6] == "maybe " and len(text) == 9 and text[6:].isdigit()) for text in texts)
    assert all(isinstance(said.end, wire.Finished) and said.end.reason == "stop" for said in bench.said.values())


def test_a_grammar_leaves_the_thought_alone(model: NativeModel) -> None:
    bench = Bench(model)
    free = bench.ask(CHICKENS, GREEDY, thinks=True)
    said = bench.ask(CHICKENS, replace(GREEDY, json_schema=json.dumps(SCHEMA)), thinks=True)
    thought = free.text.partition("</think>")[0]
    assert thought and said.text.partition("</think>")[0] == thought
    assert fits(said.answer), said.text
    assert isinstance(said.end, wire.Finished) and said.end.thought_tokens > 20


def test_a_thought_may_come_before_a_grammar_counts(model: NativeModel) -> None:
    """As long as nothing else has come, and only where it was said."""
    assert model.think_start is not None
    opens = replace(GREEDY, grammar='root ::= "yes" | "no"', logit_bias=((model.think_start, 100),))
    bench = Bench(model)
    said = bench.ask(SUM, opens, may_think=True, thought_limit=3)
    assert said.text.startswith("<think>") and said.text.rpartition("</think>")[2] in ("yes", "no"), said.text
    assert isinstance(said.end, wire.Finished) and said.end.thought_tokens == 4
    assert bench.ask(SUM, opens).text in ("yes", "no")
    plain = bench.ask(SUM, replace(opens, logit_bias=()), may_think=True)
    assert plain.text in ("yes", "no")


def test_where_only_the_end_is_allowed_the_answer_ends(model: NativeModel) -> None:
    bench = Bench(model)
    for grammar in ('root ::= ""', 'root ::= "x"'):
        said = bench.ask(SUM, replace(GREEDY, grammar=grammar))
        assert isinstance(said.end, wire.Finished) and said.end.reason == "stop"
        assert said.text == ("x" if "x" in grammar else "")


def test_a_bias_against_all_that_the_grammar_allows_fails_that_request_only(model: NativeModel) -> None:
    bench = Bench(model)
    bench.submit("sane", SUM, GREEDY, max_tokens=10)
    ways = [(token, -100) for token, piece in enumerate(model.vocabulary.pieces) if piece == b"x"]
    bench.submit("stuck", SUM, replace(GREEDY, grammar='root ::= "x"', logit_bias=tuple(ways)))
    bench.run()
    stuck, sane = bench.said["stuck"].end, bench.said["sane"].end
    assert isinstance(stuck, wire.Failed) and stuck.code == "invalid" and "logit_bias forbids every token" in stuck.message
    assert isinstance(sane, wire.Finished) and sane.generated_tokens > 1


def test_a_grammar_that_becomes_too_large_fails_that_request_only(model: NativeModel) -> None:
    bench = Bench(model)
    bench.submit("sane", SUM, GREEDY, max_tokens=10)
    doubling = "root ::= a0\n" + "\n".join(f"a{i} ::= a{i + 1} a{i + 1}" for i in range(60)) + '\na60 ::= "x"'
    bench.submit("large", SUM, replace(GREEDY, grammar=doubling), max_tokens=500)
    bench.run()
    large, sane = bench.said["large"].end, bench.said["sane"].end
    assert isinstance(large, wire.Failed) and large.code == "invalid" and "can't be followed" in large.message
    assert isinstance(sane, wire.Finished)


def test_a_token_put_into_the_answer(model: NativeModel, row: Row) -> None:
    """Such as the end of a thought that took too long; while the grammar counts it must allow it."""
    a, b, c = (model.vocabulary.plain(letter)[0] for letter in "abc")
    logits = spread(8, model.vocabulary.size)
    sampler = model.sampler(replace(GREEDY, grammar='root ::= "abc"'))
    sampler.constrained = False
    sampler.accept(c)
    assert row.sample(sampler, logits) == int(logits.argmax())
    sampler.constrained = True
    sampler.accept(a)
    assert row.sample(sampler, logits) in (b, *(t for t, piece in enumerate(model.vocabulary.pieces) if piece == b"bc"))
    with pytest.raises(SamplingError, match="does not allow"):
        sampler.accept(a)


# --- refusals ---


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"logit_bias": {5: 1.0}}, "logit_bias must be pairs of a token and a number"),
        ({"logit_bias": ((1, 2, 3),)}, "logit_bias must be pairs of a token and a number"),
        ({"logit_bias": ((1.5, 1.0),)}, "logit_bias: a token is a whole number from 0 on"),
        ({"logit_bias": ((-1, 1.0),)}, "logit_bias: a token is a whole number from 0 on"),
        ({"logit_bias": ((True, 1.0),)}, "logit_bias: a token is a whole number from 0 on"),
        ({"logit_bias": ((7, 100.1),)}, "logit_bias of token 7 must be a number from -100 to 100"),
        ({"logit_bias": ((7, math.nan),)}, "logit_bias of token 7 must be a number from -100 to 100"),
        ({"logit_bias": ((7, "1"),)}, "logit_bias of token 7 must be a number from -100 to 100"),
        ({"logit_bias": ((7, 1), (7, 2))}, "logit_bias names a token twice"),
        ({"logit_bias": tuple((token, 1.0) for token in range(301))}, "logit_bias has 301 entries: at most 300"),
        ({"logprobs": 21}, "logprobs must be a whole number from 0 to 20"),
        ({"logprobs": -1}, "logprobs must be a whole number from 0 to 20"),
        ({"logprobs": True}, "logprobs must be a whole number from 0 to 20"),
        ({"grammar": ""}, "grammar must be text that is not empty"),
        ({"grammar": b"root"}, "grammar must be text that is not empty"),
        ({"json_schema": {}}, "json_schema must be text that is not empty"),
        ({"grammar": "root ::= .", "json_schema": "{}"}, "grammar and json_schema can't both be set"),
        ({"json_schema": "{}", "frame": ("a",)}, "frame must be two texts"),
        ({"json_schema": "{}", "frame": ("a", b"b")}, "frame must be two texts"),
        ({"json_schema": "{}", "instead": 5}, "instead must be text"),
        ({"frame": ("a", "b")}, "frame and instead need a json_schema"),
        ({"grammar": "root ::= .", "instead": ""}, "frame and instead need a json_schema"),
    ],
)
def test_fields_are_checked_before_the_engine_sees_them(fields: dict[str, Any], message: str) -> None:
    assert problem(wire.Generate("r", ((True, "x"),), replace(GREEDY, **fields))) == message


def test_flags_are_flags() -> None:
    assert problem(wire.Generate("r", ((True, "x"),), may_think=1)) == "ignore_eos, in_thought and may_think must be true or false"  # type: ignore[arg-type]


@pytest.mark.parametrize("field", ["grammar", "json_schema"])
def test_an_answer_with_a_grammar_must_be_able_to_end(field: str) -> None:
    request = wire.Generate("r", ((True, "x"),), replace(GREEDY, **{field: "{}"}), ignore_eos=True)
    assert "ignore_eos does not go with" in str(problem(request))


def test_everything_valid_passes() -> None:
    full = wire.Sampling(logit_bias=((0, -100), (5, 100.0)), logprobs=20, grammar="root ::= .")
    assert problem(wire.Generate("r", ((True, "x"),), full)) is None
    (back,) = wire.Decoder().feed(wire.encode(wire.Generate("r", ((True, "x"),), full)))
    assert back.sampling == full and problem(back) is None
    delta = wire.Delta("r", "鸡", False, 1, ((b"\xe9", -0.5, ((b"\xe9", -0.5), (b"a", -1.0))),))
    assert list(wire.Decoder().feed(wire.encode(delta))) == [delta]


def test_the_vocabulary_is_checked_at_admission(model: NativeModel) -> None:
    bench = Bench(model)
    size = model.vocabulary.size
    control = model.vocabulary.control["<｜User｜>"]
    for changes, message in (
        ({"logit_bias": ((size, 1.0),)}, f"logit_bias: there is no token {size}, the vocabulary has {size}"),
        ({"logit_bias": ((2**63, 1.0),)}, f"logit_bias: there is no token {2**63}, the vocabulary has {size}"),
        ({"logit_bias": ((5, 1.0), (control, -1.0))}, f"logit_bias can't be set for control token {control}"),
        ({"grammar": "root ::= ("}, "grammar can't be used: line 1: this ( is never closed"),
        ({"json_schema": '{"not": {}}'}, 'json_schema can\'t be used: Unimplemented keys: ["not"]'),
    ):
        end = bench.ask(SUM, replace(GREEDY, **changes)).end  # type: ignore[arg-type]
        assert isinstance(end, wire.Failed) and (end.code, end.message) == ("invalid", message)
    for end_token in model.ends:
        assert model.refusal(replace(GREEDY, logit_bias=((end_token, -100.0),)))


# --- in a process of its own, in case it dies ---


def test_random_requests_are_answered_or_refused(demo_volume: Path) -> None:
    command = [sys.executable, "-m", "tests.engine.hostile_requests", str(demo_volume / "current/model.gguf"), "1", "8"]
    done = subprocess.run(command, cwd=ROOT, text=True, capture_output=True, timeout=200)
    assert done.returncode == 0, done.stderr[-3000:]
    counts = json.loads(done.stdout.splitlines()[-1])
    assert min(counts.values()) > 3, counts
