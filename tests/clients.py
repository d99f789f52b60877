"""What people's clients get from a running appliance with the demo model: one class a client, one method a feature.

tests/test_clients.py compares what they find with the table in docs/api.md, and writes it with --write-table.
"""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import anthropic
import ollama
import openai
from langchain_openai import ChatOpenAI
from pydantic import BaseModel

os.environ["LITELLM_LOCAL_MODEL_COST_MAP"] = "True"  # else it fetches a list of prices from the web when it is imported
import litellm

litellm.suppress_debug_info = True

FEATURES = {
    "whole": "whole answer",
    "streamed": "streamed",
    "in_asyncio": "asyncio",
    "thought": "thought apart",
    "no_thought": "thinking off",
    "json": "JSON schema",
    "tools": "tools",
    "logprobs": "logprobs",
    "stop": "stop",
    "count": "token counts",
    "unknown_model": "errors",
}
PAGE = Path(__file__).resolve().parents[1] / "docs/api.md"
BEGIN, END = "<!-- made by pytest tests/test_clients.py --write-table -->\n", "<!-- end -->\n"
MODEL, TEXT = "demo", "What is 17 × 6?"
QUESTION: list[Any] = [{"role": "user", "content": TEXT}]
SCHEMA = {"type": "object", "properties": {"product": {"type": "integer"}}, "required": ["product"], "additionalProperties": False}
TOOL = {"type": "function", "function": {"name": "multiply", "description": "Product of two numbers", "parameters": SCHEMA}}
RIGHT = "102"


class Product(BaseModel):
    product: int


def right(text: Any) -> None:
    """The answer is told, and nothing of the thought."""
    assert RIGHT in str(text) and "think>" not in str(text), text


def called(arguments: Any) -> None:
    """A tool is called as its schema wants it."""
    found = json.loads(arguments) if isinstance(arguments, str) else arguments
    assert isinstance(found["product"], int), arguments


def refused(ask: Callable[[], Any]) -> None:
    """A model that is not here is named by an error of the client's."""
    try:
        ask()
    except Exception as error:
        assert "gpt-5" in str(error), error
        return
    raise AssertionError("a model that is not here answered")


class Client:
    name = ""

    def __init__(self, url: str) -> None:
        self.url = url


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


CLIENTS = (
    *(OpenAIChat, OpenAICompletions, OpenAIResponses, Anthropic, OllamaChat, OllamaGenerate),
    *(LiteLLMOpenAI, LiteLLMOllama, LiteLLMAnthropic, LangChain),
)


def cell(client: Client, feature: str) -> str:
    """Try one feature: yes, what went wrong, or nothing where the client or its dialect has no such thing."""
    attempt = getattr(client, feature, None)
    if attempt is None:
        return ""
    try:
        attempt()
    except Exception as error:
        return f"no: {type(error).__name__} {str(error)[:200]}".replace("\n", " ").replace("|", "/")
    return "yes"


def table(url: str) -> str:
    """All clients by all features."""
    rows = [["", *FEATURES.values()], ["---", *("---" for _ in FEATURES)]]
    rows += [[kind.name, *(cell(kind(url), feature) for feature in FEATURES)] for kind in CLIENTS]
    return "".join(f"| {' | '.join(row)} |\n" for row in rows)


def committed() -> str:
    """The table as it stands in docs/api.md."""
    return PAGE.read_text(encoding="utf-8").partition(BEGIN)[2].partition(END)[0]


def write(made: str) -> None:
    """Put it there."""
    before, _, rest = PAGE.read_text(encoding="utf-8").partition(BEGIN)
    PAGE.write_text(before + BEGIN + made + END + rest.partition(END)[2], encoding="utf-8")
