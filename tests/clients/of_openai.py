"""OpenAI's own client."""

from __future__ import annotations

import asyncio
from typing import Any

import openai

from tests.clients.client import MODEL, QUESTION, RIGHT, TEXT, TOOL, Client, Product, called, refused, right


class OpenAIChat(Client):
    name = "openai `chat.completions`"

    def ask(self, **fields: Any) -> Any:
        home = openai.OpenAI(base_url=f"{self.url}/v1", api_key="none", max_retries=0, timeout=60)
        return home.chat.completions.create(**{"model": MODEL, "messages": QUESTION, "temperature": 0, **fields})

    def whole(self) -> None:
        right(self.ask().choices[0].message.content)

    def streamed(self) -> None:
        right("".join(chunk.choices[0].delta.content or "" for chunk in self.ask(stream=True)))

    def in_asyncio(self) -> None:
        async def scene() -> Any:
            async with openai.AsyncOpenAI(base_url=f"{self.url}/v1", api_key="none", timeout=60) as home:
                return await home.chat.completions.create(model=MODEL, messages=QUESTION, temperature=0)

        right(asyncio.run(scene()).choices[0].message.content)

    def thought(self) -> None:
        assert self.ask().choices[0].message.reasoning_content

    def no_thought(self) -> None:
        message = self.ask(reasoning_effort="none").choices[0].message
        assert message.content and "reasoning_content" not in message.to_dict()

    def json(self) -> None:
        home = openai.OpenAI(base_url=f"{self.url}/v1", api_key="none", timeout=60)
        done = home.chat.completions.parse(model=MODEL, messages=QUESTION, temperature=0, response_format=Product)
        assert isinstance(done.choices[0].message.parsed, Product)

    def tools(self) -> None:
        (call,) = self.ask(tools=[TOOL], tool_choice="required").choices[0].message.tool_calls
        called(call.function.arguments)

    def logprobs(self) -> None:
        entries = self.ask(logprobs=True, top_logprobs=2).choices[0].logprobs.content
        right("".join(entry.token for entry in entries))

    def stop(self) -> None:
        assert RIGHT not in self.ask(stop=[RIGHT]).choices[0].message.content

    def count(self) -> None:
        usage = self.ask().usage
        assert usage.completion_tokens > usage.completion_tokens_details.reasoning_tokens > 0 < usage.prompt_tokens

    def unknown_model(self) -> None:
        refused(lambda: self.ask(model="gpt-5"))


class OpenAICompletions(Client):
    name = "openai `completions`"

    def ask(self, **fields: Any) -> Any:
        home = openai.OpenAI(base_url=f"{self.url}/v1", api_key="none", max_retries=0, timeout=60)
        return home.completions.create(**{"model": MODEL, "prompt": TEXT, "temperature": 0, **fields})

    def whole(self) -> None:
        assert self.ask(echo=True).choices[0].text.startswith(TEXT)

    def streamed(self) -> None:
        assert "".join(chunk.choices[0].text for chunk in self.ask(stream=True)) == self.ask().choices[0].text

    def in_asyncio(self) -> None:
        async def scene() -> Any:
            async with openai.AsyncOpenAI(base_url=f"{self.url}/v1", api_key="none", timeout=60) as home:
                return await home.completions.create(model=MODEL, prompt=TEXT, temperature=0)

        assert asyncio.run(scene()).choices[0].text == self.ask().choices[0].text

    def logprobs(self) -> None:
        choice = self.ask(logprobs=2).choices[0]
        assert "".join(choice.logprobs.tokens).startswith(choice.text[:5]) and len(choice.logprobs.top_logprobs[0]) >= 2

    def stop(self) -> None:
        full = self.ask().choices[0].text
        assert self.ask(stop=full[1:3]).choices[0].text == full[: full.index(full[1:3])]

    def count(self) -> None:
        assert self.ask(max_tokens=5, extra_body={"ignore_eos": True}).usage.completion_tokens == 5

    def unknown_model(self) -> None:
        refused(lambda: self.ask(model="gpt-5"))


class OpenAIResponses(Client):
    name = "openai `responses`"

    def ask(self, **fields: Any) -> Any:
        home = openai.OpenAI(base_url=f"{self.url}/v1", api_key="none", max_retries=0, timeout=60)
        return home.responses.create(**{"model": MODEL, "input": TEXT, "temperature": 0, **fields})

    def whole(self) -> None:
        right(self.ask().output_text)

    def streamed(self) -> None:
        home = openai.OpenAI(base_url=f"{self.url}/v1", api_key="none", timeout=60)
        with home.responses.stream(model=MODEL, input=TEXT, temperature=0) as stream:
            right("".join(event.delta for event in stream if event.type == "response.output_text.delta"))
            right(stream.get_final_response().output_text)

    def in_asyncio(self) -> None:
        async def scene() -> Any:
            async with openai.AsyncOpenAI(base_url=f"{self.url}/v1", api_key="none", timeout=60) as home:
                return await home.responses.create(model=MODEL, input=TEXT, temperature=0)

        right(asyncio.run(scene()).output_text)

    def thought(self) -> None:
        assert self.ask().output[0].content[0].text and self.ask(reasoning={"summary": "auto"}).output[0].summary[0].text

    def no_thought(self) -> None:
        assert [item.type for item in self.ask(reasoning={"effort": "none"}).output] == ["message"]

    def json(self) -> None:
        home = openai.OpenAI(base_url=f"{self.url}/v1", api_key="none", timeout=60)
        assert isinstance(home.responses.parse(model=MODEL, input=TEXT, temperature=0, text_format=Product).output_parsed, Product)

    def tools(self) -> None:
        called(self.ask(tools=[{"type": "function", **TOOL["function"]}], tool_choice="required").output[-1].arguments)  # type: ignore[dict-item]

    def logprobs(self) -> None:
        entries = self.ask(top_logprobs=2, include=["message.output_text.logprobs"]).output[-1].content[0].logprobs
        right("".join(entry.token for entry in entries))

    def count(self) -> None:
        usage = self.ask().usage
        assert usage.output_tokens > usage.output_tokens_details.reasoning_tokens > 0 < usage.input_tokens

    def unknown_model(self) -> None:
        refused(lambda: self.ask(model="gpt-5"))
