"""litellm, which speaks each of the dialects."""

from __future__ import annotations

import asyncio
import os
from typing import Any

from tests.clients.client import MODEL, QUESTION, RIGHT, SCHEMA, TOOL, Client, Product, called, refused, right

os.environ["LITELLM_LOCAL_MODEL_COST_MAP"] = "True"  # else it fetches a list of prices from the web when it is imported
import litellm

litellm.suppress_debug_info = True


class LiteLLM(Client):
    """What all of its styles have."""

    style, path = "openai/", "/v1"

    def options(self, **fields: Any) -> dict[str, Any]:
        base = {"model": f"{self.style}{MODEL}", "api_base": self.url + self.path, "api_key": "none", "messages": QUESTION}
        return {**base, "temperature": 0, "num_retries": 0, "timeout": 60, **fields}

    def ask(self, **fields: Any) -> Any:
        return litellm.completion(**self.options(**fields))

    def whole(self) -> None:
        right(self.ask().choices[0].message.content)

    def streamed(self) -> None:
        right("".join(chunk.choices[0].delta.content or "" for chunk in self.ask(stream=True)))

    def in_asyncio(self) -> None:
        done: Any = asyncio.run(litellm.acompletion(**self.options()))
        right(done.choices[0].message.content)

    def thought(self) -> None:
        assert self.ask().choices[0].message.reasoning_content

    def json(self) -> None:
        form = {"type": "json_schema", "json_schema": {"name": "Product", "schema": SCHEMA, "strict": True}}
        Product.model_validate_json(self.ask(response_format=form).choices[0].message.content)

    def stop(self) -> None:
        assert RIGHT not in self.ask(stop=[RIGHT]).choices[0].message.content

    def count(self) -> None:
        usage = self.ask().usage
        assert usage.completion_tokens > 0 < usage.prompt_tokens

    def unknown_model(self) -> None:
        refused(lambda: self.ask(model=f"{self.style}gpt-5"))


class LiteLLMOpenAI(LiteLLM):
    name = "litellm `openai/`"

    def no_thought(self) -> None:
        message = self.ask(extra_body={"reasoning_effort": "none"}).choices[0].message
        assert message.content and not getattr(message, "reasoning_content", None)

    def logprobs(self) -> None:
        right("".join(entry.token for entry in self.ask(logprobs=True, top_logprobs=2).choices[0].logprobs.content))

    def tools(self) -> None:
        (call,) = self.ask(tools=[TOOL], tool_choice="required").choices[0].message.tool_calls
        called(call.function.arguments)


class LiteLLMOllama(LiteLLM):
    name = "litellm `ollama_chat/`"
    style, path = "ollama_chat/", ""

    def no_thought(self) -> None:
        message = self.ask(think=False).choices[0].message
        assert message.content and not getattr(message, "reasoning_content", None)

    def tools(self) -> None:
        """As with Ollama's own client."""
        read = self.ask(tools=[TOOL], max_tokens=1).usage.prompt_tokens
        assert read > self.ask(max_tokens=1).usage.prompt_tokens


class LiteLLMAnthropic(LiteLLM):
    name = "litellm `anthropic/`"
    style, path = "anthropic/", ""

    def thought(self) -> None:
        thinking = {"type": "enabled", "budget_tokens": 300}
        assert self.ask(thinking=thinking, allowed_openai_params=["thinking"]).choices[0].message.reasoning_content

    def no_thought(self) -> None:
        message = self.ask(thinking={"type": "disabled"}, allowed_openai_params=["thinking"]).choices[0].message
        assert message.content and not getattr(message, "reasoning_content", None)

    def tools(self) -> None:
        (call,) = self.ask(tools=[TOOL], tool_choice="required").choices[0].message.tool_calls
        called(call.function.arguments)
