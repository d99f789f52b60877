"""Renders the chat template in a child process, which a template that loops or eats memory takes down instead of the API.

The template comes with the model, from anybody; Jinja's sandbox keeps it from the machine but not from computing for ever. The child
is started with the first model and again when it has died. Owns what is said to it (how, stands in child.py); what a prompt is stands
in prompt.py.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from typing import Any

from services.api import unfinished
from services.api.child import MEMORY, Child, TooMuch, serve
from services.api.conversation import Message, Tool, ToolCall
from services.api.errors import ApiError, InvalidRequest
from services.api.prompt import ChatTemplate, Prompt, TemplateError

SECONDS = 5.0  # of computing for one rendering; a megabyte takes some 20 ms, a hundred thousand messages two seconds


class Renderer:
    """A chat template in its child process, one rendering at a time, each at most `seconds` of computing. Close it in the end.
    `variables`, once it is started: what the template looks at."""

    def __init__(self, source: str, *, bos_token: str | None, eos_token: str | None, seconds: float = SECONDS) -> None:
        self.source = source
        self.variables: frozenset[str] = frozenset()
        self._seconds = seconds
        self._child = Child(__name__, {"source": source, "bos_token": bos_token, "eos_token": eos_token}, seconds=seconds)

    async def start(self) -> None:
        """Start the child and let it compile the template.

        Raises:
            TemplateError: it is not valid, or compiling it takes too much.
        """
        try:
            await self._child.start()
            self.variables = frozenset(_checked(self._child.begun)["variables"])
        except TooMuch:
            raise self._too_much() from None
        except ApiError:
            await self.close()
            raise

    async def render(
        self, messages: Sequence[Message], tools: Sequence[Tool] = (), thinking: bool | None = None, *, rest: bool = False
    ) -> Prompt:
        """The prompt for the next answer to a conversation, or for the `rest` of the one that it ends with.

        Raises:
            InvalidRequest: the template refuses these messages.
            TemplateError: it fails, changes the texts, or takes too much time or memory.
        """
        # schemas as JSON: its numbers may be larger than msgpack's
        wanted = {"messages": messages, "tools": json.dumps(tools, default=vars), "thinking": thinking, "rest": rest}
        try:
            reply = _checked(await self._child.ask(wanted))
        except TooMuch:
            raise self._too_much() from None
        return Prompt(tuple((bool(own), str(text)) for own, text in reply["parts"]), bool(reply["in_thought"]))

    async def close(self) -> None:
        """End the child; a rendering under way fails."""
        await self._child.close()

    def _too_much(self) -> TemplateError:
        limits = f"{self._seconds:g} s of computing or {MEMORY >> 20} MB of memory"
        return TemplateError(f"the model's chat template takes more than {limits}")


def _checked(reply: dict[str, Any]) -> dict[str, Any]:
    if kind := reply.get("error"):
        raise (InvalidRequest if kind == "InvalidRequest" else TemplateError)(reply["message"], param=reply["param"])
    return reply


# --- in the child ---


def _begin(first: dict[str, Any]) -> tuple[dict[str, Any], Callable[[Any], dict[str, Any]]]:
    """Compile the template; what renders with it."""
    try:
        template = ChatTemplate(first["source"], bos_token=first["bos_token"], eos_token=first["eos_token"])
    except ApiError as error:
        failure = _told(error)
        return failure, lambda _: failure

    def render(wanted: dict[str, Any]) -> dict[str, Any]:
        messages = [Message(**{**m, "calls": tuple(ToolCall(**call) for call in m["calls"])}) for m in wanted["messages"]]
        tools = [Tool(**tool) for tool in json.loads(wanted["tools"])]
        try:
            made = unfinished.render if wanted["rest"] else ChatTemplate.render
            prompt = made(template, messages, tools, wanted["thinking"])
            for _, text in prompt.parts:
                text.encode()
        except ApiError as error:
            return _told(error)
        except UnicodeEncodeError:
            return _told(TemplateError("the model's chat template writes broken characters"))
        return {"parts": prompt.parts, "in_thought": prompt.in_thought}

    return {"variables": sorted(template.variables)}, render


def _told(error: ApiError) -> dict[str, Any]:
    return {"error": type(error).__name__, "message": error.message, "param": error.param}


if __name__ == "__main__":
    serve(_begin)
