"""Tokens, types, merges and special ids, where the published tokenizers have their quirks; and what is no such tokenizer."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gguf
import pytest
from gguf import TokenType

from services.init.checkpoint import Checkpoint
from services.init.errors import CorruptFile, InitError, UnsupportedModel
from services.init.vocabulary import Vocabulary, vocabulary
from tests import checkpoints, vocabularies

ROWS = 151936


def write(folder: Path, files: vocabularies.Files, config: dict[str, Any] = checkpoints.QWEN2) -> Checkpoint:
    """A checkpoint with this tokenizer and one weight: nobody looks at weights here."""
    folder.mkdir()
    for name, content in {"config.json": config, **files}.items():
        if content is not None:
            (folder / name).write_text(json.dumps(content), encoding="utf-8")
    checkpoints.write_weights(folder, [("a", "F32", (1,), bytes(4))])
    return Checkpoint(folder)


def read(folder: Path, files: vocabularies.Files, rows: int = ROWS, *, llama: bool = False, **changes: Any) -> Vocabulary:
    return vocabulary(write(folder, files, checkpoints.QWEN2 | changes), rows, "Qwen2Tokenizer", llama=llama)


def test_deepseeks_tokenizer_decides_against_its_config(tmp_path: Path) -> None:
    found = read(tmp_path / "model", vocabularies.deepseek_qwen(), bos_token_id=151643)
    assert found.pre == "deepseek-r1-qwen"
    assert (found.special.ids["bos"], found.special.ids["eos"]) == (151646, 151643)
    assert found.special.add["bos"] is True
    kinds = {found.tokens[number]: TokenType(found.types[number]).name for number in (0, 151644, 151646, 151648, 151665, ROWS - 1)}
    assert kinds == {
        "!": "NORMAL",
        "<｜User｜>": "CONTROL",
        "<｜begin▁of▁sentence｜>": "CONTROL",
        "<think>": "USER_DEFINED",
        "[PAD151665]": "UNUSED",
        f"[PAD{ROWS - 1}]": "UNUSED",
    }


def test_merges_may_be_pairs(tmp_path: Path) -> None:
    strings = read(tmp_path / "strings", vocabularies.qwen2())
    pairs = read(tmp_path / "pairs", vocabularies.qwen2(pairs=True))
    assert pairs == strings
    assert (strings.pre, strings.special.ids) == ("qwen2", {"eos": 151645, "pad": 151643, "bos": 151643})


def test_the_config_may_mark_added_tokens_special(tmp_path: Path) -> None:
    files = vocabularies.qwen2(thinking=True)
    decoder = files["tokenizer_config.json"]["added_tokens_decoder"]
    number = next(number for number, token in decoder.items() if token["content"] == "<think>")
    decoder[number] = decoder[number] | {"special": True}
    found = read(tmp_path / "model", files)
    assert found.tokens[int(number)] == "<think>"
    assert found.types[int(number)] == TokenType.CONTROL


def test_named_templates_are_listed_in_their_order(tmp_path: Path) -> None:
    templates = [{"name": name, "template": f"{{{{ '{name}' }}}}"} for name in ("zeta", "default", "tool-use", "alpha")]
    found = read(tmp_path / "model", vocabularies.qwen2() | {"tokenizer_config.json": {"chat_template": templates}})
    writer = gguf.GGUFWriter(None, "qwen2")
    found.write(writer)
    values = {key: value.value for key, value in writer.kv_data[0].items() if "chat_template" in key}
    assert values["tokenizer.chat_templates"] == ["zeta", "tool_use", "alpha"]
    assert values["tokenizer.chat_template"] == "{{ 'default' }}"
    assert values["tokenizer.chat_template.tool_use"] == "{{ 'tool-use' }}"


def test_a_llama_with_granites_rows_gets_no_bos(tmp_path: Path) -> None:
    found = read(tmp_path / "model", vocabularies.smollm2(), 49152, llama=True)
    writer = gguf.GGUFWriter(None, "llama")
    found.write(writer)
    values = writer.kv_data[0]
    assert values["tokenizer.ggml.add_bos_token"].value is False
    assert values["tokenizer.ggml.add_space_prefix"].value is False
    assert (found.pre, found.special.ids["bos"], found.special.ids["eos"]) == ("smollm", 1, 2)


def changed(make: Callable[[], vocabularies.Files], change: Callable[[dict[str, Any]], object]) -> Callable[[], vocabularies.Files]:
    def files() -> vocabularies.Files:
        found = json.loads(json.dumps(make()))
        change(found)
        return dict(found)

    return files


def tokenizer(change: Callable[[dict[str, Any]], object]) -> Callable[[], vocabularies.Files]:
    return changed(vocabularies.synthetic, lambda files: change(files["tokenizer.json"]))


def of_class(name: str) -> Callable[[], vocabularies.Files]:
    return changed(vocabularies.synthetic, lambda files: files["tokenizer_config.json"].update(tokenizer_class=name))


WRONG: list[tuple[str, Callable[[], vocabularies.Files], type[InitError], str]] = [
    ("none", dict, UnsupportedModel, "has no tokenizer.json, no tokenizer at all"),
    ("only SentencePiece", lambda: {"tokenizer.model": "x"}, UnsupportedModel, r"only tokenizer\.model"),
    ("only the slow one", lambda: {"vocab.json": {}}, UnsupportedModel, r"only vocab\.json"),
    ("not one", lambda: {"tokenizer.json": {"a": 1}}, CorruptFile, "is not a tokenizer"),
    ("Unigram", tokenizer(lambda found: found["model"].update(type="Unigram")), UnsupportedModel, "this tokenizer is Unigram"),
    ("byte fallback", tokenizer(lambda found: found["model"].update(byte_fallback=True)), UnsupportedModel, "SentencePiece"),
    ("no bytes", tokenizer(lambda found: found.update(pre_tokenizer=None, decoder=None)), UnsupportedModel, "this tokenizer is BPE"),
    ("no vocab", tokenizer(lambda found: found["model"].pop("vocab")), CorruptFile, "can't be read by the tokenizers library"),
    (
        "unknown",
        vocabularies.synthetic,
        UnsupportedModel,
        r"the pre-tokenizer of this model is unknown \(hash [0-9a-f]{16}\); known are qwen2",
    ),
    ("class", of_class("T5TokenizerFast"), UnsupportedModel, "the tokenizer class T5Tokenizer is not known; supported are LlamaTokenizer"),
]


@pytest.mark.parametrize(("files", "error", "message"), [case[1:] for case in WRONG], ids=[case[0] for case in WRONG])
def test_other_tokenizers_are_named(tmp_path: Path, files: Callable[[], vocabularies.Files], error: type[InitError], message: str) -> None:
    with pytest.raises(error, match=message):
        read(tmp_path / "model", files())


def test_more_tokens_than_rows_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(UnsupportedModel, match=r"a token with id 49151, the model has rows for ids up to 49150 only \(vocab_size 49151\)"):
        read(tmp_path / "model", vocabularies.smollm2(), 49151)
