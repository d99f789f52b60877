"""The table of clients and features in docs/api.md: what people's clients get from a running appliance with the demo model.

tests/test_clients.py compares what they find with what stands there, and writes it with --write-table.
"""

from __future__ import annotations

from pathlib import Path

from tests.clients.client import Client
from tests.clients.of_anthropic import Anthropic
from tests.clients.of_langchain import LangChain
from tests.clients.of_litellm import LiteLLMAnthropic, LiteLLMOllama, LiteLLMOpenAI
from tests.clients.of_ollama import OllamaChat, OllamaGenerate
from tests.clients.of_openai import OpenAIChat, OpenAICompletions, OpenAIResponses

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
PAGE = Path(__file__).resolve().parents[2] / "docs/api.md"
BEGIN, END = "<!-- made by pytest tests/test_clients.py --write-table -->\n", "<!-- end -->\n"
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
