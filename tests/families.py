"""The vocabularies that models use here, each with a chat template; and what a model has to see of a conversation.

`Family` is a vocabulary with its template, `Reference` the oracle: the `tokenizers` library's tokens of the template's own text, plus
everybody's text as text.
"""

from __future__ import annotations

import functools
import json
import lzma
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gguf
import jinja2
from gguf import GGUFWriter, TokenType
from jinja2.ext import loopcontrols
from tokenizers import Tokenizer

from services.api.conversation import Message
from services.init.checkpoint import Checkpoint
from services.init.special import Special
from services.init.vocabulary import Vocabulary, vocabulary
from tests import checkpoints, vocabularies

# --- vocabularies and templates ---

BOS, EOS = "<｜begin▁of▁sentence｜>", "<｜end▁of▁sentence｜>"
CHATML = (
    "{% for m in messages %}{% if m.role == 'tool' %}<|im_start|>user\n<tool_response>\n{{ m.content }}\n</tool_response><|im_end|>\n"
    "{% else %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endif %}{% endfor %}<|im_start|>assistant\n"
)
LLAMA3 = (
    "{{ bos_token }}{% for m in messages %}<|start_header_id|>{{ 'ipython' if m.role == 'tool' else m.role }}<|end_header_id|>\n\n"
    "{{ m.content | trim }}<|eot_id|>{% endfor %}<|start_header_id|>assistant<|end_header_id|>\n\n"
)
DEEPSEEK = (
    "{{ bos_token }}{% for m in messages if m.role == 'system' %}{{ m.content }}{% endfor %}{% for m in messages %}"
    "{% if m.role == 'user' %}<｜User｜>{{ m.content }}{% elif m.role == 'assistant' %}<｜Assistant｜>{{ m.content }}<｜end▁of▁sentence｜>"
    "{% elif m.role == 'tool' %}<｜tool▁output▁begin｜>{{ m.content }}<｜tool▁output▁end｜>{% endif %}{% endfor %}<｜Assistant｜><think>\n"
)
LLAMA3_NAMED = [
    "<|begin_of_text|>",
    "<|end_of_text|>",
    "<|reserved_special_token_0|>",
    "<|reserved_special_token_1|>",
    "<|finetune_right_pad_id|>",
    "<|reserved_special_token_2|>",
    "<|start_header_id|>",
    "<|end_header_id|>",
    "<|eom_id|>",
    "<|eot_id|>",
    "<|python_tag|>",
]


@dataclass(frozen=True)
class Family:
    """A vocabulary with its template. `trims`: the template cuts white space off the edges of contents. `roles`: whom it lets speak."""

    name: str
    files: Callable[[], vocabularies.Files]
    template: str
    bos: str = ""
    eos: str = ""
    trims: bool = False
    roles: tuple[str, ...] = ("system", "user", "assistant", "tool")
    pre: str = ""  # llama.cpp's pre-tokenizer where init can't find out, as the vocabulary is put together

    @functools.cached_property
    def raw(self) -> dict[str, Any]:
        """tokenizer.json."""
        found: dict[str, Any] = self.files()["tokenizer.json"]
        return found

    @functools.cached_property
    def added(self) -> dict[str, int]:
        """Text → id of every added token."""
        return {token["content"]: token["id"] for token in self.raw["added_tokens"]}

    def write(self, path: Path) -> Path:
        """A GGUF of nothing but this vocabulary, made by init's own reading of the tokenizer."""
        writer = GGUFWriter(path, "llama")
        self._vocabulary(path.parent / f"{path.stem}-checkpoint").write(writer)
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.close()
        return path

    def _vocabulary(self, folder: Path) -> Vocabulary:
        files = self.files()
        if self.pre:
            return self._put_together()
        folder.mkdir()
        rows = 1 + max(*self.raw["model"]["vocab"].values(), *self.added.values())
        for name, content in {"config.json": checkpoints.QWEN2, **files}.items():
            (folder / name).write_text(json.dumps(content), encoding="utf-8")
        checkpoints.write_weights(folder, [("a", "F32", (1,), bytes(4))])
        return vocabulary(Checkpoint(folder), rows, "Qwen2Tokenizer", llama=False)

    def _put_together(self) -> Vocabulary:
        model = self.raw["model"]
        ids = {number: text for text, number in (model["vocab"] | self.added).items()}
        flags = {token["id"]: token["special"] for token in self.raw["added_tokens"]}
        kinds = {None: TokenType.NORMAL, True: TokenType.CONTROL, False: TokenType.USER_DEFINED}
        types = [int(kinds[flags.get(number)]) for number in range(len(ids))]
        special = Special({"bos": self.added[self.bos], "eos": self.added[self.eos]}, {})
        return Vocabulary([ids[n] for n in range(len(ids))], types, model["merges"], self.pre, special, None, None, True)


def _r1_template() -> str:
    data = lzma.decompress((vocabularies.DEMO / "tokenizer_config.json.xz").read_bytes())
    return str(json.loads(data)["chat_template"])


def _llama3() -> vocabularies.Files:
    """Llama 3's added tokens and its way of splitting, over Qwen2's words: its own are not at hand everywhere."""
    files = vocabularies.qwen2()
    model = files["tokenizer.json"]["model"]
    first = len(model["vocab"])
    names = LLAMA3_NAMED + [f"<|reserved_special_token_{number}|>" for number in range(3, 248)]
    entries = [vocabularies.added(first + number, text, True) for number, text in enumerate(names)]
    pre = vocabularies.split(vocabularies.CONTRACTIONS + r"\p{N}{1,3}" + vocabularies.REST)
    return {"tokenizer.json": vocabularies.tokenizer_json({**model, "ignore_merges": True}, entries, pre, None)}


def _r1_llama() -> vocabularies.Files:
    """DeepSeek-R1-Distill-Llama's: of its added tokens some are not marked as special."""
    files = _llama3()
    renamed = {0: BOS, 1: EOS, 11: "<｜User｜>", 12: "<｜Assistant｜>", 13: "<think>", 14: "</think>"}
    renamed |= {15: "<｜tool▁output▁begin｜>", 16: "<｜tool▁output▁end｜>"}
    entries = files["tokenizer.json"]["added_tokens"]
    for number, text in renamed.items():
        entries[number] |= {"content": text, "special": "think" not in text}
    return files


def _smollm2_template() -> str:
    return str(gguf.GGUFReader(vocabularies.smollm2_gguf()).fields["tokenizer.chat_template"].contents())


@functools.cache
def families(llama3: Path | None = None) -> tuple[Family, ...]:
    """R1, Qwen2.5, Qwen3, Llama 3, R1 on Llama and SmolLM2; with `llama3`, a GGUF of Llama 3's vocabulary, that one in its own words."""
    words = (lambda: vocabularies.llama3(llama3), lambda: vocabularies.llama3(llama3, deepseek=True)) if llama3 else (_llama3, _r1_llama)
    return (
        Family("R1", vocabularies.deepseek_qwen, _r1_template(), BOS, EOS, roles=("system", "user", "assistant")),
        Family("Qwen2.5", vocabularies.qwen2, CHATML, eos="<|im_end|>"),
        Family("Qwen3", lambda: vocabularies.qwen2(thinking=True), CHATML, eos="<|im_end|>"),
        Family("Llama 3", words[0], LLAMA3, "<|begin_of_text|>", "<|eot_id|>", trims=True, pre="llama-bpe"),
        Family("R1 Llama", words[1], DEEPSEEK, BOS, EOS, pre="llama-bpe"),
        Family("SmolLM2", vocabularies.smollm2, _smollm2_template(), eos="<|im_end|>", roles=("system", "user", "assistant")),
    )


# --- what the model has to see ---

OPEN, CLOSE = "\ue000", "\ue001"  # of private use; no case has them


class Reference:
    """The `tokenizers` library with the added tokens under names of private use, which nobody's text has: so all text is plain text,
    the template's own control tokens are tokens, and merges go across the borders as they do without any forgery. Its normalizer (NFC,
    Qwen's) is left out: llama.cpp knows none, texts stay as they are."""

    def __init__(self, family: Family) -> None:
        self.family = family
        secret = {text: f"{OPEN}{number}{CLOSE}" for text, number in family.added.items()}
        entries = [token | {"content": secret[token["content"]], "special": True} for token in family.raw["added_tokens"]]
        changed = {"added_tokens": entries, "normalizer": None, "post_processor": None}
        self._tokenizer = Tokenizer.from_str(json.dumps(family.raw | changed))
        self._ids = {self._tokenizer.token_to_id(name): family.added[text] for text, name in secret.items()}
        self._secret = secret
        self._names = re.compile("|".join(map(re.escape, sorted(family.added, key=len, reverse=True))))
        environment = jinja2.Environment(trim_blocks=True, lstrip_blocks=True, extensions=[loopcontrols])
        self._template = environment.from_string(family.template)

    def prompt(self, messages: Sequence[Message]) -> list[tuple[bool, str]]:
        """(the template's own?, text): the plain template with a place for each content, and the contents in their places."""
        contents = [_kept(m) for m in messages]
        places = [{"role": m.role, "content": f"{OPEN}{number}{CLOSE}" if contents[number] else ""} for number, m in enumerate(messages)]
        text = self._template.render(messages=places, add_generation_prompt=True, bos_token=self.family.bos, eos_token=self.family.eos)
        pieces = re.split(f"{OPEN}([0-9]+){CLOSE}", text)
        trim = str.strip if self.family.trims else str
        return [(at % 2 == 0, piece if at % 2 == 0 else trim(contents[int(piece)])) for at, piece in enumerate(pieces)]

    def tokens(self, prompt: Sequence[tuple[bool, str]]) -> list[int]:
        """What a model sees of it."""
        text = "".join(self._names.sub(lambda found: self._secret[found.group()], text) if own else text for own, text in prompt)
        return [self._ids.get(token, token) for token in self._tokenizer.encode(text, add_special_tokens=False).ids]

    def special(self, prompt: Sequence[tuple[bool, str]]) -> list[int]:
        """The added tokens that the template itself has put there."""
        return [self.family.added[name] for own, text in prompt if own for name in self._names.findall(text)]


def _kept(message: Message) -> str:
    """Old thoughts are no part of a prompt."""
    text = message.content
    return text.rpartition("</think>")[2].lstrip("\n") if message.role == "assistant" and "</think>" in text else text
