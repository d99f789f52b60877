"""What is measured: each scenario asks one endpoint in one round and gives its figures. Knows of no other endpoint to compare with."""

from __future__ import annotations

import asyncio
import difflib
import itertools
import math
import statistics
import time
from collections.abc import AsyncIterator, Callable, Coroutine, Iterable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass

from scripts.benchmark.client import Answer, Client, EndpointError
from scripts.benchmark.prompts import Message, Prompts

Figures = dict[str, float]

STREAMS = 4  # answers under way when a long prompt arrives
STREAM_TOKENS = 512  # of each of them: more than the long prompt takes to be read
UNDER_WAY = 4  # pieces of text after which a stream counts as under way; one that has ended without them is told of later
FEW = 8  # tokens of an answer of which only the first counts
HANG_UP = 1.0  # seconds after which cancel's client has enough
LONG_ANSWER = 300  # tokens of the first turn's answer
COPY_TOKENS = 200  # of the copy: about the text's length

STREAMED = ("rate", "decode", "first.median", "first.p95", "first.max", "gap.median", "gap.p95", "gap.max")


@dataclass(frozen=True)
class Sizes:
    """How large the scenarios are: tokens of an answer, words of the long prompt, seconds between two turns."""

    tokens: int = 48
    words: int = 2000
    idle: float = 10.0


@dataclass(frozen=True)
class Scenario:
    """One kind of load.

    Attributes:
        run: asks an endpoint and gives its figures and the answers that tell the prompts' sizes.
        figures: the names of what it measures.
        by_users: it is measured for each number of users.
    """

    run: Callable[[Client, Prompts, int, Sizes], Coroutine[None, None, tuple[Figures, list[Answer]]]]
    figures: tuple[str, ...]
    by_users: bool = False


async def together(client: Client, conversations: Sequence[list[Message]], tokens: int) -> list[Answer]:
    """Have conversations answered at the same time.

    Raises:
        EndpointError: the first that failed; the others are hung up.
    """
    tasks = [asyncio.create_task(client.ask(messages, tokens, rated=True)) for messages in conversations]
    try:
        return await asyncio.gather(*tasks)
    finally:
        await _hang_up(tasks)


def streamed(answers: Sequence[Answer]) -> Figures:
    """Figures of answers that were asked for at the same time: tokens/s of all, and of a stream; first tokens and gaps in seconds."""
    began, ended = min(a.sent for a in answers), max(a.ended for a in answers)
    return {
        "rate": sum(a.tokens for a in answers) / (ended - began),
        "decode": statistics.median(a.decode for a in answers),
        **_spread("first", [a.first for a in answers]),
        **_spread("gap", [gap for a in answers for gap in a.gaps] or [0.0]),
    }


def _spread(name: str, values: Iterable[float]) -> Figures:
    ordered = sorted(values)
    p95 = ordered[math.ceil(0.95 * len(ordered)) - 1]
    return {f"{name}.median": statistics.median(ordered), f"{name}.p95": p95, f"{name}.max": ordered[-1]}


async def _distinct(client: Client, prompts: Prompts, users: int, sizes: Sizes) -> tuple[Figures, list[Answer]]:
    answers = await together(client, [prompts.question() for _ in range(users)], sizes.tokens)
    return streamed(answers), answers


async def _shared(client: Client, prompts: Prompts, users: int, sizes: Sizes) -> tuple[Figures, list[Answer]]:
    answers = await together(client, prompts.shared(users), sizes.tokens)
    return streamed(answers), answers


async def _long(client: Client, prompts: Prompts, _: int, sizes: Sizes) -> tuple[Figures, list[Answer]]:
    async with _streams(client, prompts) as streams:
        answer = await client.ask(prompts.question(sizes.words), FEW)
        longest = _longest_gap(client, streams, answer.sent, answer.shown)
    return {"first": answer.first, "gap.max": longest}, [answer]


async def _cancel(client: Client, prompts: Prompts, _: int, sizes: Sizes) -> tuple[Figures, list[Answer]]:
    async with _streams(client, prompts) as streams:
        given_up = Answer()
        asking = asyncio.create_task(client.ask(prompts.question(sizes.words), FEW, given_up))
        await asyncio.wait([asking], timeout=HANG_UP)
        if asking.done():
            await asking  # raises what went wrong
        if given_up.times:
            read = f"{client.label} had read the prompt of {sizes.words} words after {given_up.first:.2f} s"
            raise EndpointError(f"{read}, so that nothing was left to cancel after {HANG_UP:g} s: ask with more --words")
        await _hang_up([asking])
        answer = await client.ask(prompts.question(10), FEW)
        longest = _longest_gap(client, streams, given_up.sent, answer.shown)
    return {"first": answer.first, "gap.max": longest}, [answer]


async def _turn(client: Client, prompts: Prompts, _: int, sizes: Sizes) -> tuple[Figures, list[Answer]]:
    talk = prompts.question()
    before = await client.ask(talk, LONG_ANSWER)
    # Clients put back the answer and leave the thinking out. A model that never ends its thinking (random weights) has only that.
    talk = [*talk, {"role": "assistant", "content": before.content or before.thinking}, *prompts.question(20)]
    await asyncio.sleep(sizes.idle)
    answer = await client.ask(talk, sizes.tokens)
    return {"first": answer.first, "before.first": before.first}, [answer]


async def _copy(client: Client, prompts: Prompts, _: int, sizes: Sizes) -> tuple[Figures, list[Answer]]:
    question = prompts.copy()
    answer = await client.ask(question, COPY_TOKENS, rated=True)
    return {"decode": answer.decode, "first": answer.first, "copied": copied(question, answer)}, [answer]


def copied(question: list[Message], answer: Answer) -> float:
    """The share of an answer's words that are taken from the question in its order: 1 is a pure copy."""
    asked, said = question[-1]["content"].split(), f"{answer.thinking} {answer.content}".split()
    blocks = difflib.SequenceMatcher(None, asked, said, autojunk=False).get_matching_blocks()
    return sum(block.size for block in blocks) / len(said) if said else 0.0


SCENARIOS = {
    "distinct": Scenario(_distinct, STREAMED, by_users=True),
    "shared": Scenario(_shared, STREAMED, by_users=True),
    "long": Scenario(_long, ("gap.max", "first")),
    "turn": Scenario(_turn, ("first", "before.first")),
    "cancel": Scenario(_cancel, ("first", "gap.max")),
    "copy": Scenario(_copy, ("decode", "first", "copied")),
}


@asynccontextmanager
async def _streams(client: Client, prompts: Prompts) -> AsyncIterator[list[Answer]]:
    """Answers that are under way while the body runs, and are hung up after it."""
    answers = [Answer() for _ in range(STREAMS)]
    tasks = [asyncio.create_task(client.ask(prompts.question(), STREAM_TOKENS, answer)) for answer in answers]
    try:
        done: set[asyncio.Task[Answer]] = set()
        while min(len(a.times) for a in answers) < UNDER_WAY and not done:
            done, _ = await asyncio.wait(tasks, timeout=0.005, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                await task  # raises what went wrong
        yield answers
        for task in tasks:
            if task.done():
                await task
    finally:
        await _hang_up(tasks)


def _longest_gap(client: Client, streams: Sequence[Answer], begin: float, end: float) -> float:
    """Seconds of the longest wait of a stream for its next text that overlaps begin..end; one that still lasts counts up to now.

    Raises:
        EndpointError: a stream had ended before, so that its wait is not known.
    """
    now, longest = time.perf_counter(), 0.0
    for stream in streams:
        if stream.ended and stream.ended < end:
            raise EndpointError(
                f"{client.label} ended a stream of {STREAM_TOKENS} tokens before the other prompt's first token: ask with fewer --words"
            )
        times = [*stream.times, stream.ended or now]
        longest = max([longest, *(b - a for a, b in itertools.pairwise(times) if b > begin and a < end)])
    return longest


async def _hang_up(tasks: Sequence[asyncio.Task[Answer]]) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
