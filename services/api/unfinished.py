"""The prompt of an answer that was cut, so that the model goes on where it was: in its thought, or in its answer.

What the model had before it was the prompt of the conversation until then, and what it wrote itself. That is built again here: published
templates can't render it, they drop thoughts and end every turn. Knows nothing of tokens or HTTP.
"""

from __future__ import annotations

from collections.abc import Sequence

from services.api.conversation import Message, Tool
from services.api.errors import InvalidRequest
from services.api.prompt import ChatTemplate, Prompt
from services.api.reasoning import END, START
from services.shared.wire import Part


def render(template: ChatTemplate, messages: Sequence[Message], tools: Sequence[Tool] = (), thinking: bool | None = None) -> Prompt:
    """The prompt that ends with the text of the last message, which is no control token whatever it says. Without `content` its thought is
    left open, else the thought is closed before it. `thinking` as in Conversation; what has a thought was not made without, and the other
    way round.

    Raises:
        ApiError: as for any conversation, or there is no place for the thought.
    """
    *before, last = messages
    if not last.thought:
        thinking = False
    elif thinking is False:
        thinking = None
    begun = template.render(before, tools, thinking)
    written = _written(begun, last, f"messages.{len(before)}")
    return Prompt((*begun.parts, *(part for part in written if part[1])), in_thought=not last.content)


def _written(begun: Prompt, last: Message, place: str) -> list[Part]:
    """What the model has written since, with the line breaks that R1 and Qwen3 have around their thoughts."""
    own, tail = begun.parts[-1] if begun.parts else (True, "")
    if not last.thought:
        return [(True, f"{END}\n\n" if begun.in_thought else ""), (False, last.content)]
    if own and tail.rfind(END) > tail.rfind(START):
        raise InvalidRequest("the model's chat template leaves no place for a thought", param=f"{place}.reasoning_content")
    opening = "" if begun.in_thought and tail.endswith("\n") else "\n" if begun.in_thought else f"{START}\n"
    if not last.content:
        return [(True, opening), (False, last.thought.lstrip("\n"))]
    return [(True, opening), (False, last.thought.strip("\n")), (True, f"\n{END}\n\n"), (False, last.content.lstrip("\n"))]
