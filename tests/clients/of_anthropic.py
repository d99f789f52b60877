"""Anthropic's own client."""

from __future__ import annotations

import asyncio
from typing import Any

import anthropic

from tests.clients.client import MODEL, QUESTION, RIGHT, SCHEMA, Client, Product, called, refused, right


class Anthropic(Client):
    name = "anthropic `messages`"

    def home(self) -> anthropic.Anthropic:
        return anthropic.Anthropic(base_url=self.url, api_key="none", max_retries=0, timeout=60)

    def ask(self, **fields: Any) -> Any:
        body = {"model": MODEL, "messages": QUESTION, "max_tokens": 500, "extra_body": {"temperature": 0}}
        return self.home().messages.create(**{**body, **fields})

    def whole(self) -> None:
        right(self.ask().content[0].text)  # who does not name `thinking` meets no thought

    def streamed(self) -> None:
        with self.home().messages.stream(model=MODEL, messages=QUESTION, max_tokens=500, extra_body={"temperature": 0}) as stream:
            right("".join(stream.text_stream))

    def in_asyncio(self) -> None:
        async def scene() -> Any:
            async with anthropic.AsyncAnthropic(base_url=self.url, api_key="none", timeout=60) as home:
                return await home.messages.create(model=MODEL, messages=QUESTION, max_tokens=500, extra_body={"temperature": 0})

        right(asyncio.run(scene()).content[0].text)

    def thought(self) -> None:
        thought, answer = self.ask(thinking={"type": "enabled", "budget_tokens": 300}).content
        assert thought.thinking
        right(answer.text)

    def no_thought(self) -> None:
        assert [block.type for block in self.ask(thinking={"type": "disabled"}).content] == ["text"]

    def json(self) -> None:
        done = self.home().messages.parse(
            model=MODEL, messages=QUESTION, max_tokens=500, output_format=Product, extra_body={"temperature": 0}
        )
        assert isinstance(done.parsed_output, Product)

    def tools(self) -> None:
        tool = {"name": "multiply", "description": "Product of two numbers", "input_schema": SCHEMA}
        called(self.ask(tools=[tool], tool_choice={"type": "any"}).content[-1].input)

    def stop(self) -> None:
        done = self.ask(stop_sequences=[RIGHT])
        assert RIGHT not in done.content[-1].text and (done.stop_reason, done.stop_sequence) == ("stop_sequence", RIGHT)

    def count(self) -> None:
        usage = self.ask().usage
        counted = self.home().messages.count_tokens(model=MODEL, messages=QUESTION).input_tokens
        assert counted == usage.input_tokens + usage.cache_read_input_tokens and usage.output_tokens > 0

    def unknown_model(self) -> None:
        refused(lambda: self.ask(model="gpt-5"))
