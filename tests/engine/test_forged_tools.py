"""The forged-prompt corpus in tools: names, descriptions, schemas, calls, arguments and results are text like any other."""

from __future__ import annotations

import itertools
import json
import random
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any

import jinja2
import pytest
from jinja2.ext import loopcontrols

from services.api.conversation import Message, Tool, ToolCall
from tests import templates
from tests.engine.test_forged import Bench, bench
from tests.families import CLOSE, OPEN, Family, families
from tests.forged import disguises, plain_forms

FIELDS = ("tool", "description", "key", "about", "enum", "call", "argument", "value", "nested", "result", "content")
TABLES = {
    "Qwen2.5": templates.QWEN3_TOOLS,
    "Qwen3": templates.QWEN3_TOOLS,
    "Llama 3": templates.LLAMA3_TOOLS,
    "SmolLM2": templates.HERMES_TOOLS,
}
Mark = Callable[[str], str]


@dataclass(frozen=True)
class Said:
    """A conversation with a tool in which one field, of FIELDS, holds a forged text."""

    field: str
    text: str

    def _in(self, field: str, plain: str) -> str:
        return plain + self.text if field == self.field else plain

    @property
    def schema(self) -> dict[str, Any]:
        about = {"type": "string", "description": self._in("about", "Where"), "enum": ["Rome", self._in("enum", "Oslo")]}
        return {"type": "object", "properties": {self._in("key", "city"): about}, "required": [self._in("key", "city")]}

    @property
    def arguments(self) -> dict[str, Any]:
        nested = {"a": [1, {"b": self._in("nested", "c")}]}
        return {self._in("argument", "city"): self._in("value", "Rome"), "more": nested}

    def conversation(self) -> tuple[list[Message], list[Tool]]:
        call = ToolCall("call-1", self._in("call", "weather"), json.dumps(self.arguments))
        said = [Message("user", self._in("content", "Look.")), Message("assistant", "", (call,))]
        said += [Message("tool", self._in("result", "Rain"), call_id="call-1"), Message("user", "And?")]
        return said, [Tool(self._in("tool", "weather"), self._in("description", "Tells it"), self.schema)]

    def variables(self, mark: Mark) -> dict[str, Any]:
        """What a template gets, with its forged texts marked."""

        def forged(value: Any) -> Any:
            if isinstance(value, dict):
                return {forged(key): forged(inner) for key, inner in value.items()}
            if isinstance(value, list):
                return [forged(inner) for inner in value]
            return mark(value) if isinstance(value, str) and self.text in value else value

        (question, _, result, last), (tool,) = self.conversation()
        function = {"name": self._in("call", "weather"), "arguments": self.arguments}
        calls = {"role": "assistant", "content": None, "tool_calls": [{"id": "call-1", "type": "function", "function": function}]}
        turns = [{"role": "user", "content": question.content}, calls, {"role": "tool", "content": result.content}]
        turns.append({"role": "user", "content": last.content})
        described = {"name": tool.name, "description": tool.description, "parameters": self.schema}
        found: dict[str, Any] = forged({"messages": turns, "tools": [{"type": "function", "function": described}]})
        return found


def expected(family: Family, said: Said) -> list[tuple[bool, str]]:
    """(the template's own?, text), by Jinja alone. A quote in the marker shows where the template writes JSON."""
    texts: list[str] = []

    def mark(text: str) -> str:
        texts.append(text)
        return f'{OPEN}{len(texts) - 1}"{CLOSE}'

    environment = jinja2.Environment(trim_blocks=True, lstrip_blocks=True, extensions=[loopcontrols])
    environment.filters["tojson"] = lambda value, indent=None: json.dumps(value, ensure_ascii=False, indent=indent)
    template = environment.from_string(family.template)
    rendered = template.render(**said.variables(mark), add_generation_prompt=True, bos_token=family.bos, eos_token=family.eos)
    pieces = re.split(rf'{OPEN}([0-9]+)(\\?"){CLOSE}', rendered)
    prompt = [(True, pieces[0])]
    for number, quoted, after in zip(pieces[1::3], pieces[2::3], pieces[3::3], strict=True):
        text = texts[int(number)]
        if quoted != '"':
            text = json.dumps(text, ensure_ascii=False)[1:-1]
        elif family.trims:
            text = text.strip()
        prompt += [(False, text), (True, after)]
    return prompt


@pytest.fixture(scope="module", params=[family for family in families() if family.name in TABLES], ids=lambda family: family.name)
def table(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    yield from bench(replace(request.param, template=TABLES[request.param.name]), tmp_path_factory.mktemp("vocabulary"))


def cases(family: Family) -> Iterator[Said]:
    tokens, source = [text for text in family.added if "reserved" not in text], random.Random(family.name)
    for token in tokens:
        forms = plain_forms(token, source.choice(tokens)) | disguises(token)
        for number, text in enumerate(forms.values()):
            for at in range(2):
                yield Said(FIELDS[(number + at * 5) % len(FIELDS)], text)


def test_nobody_forges_a_token_by_tools(table: Bench) -> None:
    """A sixth of the corpus: a rendering with tools takes 10 ms."""
    wrong: list[tuple[str, Said]] = []
    count = 0
    added = set(table.vocabulary.added.values())
    for said in itertools.islice(cases(table.family), 0, None, 6):
        count += 1
        messages, tools = said.conversation()
        wanted = expected(table.family, said)
        tokens = table.tokenizer.encode(table.template.render(messages, tools).parts)
        if [token for token in tokens if token in added] != table.reference.special(wanted):
            wrong.append(("a token was forged, or lost", said))
        elif b"".join(table.vocabulary.pieces[token] for token in tokens).decode() != "".join(text for _, text in wanted):
            wrong.append(("the text was changed", said))
        elif tokens != table.reference.tokens(wanted):
            wrong.append(("other tokens than the reference's", said))
    assert not wrong, (len(wrong), wrong[:3])
    assert count > 350
