"""langchain's client for OpenAI's dialects."""

from __future__ import annotations

import asyncio
from typing import Any

from langchain_openai import ChatOpenAI

from tests.clients.client import MODEL, RIGHT, TEXT, TOOL, Client, Product, called, refused, right


class LangChain(Client):
    name = "langchain `ChatOpenAI`"

    def home(self, **fields: Any) -> ChatOpenAI:
        fixed = {"base_url": f"{self.url}/v1", "api_key": "none", "model": MODEL, "temperature": 0, "max_retries": 0, "timeout": 60}
        return ChatOpenAI(**{**fixed, **fields})

    def whole(self) -> None:
        right(self.home().invoke(TEXT).text)
        right(self.home(use_responses_api=True).invoke(TEXT).text)

    def streamed(self) -> None:
        right("".join(chunk.text for chunk in self.home().stream(TEXT)))

    def in_asyncio(self) -> None:
        right(asyncio.run(self.home().ainvoke(TEXT)).text)

    def thought(self) -> None:
        """Over responses: of chat completions, this client drops everything that OpenAI's own models have not."""
        done = self.home(use_responses_api=True, reasoning={"summary": "auto"}).invoke(TEXT)
        assert [block["type"] for block in done.content_blocks] == ["reasoning", "text"]

    def no_thought(self) -> None:
        done = self.home(reasoning_effort="none").invoke(TEXT)
        thought = done.usage_metadata["output_token_details"]["reasoning"]  # type: ignore[index,typeddict-item]
        assert done.text and thought <= 2, thought  # its end counts

    def json(self) -> None:
        assert isinstance(self.home().with_structured_output(Product, method="json_schema").invoke(TEXT), Product)

    def tools(self) -> None:
        (call,) = self.home().bind_tools([TOOL], tool_choice="any").invoke(TEXT).tool_calls
        called(call["args"])

    def logprobs(self) -> None:
        done = self.home(logprobs=True, top_logprobs=2).invoke(TEXT)
        right("".join(entry["token"] for entry in done.response_metadata["logprobs"]["content"]))

    def stop(self) -> None:
        assert RIGHT not in self.home().invoke(TEXT, stop=[RIGHT]).text

    def count(self) -> None:
        usage = self.home().invoke(TEXT).usage_metadata
        assert usage and usage["output_tokens"] > 0 < usage["input_tokens"]

    def unknown_model(self) -> None:
        refused(lambda: self.home(model="gpt-5").invoke(TEXT))
