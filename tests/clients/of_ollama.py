"""Ollama's own client."""

from __future__ import annotations

import asyncio
from typing import Any

import ollama

from tests.clients.client import MODEL, QUESTION, RIGHT, SCHEMA, TEXT, TOOL, Client, Product, refused, right


class OllamaChat(Client):
    name = "ollama `chat`"

    def ask(self, **fields: Any) -> Any:
        options = {"temperature": 0, **fields.pop("options", {})}
        return ollama.Client(host=self.url, timeout=60).chat(**{"model": MODEL, "messages": QUESTION, "options": options, **fields})

    def whole(self) -> None:
        right(self.ask().message.content)

    def streamed(self) -> None:
        right("".join(part.message.content for part in self.ask(stream=True)))

    def in_asyncio(self) -> None:
        done: Any = asyncio.run(ollama.AsyncClient(host=self.url, timeout=60).chat(MODEL, QUESTION, options={"temperature": 0}))
        right(done.message.content)

    def thought(self) -> None:
        assert self.ask(think=True).message.thinking

    def no_thought(self) -> None:
        message = self.ask(think=False).message
        assert message.content and not message.thinking

    def json(self) -> None:
        Product.model_validate_json(self.ask(format=SCHEMA).message.content)

    def tools(self) -> None:
        """The dialect can't force a call, and the demo makes none of its own: tools, a call and its result are read."""
        call = {"role": "assistant", "tool_calls": [{"function": {"name": "multiply", "arguments": {"product": 102}}}]}
        turns = [*QUESTION, call, {"role": "tool", "tool_name": "multiply", "content": TEXT}]
        options = {"num_predict": 1}
        read = self.ask(messages=turns, tools=[TOOL], options=options).prompt_eval_count
        assert read > self.ask(messages=turns, options=options).prompt_eval_count > self.ask(options=options).prompt_eval_count

    def logprobs(self) -> None:
        right("".join(entry.token for entry in self.ask(logprobs=True, top_logprobs=2).logprobs))

    def stop(self) -> None:
        assert RIGHT not in self.ask(options={"stop": [RIGHT]}).message.content

    def count(self) -> None:
        done = self.ask()
        assert done.eval_count > 0 < done.prompt_eval_count and done.total_duration >= done.eval_duration > 0

    def unknown_model(self) -> None:
        refused(lambda: self.ask(model="gpt-5"))


class OllamaGenerate(Client):
    name = "ollama `generate`"

    def ask(self, **fields: Any) -> Any:
        options = {"temperature": 0, **fields.pop("options", {})}
        return ollama.Client(host=self.url, timeout=60).generate(**{"model": MODEL, "prompt": TEXT, "options": options, **fields})

    def whole(self) -> None:
        right(self.ask().response)
        assert self.ask(raw=True, options={"num_predict": 5}).response is not None

    def streamed(self) -> None:
        right("".join(part.response for part in self.ask(stream=True)))

    def in_asyncio(self) -> None:
        done: Any = asyncio.run(ollama.AsyncClient(host=self.url, timeout=60).generate(MODEL, TEXT, options={"temperature": 0}))
        right(done.response)

    def thought(self) -> None:
        assert self.ask(think=True).thinking

    def no_thought(self) -> None:
        done = self.ask(think=False)
        assert done.response and not done.thinking

    def json(self) -> None:
        Product.model_validate_json(self.ask(format=SCHEMA).response)

    def logprobs(self) -> None:
        right("".join(entry.token for entry in self.ask(logprobs=True).logprobs))

    def stop(self) -> None:
        assert RIGHT not in self.ask(options={"stop": [RIGHT]}).response

    def count(self) -> None:
        done = self.ask()
        assert done.eval_count > 0 < done.prompt_eval_count and done.total_duration >= done.eval_duration > 0

    def unknown_model(self) -> None:
        refused(lambda: self.ask(model="gpt-5"))
