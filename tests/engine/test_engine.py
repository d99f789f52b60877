"""The loop on a scripted model: each answer is what a naive engine gives, whatever else goes on at the same time."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Hashable
from dataclasses import replace

import pytest

from services.engine import kv, scheduler
from services.engine.engine import MAX_ABORTED, Engine
from services.engine.sequence import SamplingError
from services.shared import wire
from tests.engine import reference
from tests.engine.scripted import ANSWER, END, HALF, REST, THINK, THINK_END, TOOL, Reply, ScriptedModel, script

GREEDY = wire.Sampling(temperature=0)


class Bench:
    """An engine over a scripted model, and everything that it says."""

    def __init__(
        self,
        reply: Reply,
        *,
        context: int = 60,
        cells: int = 200,
        sequences: int = 4,
        step: int = 32,
        queue: int = 100,
        thinks: bool = True,
        extra: int = 3,
        store: int = 0,
        speculate: bool = True,
    ) -> None:
        slots = sequences + extra
        self.sequences = sequences
        self.model = ScriptedModel(reply, cells=cells, slots=slots, step=step, thinks=thinks)
        self.engine = Engine(
            self.model,
            context=context,
            cells=cells,
            sequences=sequences,
            slots=slots,
            step=step,
            queue=queue,
            emit=self._take,
            store=store,
            speculate=speculate,
        )
        self.events: dict[Hashable, list[wire.Message]] = {}
        self.cancelled: set[Hashable] = set()
        self.ended: list[str] = []

    def _take(self, key: Hashable, message: wire.Message) -> None:
        events = self.events.setdefault(key, [])
        assert key not in self.cancelled, f"{message} after a cancel"
        assert not events or not isinstance(events[-1], wire.Finished | wire.Failed), f"{message} after the end"
        assert message.id == key, "for somebody else"
        events.append(message)
        if isinstance(message, wire.Finished):
            self.ended.append(message.id)

    def submit(self, request: wire.Generate) -> None:
        self.engine.submit(request.id, request, self.engine.encode(request.prompt))

    def ask(self, name: str, text: str = "q", **fields: object) -> list[wire.Message]:
        """Submit a request; its events, which grow."""
        self.submit(wire.Generate(name, ((False, text), (True, "<answer>")), GREEDY, **fields))  # type: ignore[arg-type]
        return self.events[name]

    def cancel(self, name: str) -> None:
        self.engine.cancel(name)
        self.cancelled.add(name)

    def run(self, steps: int = 10_000) -> None:
        """Until there is nothing to do."""
        while self.step():
            steps -= 1
            assert steps, "does not come to an end"

    def step(self) -> bool:
        busy = self.engine.step()
        cache = self.engine.kv
        assert cache.used == self.model.used <= cache.cells
        for slot in range(cache.slots):
            assert cache.held(slot) == self.model.tokens(slot), "the cache's books are wrong"
        return busy

    def assert_clean(self) -> None:
        """Nothing runs, waits, or is held for a request that has ended."""
        assert not self.engine.scheduler.running and not self.engine.scheduler.waiting
        assert self.engine.kv.free_slots == self.sequences
        assert self.engine.kv.available == self.engine.kv.cells
        assert self.model.open_samplers == 0
        assert not self.engine._sequences and not self.engine._positions


def said(events: list[wire.Message]) -> list[str | tuple[str]]:
    """The deltas as reference.Answer has them."""
    result = reference.Answer()
    for event in events:
        if isinstance(event, wire.Delta):
            if event.special:
                result.said.append((event.text,))
            else:
                assert event.text
                result.say(event.text)
    return result.said


def kinds(events: list[wire.Message]) -> list[str]:
    return [type(event).__name__ for event in events]


def test_an_answer_from_beginning_to_end() -> None:
    bench = Bench(script("hello"))
    events = bench.ask("a", "hi")
    bench.run()
    assert kinds(events) == ["Accepted"] + ["Delta"] * 5 + ["Finished"]
    assert events[0] == wire.Accepted("a", 3)
    assert said(events) == ["hello"]
    end = events[-1]
    assert (end.reason, end.prompt_tokens, end.generated_tokens, end.thought_tokens, end.cached_tokens) == ("stop", 3, 6, 0, 0)
    assert end.queue_seconds >= 0 and end.prefill_seconds >= 0 and end.decode_seconds >= 0
    bench.assert_clean()


def test_deltas_count_tokens() -> None:
    bench = Bench(script("aé"))
    events = bench.ask("a")
    bench.run()
    assert [(e.text, e.tokens) for e in events if isinstance(e, wire.Delta)] == [("a", 1), ("é", 3)]


def test_max_tokens_is_exact() -> None:
    for most in (1, 2, 5):
        bench = Bench(script("hello world"))
        events = bench.ask("a", max_tokens=most)
        bench.run()
        assert said(events) == ["hello"[:most]]
        assert (events[-1].reason, events[-1].generated_tokens) == ("length", most)


def test_an_end_on_the_last_token_is_no_cut() -> None:
    bench = Bench(script("ab"))
    events = bench.ask("a", max_tokens=3)
    bench.run()
    assert (events[-1].reason, events[-1].generated_tokens) == ("stop", 3)


def test_the_context_ends_an_answer() -> None:
    bench = Bench(script("", then=ord("x")), context=50)
    events = bench.ask("a", "q" * 9, max_tokens=1000)
    bench.run()
    assert (events[-1].reason, events[-1].generated_tokens) == ("length", 40)
    bench.assert_clean()


def test_the_longest_prompt_and_one_more() -> None:
    bench = Bench(script("xy"), context=50, cells=50)
    events = bench.ask("fits", "q" * 48)
    bench.run()
    assert said(events) == ["x"] and events[-1].reason == "length"
    (refused,) = bench.ask("not", "q" * 49)
    assert refused.code == "context_length_exceeded" and (refused.prompt_tokens, refused.limit) == (50, 50)
    assert refused.message.count("50") == 2
    bench.assert_clean()


def test_an_empty_prompt_is_invalid() -> None:
    bench = Bench(script("x"))
    bench.submit(wire.Generate("a", ((True, ""), (False, "")), GREEDY))
    assert kinds(bench.events["a"]) == ["Failed"] and bench.events["a"][0].code == "invalid"
    bench.assert_clean()


def test_thinking_is_told_by_its_tokens() -> None:
    bench = Bench(script("<think>hm</think>so"))
    events = bench.ask("a")
    bench.run()
    assert said(events) == [("<think>",), "hm", ("</think>",), "so"]
    assert events[-1].thought_tokens == 3  # h, m and </think>


def test_a_tag_that_is_spelled_out_is_text() -> None:
    spelled = [*b"</think>", END]
    bench = Bench(lambda tokens: spelled[len(tokens) - 1 - tokens.index(ANSWER)])
    events = bench.ask("a", in_thought=True)
    bench.run()
    assert said(events) == ["</think>"] and events[-1].thought_tokens == 9


def test_a_user_defined_token_is_text_that_stop_strings_see() -> None:
    bench = Bench(script("a<tool>b"))
    events = bench.ask("a")
    bench.run()
    assert said(events) == ["a<tool>b"]
    events = bench.ask("b", stop=("<tool>",))
    bench.run()
    assert said(events) == ["a"] and events[-1].reason == "stop"


def test_stop_strings_work_across_tokens_but_not_inside_thoughts() -> None:
    bench = Bench(script("STOP</think>no STO STOP never"))
    events = bench.ask("a", stop=("STOP",), in_thought=True)
    bench.run()
    assert said(events) == ["STOP", ("</think>",), "no STO "]
    assert events[-1].reason == "stop"


def test_the_beginning_of_a_stop_string_at_the_end_is_text() -> None:
    bench = Bench(script("a ST"))
    events = bench.ask("a", stop=("STOP",))
    bench.run()
    assert said(events) == ["a ST"]


def test_a_model_without_thinking_tokens_ends_its_thought_by_text() -> None:
    bench = Bench(script("STOP </think> yes STOP no"), thinks=False)
    events = bench.ask("a", stop=("STOP",), in_thought=True)
    bench.run()
    assert said(events) == ["STOP </think> yes "]
    assert events[-1].reason == "stop" and events[-1].thought_tokens == 6


def test_ignore_eos_goes_on() -> None:
    bench = Bench(script("a"))
    events = bench.ask("a", ignore_eos=True, max_tokens=3)
    bench.run()
    assert said(events) == ["a", ("<end>",), ("<end>",)] and events[-1].reason == "length"


def test_whole_characters_only() -> None:
    bench = Bench(lambda tokens: [HALF, REST, *"🐔".encode(), 0xFF, HALF, END][len(tokens) - 1 - tokens.index(ANSWER)])
    events = bench.ask("a")
    bench.run()
    assert [e.text for e in events if isinstance(e, wire.Delta)] == ["ab", "鸡b", "🐔", "\ufffd", "ab", "\ufffd"]


def test_those_who_wait_are_told_their_place_when_it_changes() -> None:
    bench = Bench(script("ok"), sequences=1)
    names = "abc"
    for name in names:
        bench.ask(name)
    bench.run()
    places = {name: [e.position for e in bench.events[name] if isinstance(e, wire.Queued)] for name in names}
    assert places == {"a": [], "b": [1], "c": [2, 1]}


def test_a_full_line_refuses_and_tells_how_many_wait() -> None:
    bench = Bench(script("ok"), sequences=1, queue=2)
    for name in "abc":
        bench.ask(name)
    (refused,) = bench.ask("d")
    assert refused.code == "overloaded" and "3 requests" in refused.message
    bench.run()
    assert all(bench.events[name][-1].reason == "stop" for name in "abc")
    assert kinds(bench.ask("e")) == ["Accepted"]


def test_progress_of_a_long_prompt_is_told() -> None:
    bench = Bench(script("ok"), context=200)
    events = bench.ask("a", "q" * 99)
    bench.run()
    assert [(e.done, e.total, e.cached) for e in events if isinstance(e, wire.Prefill)] == [(32, 100, 0), (64, 100, 0), (96, 100, 0)]


@pytest.mark.parametrize("step", [32, 300, 600])
def test_a_common_system_prompt_is_read_once_by_those_who_arrive_together(step: int) -> None:
    """Also where a step has room for more than the one who reads for all."""
    bench = Bench(script("ok"), context=600, cells=4000, sequences=8, step=step)
    for number in range(8):
        bench.submit(wire.Generate(f"r{number}", ((True, "s" * 400), (False, f"question {number}"), (True, "<answer>")), GREEDY))
    bench.run()
    assert all(said(events) == ["ok"] for events in bench.events.values())
    assert bench.model.computed < 400 + 8 * 20
    assert sorted(events[-1].cached_tokens for events in bench.events.values())[1] >= 400


def test_if_the_one_who_reads_for_all_hangs_up_another_one_goes_on() -> None:
    bench = Bench(script("ok"), context=600, cells=4000, sequences=4)
    for name in "abc":
        bench.submit(wire.Generate(name, ((True, "s" * 400), (False, name), (True, "<answer>")), GREEDY))
    bench.step()
    bench.step()
    (leader,) = (name for name in "abc" if any(isinstance(event, wire.Prefill) for event in bench.events[name]))
    bench.cancel(leader)
    bench.run()
    assert bench.model.computed < 400 + 3 * 10
    assert all(said(bench.events[name]) == ["ok"] for name in "abc" if name != leader)


def test_a_short_prompt_is_read_before_a_long_one_that_came_earlier() -> None:
    bench = Bench(script("ok"), context=500, cells=2000)
    bench.ask("long", "q" * 400)
    bench.step()
    bench.ask("short", "q")
    bench.step()
    assert any(isinstance(event, wire.Delta) for event in bench.events["short"])


def test_the_line_is_fair_between_users() -> None:
    bench = Bench(script("", then=ord("x")), sequences=1)
    for name in ("a1", "a2", "a3", "b1"):
        bench.ask(name, user=name[0], max_tokens=2)
    bench.run()
    assert bench.ended == ["a1", "b1", "a2", "a3"]


def test_what_was_read_in_a_quiet_moment_is_there_when_it_is_asked_for() -> None:
    bench = Bench(script("ok"), context=200, cells=400)
    bench.engine.prepare(bench.engine.encode(((False, "q" * 100),)))
    bench.run()
    assert bench.model.computed == 100
    bench.ask("a", "q" * 100)
    bench.run()
    assert bench.events["a"][-1].cached_tokens == 100
    bench.assert_clean()


def test_a_request_comes_before_what_is_read_in_a_quiet_moment() -> None:
    bench = Bench(script("ok"), context=200, cells=400)
    bench.engine.prepare([ord("p")] * 150)
    bench.step()
    bench.ask("a")
    bench.step()
    assert any(isinstance(event, wire.Delta) for event in bench.events["a"])
    bench.run()
    assert bench.model.computed < 150 + 10  # what had been read was not read again


def test_a_step_for_no_request_can_be_cut_short_again_and_again() -> None:
    bench = Bench(script("ok"), context=200, cells=400)
    bench.engine.prepare([ord("p")] * 150)
    bench.model.abort_next = 10
    bench.run()
    assert bench.model.computed == 150


def test_who_comes_just_before_a_step_for_no_request_does_not_wait_for_it() -> None:
    bench = Bench(script("ok"), context=200, cells=400)
    bench.engine.prepare([ord("p")] * 150)
    bench.engine.called = lambda: True
    assert bench.step() and bench.model.computed == 0 and not bench.engine.yielding


def test_nothing_is_prepared_that_could_never_be_asked() -> None:
    bench = Bench(script("ok"), context=50)
    bench.engine.prepare([1] * 51)
    bench.engine.prepare([1, 2, 3], "unknown")
    bench.engine.prepare([])
    bench.run()
    assert bench.model.computed == 0


def test_a_thought_ends_where_its_budget_does() -> None:
    for limit in (0, 1, 5):
        bench = Bench(script("<think>" + "hm" * 20), thinks=True)
        events = bench.ask("a", thought_limit=limit)
        bench.run()
        thought = ("hm" * 20)[:limit]
        assert said(events)[:3] == ([("<think>",), thought, ("</think>",)] if limit else [("<think>",), ("</think>",), said(events)[2]])
        assert events[-1].thought_ended == "budget" and events[-1].thought_tokens == limit + 1


def test_a_budget_of_nothing_closes_an_open_thought_at_once() -> None:
    bench = Bench(lambda tokens: ord("A") if THINK_END in tokens else ord("t"))
    events = bench.ask("a", in_thought=True, thought_limit=0, max_tokens=4)
    bench.run()
    assert said(events) == [("</think>",), "AAA"] and events[-1].thought_ended == "budget"


def test_a_thought_shorter_than_its_budget_is_left_alone() -> None:
    bench = Bench(script("<think>hm</think>so"))
    events = bench.ask("a", thought_limit=3)
    bench.run()
    assert said(events) == [("<think>",), "hm", ("</think>",), "so"] and events[-1].thought_ended == ""


def test_a_thought_that_goes_round_in_circles_is_ended() -> None:
    circle = b"wait, no. "
    bench = Bench(lambda tokens: ord("A") if THINK_END in tokens else circle[len(tokens) % len(circle)], context=2000, cells=3000)
    events = bench.ask("a", in_thought=True, max_tokens=1000)
    bench.run()
    assert events[-1].thought_ended == "loop" and events[-1].thought_tokens < 250
    assert said(events)[1] == ("</think>",)
    assert events[-1].reason == "loop" and events[-1].generated_tokens < 1000  # and so is the answer that says A for ever


def test_whoever_asks_for_no_end_gets_none() -> None:
    bench = Bench(script("", then=ord("x")), context=2000, cells=3000)
    events = bench.ask("a", ignore_eos=True, max_tokens=1500)
    bench.run()
    assert (events[-1].reason, events[-1].generated_tokens) == ("length", 1500)


def test_a_deadline_ends_an_answer_with_what_there_is() -> None:
    bench = Bench(script("", then=ord("x")))
    writes = bench.ask("writes", seconds=60, max_tokens=50)
    bench.step()
    bench.step()
    bench.engine._sequences["writes"].expires = time.monotonic()
    waits = bench.ask("waits", seconds=1e-9)
    bench.run()
    assert writes[-1].reason == "deadline" and said(writes)
    assert kinds(waits) == ["Accepted", "Failed"] and waits[-1].code == "deadline"
    bench.assert_clean()


def test_a_refusal_says_when_to_come_again() -> None:
    bench = Bench(script("ok"), sequences=1, queue=0)
    bench.ask("a")
    (refused,) = bench.ask("b")
    assert refused.code == "overloaded" and 1 <= refused.retry_after <= 600 and str(refused.retry_after) in refused.message


def test_guessed_text_is_the_same_text_in_fewer_steps() -> None:
    poem = "roses are red, violets are blue, " * 6
    steps = {}
    for speculate in (False, True):
        bench = Bench(script(poem), context=500, cells=600, speculate=speculate)
        bench.model.pause = 0.003  # a step costs much more than a token
        events = bench.ask("a", poem)
        bench.run()
        assert said(events) == [poem] and events[-1].reason == "stop"
        steps[speculate] = bench.model.steps
        assert (events[-1].accepted_tokens > 100) == speculate
    assert steps[True] < steps[False] / 2


def test_a_sequence_that_can_not_be_sampled_leaves_nothing_in_its_slot() -> None:
    """Neither at its first token nor in the midst of guesses; what was computed for it would be in the next one's way."""
    for good in (0, 3, 90):
        poem = "roses are red, violets are blue, " * 6
        bench = Bench(script(poem), context=500, cells=600, sequences=1)
        bench.model.pause = 0.001
        events = bench.ask("a", poem)
        sampler = bench.engine._sequences["a"].sampler
        left, sample = [good], sampler.sample

        def stubborn(row: int, left: list[int] = left, sample: Callable[[int], int] = sample) -> int:
            if not left[0]:
                raise SamplingError("nothing is allowed here")
            left[0] -= 1
            return sample(row)

        sampler.sample = stubborn  # type: ignore[method-assign]
        bench.run()
        assert (events[-1].code, events[-1].message) == ("invalid", "nothing is allowed here")
        bench.ask("b")
        bench.run()
        assert said(bench.events["b"]) == [poem]
        bench.assert_clean()


def test_guesses_stop_where_they_do_not_come_true() -> None:
    """Every run of three bytes has been there before, and is never followed by what followed it."""
    source = random.Random(5)
    bench = Bench(lambda tokens: source.choice(b"ab"), context=3000, cells=4000)
    events = bench.ask("a", max_tokens=2000)
    bench.run()
    assert events[-1].generated_tokens == 2000
    assert events[-1].drafted_tokens < 3 * 2000


def test_an_adapter_answers_for_itself_and_shares_no_prefix() -> None:
    bench = Bench(script("hello"), context=100, cells=400)
    prompt = ((True, "s" * 60), (True, "<answer>"))
    bench.submit(wire.Generate("base", prompt, GREEDY))
    bench.submit(wire.Generate("poet", prompt, GREEDY, adapter="poet"))
    bench.run()
    assert said(bench.events["base"]) == ["hello"] and said(bench.events["poet"]) == ["ello"]
    assert bench.events["poet"][-1].cached_tokens == bench.events["base"][-1].cached_tokens == 0
    (refused,) = bench.ask("c", adapter="painter")
    assert refused.code == "invalid" and "'painter'" in refused.message and "poet" in refused.message
    bench.assert_clean()


def test_the_next_turn_finds_its_prefix() -> None:
    bench = Bench(script("ok"))
    bench.ask("a", "question")
    bench.run()
    bench.submit(wire.Generate("b", ((False, "question"), (True, "<answer>"), (False, "ok, and"), (True, "<answer>")), GREEDY))
    bench.run()
    assert bench.events["b"][-1].cached_tokens == 11
    assert said(bench.events["b"]) == ["ok"]


def test_cancelled_at_any_moment_nothing_is_left() -> None:
    for steps in range(8):
        bench = Bench(script("hello"), sequences=1)
        bench.ask("a", "q" * 40)
        bench.ask("b")
        for _ in range(steps):
            bench.step()
        bench.cancel("a")
        bench.cancel("a")
        bench.cancel("unknown")
        bench.run()
        assert said(bench.events["b"]) == ["hello"]
        bench.assert_clean()


def test_all_are_told_when_the_engine_goes_down() -> None:
    bench = Bench(script("", then=ord("x")), sequences=2)
    for name in "abc":
        bench.ask(name)
    bench.step()
    bench.engine.fail_all("shutdown", "going down")
    assert [bench.events[name][-1] for name in "abc"] == [wire.Failed(name, "shutdown", "going down") for name in "abc"]
    bench.assert_clean()
    assert not bench.step()


def test_an_aborted_step_changes_nothing() -> None:
    bench = Bench(script("hello"))
    bench.ask("a", "q" * 40)
    for _ in range(20):
        bench.model.abort_next = 1
        bench.step()
        bench.step()
    bench.run()
    assert said(bench.events["a"]) == ["hello"]
    bench.assert_clean()


def test_a_step_is_cut_short_only_for_those_who_compute() -> None:
    bench = Bench(script("", then=ord("x")), sequences=1)
    bench.ask("runs")
    bench.ask("waits")
    bench.step()
    assert bench.engine.interruptible("runs")
    assert not bench.engine.interruptible("waits") and not bench.engine.interruptible("unknown")


def test_cancels_without_end_do_not_keep_the_others_from_computing() -> None:
    """Each cancel that cuts a step short costs the others their part of it: after a few, a step must go through."""
    bench = Bench(script("hello"))
    bench.ask("patient")
    bench.step()
    for number in range(200):
        name = f"hasty {number}"
        bench.ask(name)
        bench.step()
        bench.model.abort_next = int(bench.engine.interruptible(name))
        bench.step()
        bench.cancel(name)
        if isinstance(bench.events["patient"][-1], wire.Finished):
            break
    assert number < 20
    assert said(bench.events["patient"]) == ["hello"]


def test_aborts_in_a_row_are_bounded_while_others_compute_and_not_when_alone() -> None:
    bench = Bench(script("", then=ord("x")))
    bench.ask("a")
    bench.ask("b")
    bench.step()
    for _ in range(MAX_ABORTED):
        assert bench.engine.interruptible("a")
        bench.model.abort_next = 1
        bench.step()
    assert not bench.engine.interruptible("a")
    bench.step()
    assert bench.engine.interruptible("a")
    for _ in range(MAX_ABORTED):
        bench.model.abort_next = 1
        bench.step()
    bench.cancel("b")
    assert bench.engine.interruptible("a")


def test_the_rate_counts_the_tokens_of_the_last_seconds() -> None:
    bench = Bench(script("hello"))
    assert bench.engine.rate() == 0
    bench.ask("a")
    bench.run()
    assert bench.engine.rate() == pytest.approx(6 / 5)
    assert (bench.engine.prompt_tokens, bench.engine.generated_tokens) == (2, 6)


# --- whatever happens at the same time ---

BYTES = [*b"abS \n", *b"STOP", *"鸡".encode(), *"🐔".encode(), 0xFF]
TOKENS = [THINK, THINK_END, TOOL, HALF, REST, END]


def random_reply(seed: int) -> Reply:
    """A babbler that ends sooner or later, or never: what it says depends on the last few tokens, so that it can be guessed, and
    every now and then on all of them, so that a wrong one anywhere in the memory changes what follows."""

    def reply(tokens: list[int]) -> int:
        near = random.Random(f"{seed} {tokens[-3:]}")
        source = near if near.random() < 0.7 else random.Random(f"{seed} {tokens}")
        if source.random() < 0.06:
            return source.choice(TOKENS)
        return source.choice(BYTES)

    return reply


def random_request(name: str, source: random.Random, context: int) -> wire.Generate:
    words = ["hello ", "鸡", "<end>", "</think>", "q", "system prompt that many share "]
    prompt = ((True, source.choice(["", "s" * 20])), (False, "".join(source.choices(words, k=source.randint(0, 4)))))
    stop = tuple(
        "".join(source.choices(["a", "b", "S", "STOP", "鸡", " "], k=source.randint(1, 3))) for _ in range(source.choice([0, 0, 1, 3]))
    )
    return wire.Generate(
        name,
        (*prompt, (True, "<answer>")),
        GREEDY,
        max_tokens=source.choice([0, 0, 1, 3, 20, context]),
        stop=stop,
        ignore_eos=source.random() < 0.2,
        in_thought=source.random() < 0.3,
        thought_limit=source.choice([None, None, 0, 1, 5]),
        user=source.choice(["", "a", "b"]),
    )


@pytest.mark.parametrize("seed", range(60))
def test_every_answer_is_that_of_the_naive_engine(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Any order of arrival, cancels, few cells (so that sequences are pre-empted and evicted), stop strings, limits, aborts."""
    source = random.Random(seed)
    context = source.choice([40, 70, 120])
    cells = context + source.choice([0, 5, 40, 300])
    thinks = source.random() < 0.8
    reply = random_reply(seed)
    bench = Bench(
        reply, context=context, cells=cells, sequences=source.randint(1, 6), step=32, queue=1000, thinks=thinks,
        extra=source.randint(1, 4), store=source.choice([0, 1000, 100_000]), speculate=source.random() < 0.7,
    )  # fmt: skip
    monkeypatch.setattr(kv, "WORTH_KEEPING", 5)  # the contexts here are short
    monkeypatch.setattr(kv, "WORTH_LOADING", 3)
    monkeypatch.setattr(scheduler, "WORTH_WAITING", 4)
    requests = {f"r{n}": random_request(f"r{n}", source, context) for n in range(source.randint(1, 30))}
    coming, running = list(requests), True
    while coming or running:
        for _ in range(source.choice([0, 0, 0, 1, 1, 5])):
            if coming:
                bench.submit(requests[coming.pop(0)])
        if source.random() < 0.02 and bench.engine._sequences:
            bench.cancel(str(source.choice(list(bench.engine._sequences))))
        if source.random() < 0.05:
            bench.engine.prepare(bench.engine.encode(random_request("", source, context).prompt))
        bench.model.abort_next = int(source.random() < 0.05)
        running = bench.step()
        assert bench.model.steps < 20_000, f"seed {seed} does not come to an end"
    bench.assert_clean()
    for name, request in requests.items():
        events, prompt = bench.events[name], bench.engine.encode(request.prompt)
        if len(prompt) >= context:
            assert kinds(events) == ["Failed"] and events[0].code == "context_length_exceeded"
            continue
        assert isinstance(events[0], wire.Accepted) and kinds(events).count("Accepted") == 1
        wanted = reference.answer(reply, prompt, request, context, thinks=thinks)
        if name in bench.cancelled:
            assert is_beginning(said(events), wanted.said), (seed, name)
            continue
        assert kinds(events).count("Finished") == 1 and kinds(events)[-1] == "Finished", (seed, name)
        assert said(events) == wanted.said, (seed, name)
        end = events[-1]
        assert (end.reason, end.generated_tokens, end.thought_tokens) == (wanted.reason, wanted.generated, wanted.thought), (seed, name)
        assert end.cached_tokens < end.prompt_tokens == len(prompt)


def is_beginning(part: list[str | tuple[str]], whole: list[str | tuple[str]]) -> bool:
    """The events of a cancelled request: everything that was said would have been said."""
    if part and isinstance(part[-1], str) and len(part) <= len(whole) and isinstance(whole[len(part) - 1], str):
        *part, last = part
        return part == whole[: len(part)] and str(whole[len(part)]).startswith(str(last))
    return part == whole[: len(part)]


@pytest.mark.parametrize("seed", range(20))
def test_nobody_starves(seed: int) -> None:
    """While short requests come without end, one that needs nearly all cells gets its turn."""
    source = random.Random(seed)
    bench = Bench(script("", then=ord("x")), context=100, cells=110, sequences=4)
    for number in range(10):
        bench.ask(f"early {number}", max_tokens=source.randint(1, 30))
    bench.ask("large", "q" * 90)
    for number in range(3000):
        bench.step()
        if number % 2:
            bench.ask(f"late {number}", max_tokens=source.randint(1, 10))
        if isinstance(bench.events["large"][-1], wire.Finished):
            break
    assert number < 600
    bench.engine.fail_all("shutdown", "enough")
    bench.assert_clean()


def test_work_is_not_done_many_times_over_when_cells_are_short() -> None:
    """Pre-empting costs what was computed; it must stay the exception."""
    bench = Bench(script("", then=ord("x")), context=200, cells=400, sequences=8)
    for number in range(8):
        bench.ask(f"r{number}", "q" * 59, max_tokens=120)
    bench.run()
    assert all(events[-1].generated_tokens == 120 for events in bench.events.values())
    needed = 8 * (60 + 119)
    assert bench.model.computed < 2 * needed, bench.model.computed / needed


def test_a_step_costs_the_loop_little() -> None:
    """Long conversations and a long line must not make a step slow: bookkeeping is not what the CPU is for."""
    bench = Bench(script("", then=ord("x")), context=8000, cells=16_000, sequences=8, step=256, queue=100)
    for number in range(60):
        bench.ask(f"r{number}", "q" * 1500)
    for _ in range(60):
        bench.engine.step()
    began = time.process_time()
    for _ in range(100):
        bench.engine.step()
    assert (time.process_time() - began) / 100 < 0.02


def test_sampling_reaches_the_sampler() -> None:
    seen: list[wire.Sampling] = []
    bench = Bench(script("x"))
    make = bench.model.sampler
    bench.model.sampler = lambda sampling: (seen.append(sampling), make(sampling))[1]  # type: ignore[method-assign]
    warm = replace(GREEDY, temperature=0.7, seed=3)
    bench.submit(wire.Generate("a", ((True, "<answer>"),), warm))
    assert seen == [warm]
