"""The naive engine: one request at a time, everything decoded again for each token. What the real one must agree with."""

from __future__ import annotations

import codecs
from dataclasses import dataclass, field

from services.shared import wire
from tests.engine.scripted import ANSWER, END, PIECES, THINK, THINK_END, Reply


@dataclass
class Answer:
    """`said`: texts, and special tokens as (text,), in order; neighbouring texts joined."""

    said: list[str | tuple[str]] = field(default_factory=list)
    reason: str = ""
    generated: int = 0
    thought: int = 0

    def say(self, text: str) -> None:
        if text and self.said and isinstance(self.said[-1], str):
            self.said[-1] += text
        elif text:
            self.said.append(text)


def answer(reply: Reply, prompt: list[int], request: wire.Generate, context: int, *, thinks: bool = True) -> Answer:
    """What a request must be answered with."""
    result, tokens, thinking = Answer(), list(prompt), request.in_thought
    most = min(request.max_tokens or context, context - len(prompt))
    segment, watched = b"", ""  # bytes since the last special token; the text of them in which stop strings count
    closing = [THINK_END] if thinks else list(b"</think>")
    forced, bounded = [], False
    while True:
        limit = request.thought_limit
        if limit is not None and thinking and not bounded and result.thought >= limit:
            forced, bounded = list(closing), True
        token = forced.pop(0) if forced else reply(tokens)
        tokens.append(token)
        result.generated += 1
        result.thought += thinking
        if token == END and not request.ignore_eos:
            result.reason = "stop"
            break
        if token in (END, ANSWER) or (thinks and token in (THINK, THINK_END)):
            result.say(_decode(segment, final=True)[len(_decode(segment)) :])
            result.said.append((PIECES[token].decode(),))
            segment = b""
            watched = ""
            if token in (THINK, THINK_END):
                thinking = token == THINK
        else:
            before = len(_decode(segment))
            segment += PIECES[token]
            for character in _decode(segment)[before:]:
                result.say(character)
                if not thinking:
                    watched += character
                    if complete := [s for s in request.stop if watched.endswith(s)]:
                        text = str(result.said.pop())
                        result.say(text[: -max(map(len, complete))])
                        result.reason = "stop"
                        return result
                elif not thinks and _text(result).endswith("</think>"):
                    thinking = False
        if result.generated == most:
            result.reason = "length"
            break
    result.say(_decode(segment, final=True)[len(_decode(segment)) :])
    return result


def _decode(data: bytes, *, final: bool = False) -> str:
    return codecs.getincrementaldecoder("utf-8")("replace").decode(data, final)


def _text(result: Answer) -> str:
    return "".join(part if isinstance(part, str) else part[0] for part in result.said)
