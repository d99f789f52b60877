"""The tokenizer as GGUF wants it: tokens, their types, merges, the pre-tokenizer's name, special ids and the chat template.

Owns what transformers and llama.cpp's converter make of tokenizer.json and tokenizer_config.json, computed with the `tokenizers`
library alone. Byte-level BPE only. Knows nothing of weights.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from string import ascii_letters, digits
from typing import Any, cast

from gguf import GGUFWriter, Keys, TokenType
from tokenizers import AddedToken, Tokenizer

from services.init.architectures import WAY_OUT
from services.init.checkpoint import Checkpoint
from services.init.errors import CorruptFile, UnsupportedModel
from services.init.special import Special, content, special_tokens

# llama.cpp knows a pre-tokenizer by the hash of the ids that this text gives: the text and the hashes are its protocol
# (conversion/base.py, get_vocab_base_pre).
PROBE = (
    "\n \n\n \n\n\n \t \t\t \t\n  \n   \n    \n     \n🚀 (normal) 😶\u200d🌫️ (multiple emojis concatenated) ✅ 🦙🦙 "
    "3 33 333 3333 33333 333333 3333333 33333333 3.3 3..3 3...3 កាន់តែពិសេសអាច😁 ?我想在apple工作1314151天～ "
    "------======= нещо на Български ''''''```````\"\"\"\"......!!!!!!?????? I've been 'told he's there, 'RE you sure? "
    "'M not sure I'll make it, 'D you like some tea? We'Ve a'lL"
)
PRE_TOKENIZERS = {
    "e636dc30a262dcc0d8c323492e32ae2b70728f4df7dfe9737d9f920a282b8aea": "qwen2",  # Qwen1.5, Qwen2, Qwen2.5, Qwen3
    "d4540891389ea895b53b399da6ac824becc30f2fba0e9ddbb98f92e55ca0e97c": "qwen2",  # Qwen3 with an end token added
    "b3f499bb4255f8ca19fccd664443283318f2fd2414d5e0b040fbdd0cc195d6c5": "deepseek-r1-qwen",  # DeepSeek-R1-Distill-Qwen
    "0ef9807a4087ebef797fc749390439009c3b9eda9ad1a097abbe738f486c01e5": "llama-bpe",  # Llama 3, DeepSeek-R1-Distill-Llama
    "855059429035d75a914d1eda9f10a876752e281a054a7a3d421ef0533e5b6249": "smollm",  # SmolLM, SmolLM2
    "049ecf7629871e3041641907f3de7c733e4dbfdc736f57d882ba0b0845599754": "deepseek-llm",
    "347715f544604f9118bb75ed199f68779f423cabb20db6de6f31b908d04d7821": "deepseek-coder",
}

# Special tokens that a transformers tokenizer class assumes when tokenizer_config.json does not name them.
CLASS_DEFAULTS: dict[str, dict[str, str]] = {
    "LlamaTokenizer": {"unk_token": "<unk>", "bos_token": "<s>", "eos_token": "</s>"},
    "Qwen2Tokenizer": dict.fromkeys(("unk_token", "eos_token", "pad_token"), "<|endoftext|>"),
    "GPT2Tokenizer": dict.fromkeys(("unk_token", "bos_token", "eos_token"), "<|endoftext|>"),
    "PreTrainedTokenizer": {},
    "TokenizersBackend": {},  # what transformers 5 writes
}
SPECIAL = ("bos_token", "eos_token", "unk_token", "sep_token", "pad_token", "cls_token", "mask_token")
ID_KEYS = {
    "bos": Keys.Tokenizer.BOS_ID,
    "eos": Keys.Tokenizer.EOS_ID,
    "eot": Keys.Tokenizer.EOT_ID,
    "eom": Keys.Tokenizer.EOM_ID,
    "unk": Keys.Tokenizer.UNK_ID,
    "sep": Keys.Tokenizer.SEP_ID,
    "pad": Keys.Tokenizer.PAD_ID,
    "mask": Keys.Tokenizer.MASK_ID,
}
ADD_KEYS = {"bos": Keys.Tokenizer.ADD_BOS, "eos": Keys.Tokenizer.ADD_EOS, "sep": Keys.Tokenizer.ADD_SEP}
GRANITE_ROWS = 49152  # llama.cpp's converter takes a Llama with this many rows for a Granite and switches add_bos off; so is SmolLM2


@dataclass(frozen=True)
class Vocabulary:
    """All that GGUF keeps of a tokenizer. `tokens` and `types` (gguf.TokenType) have one entry a row of the embedding.

    `never_bos`: no bos is to be put before a text, whatever the tokenizer's files say.
    """

    tokens: list[str]
    types: list[int]
    merges: list[str]
    pre: str
    special: Special
    chat_template: str | list[Any] | None
    add_space_prefix: bool | None
    never_bos: bool

    def write(self, writer: GGUFWriter) -> None:
        """Add it to a GGUF's metadata, in the order of llama.cpp's converter."""
        if self.add_space_prefix is not None:
            writer.add_add_space_prefix(self.add_space_prefix)
        writer.add_tokenizer_model("gpt2")
        writer.add_tokenizer_pre(self.pre)
        writer.add_token_list(self.tokens)
        writer.add_token_types(self.types)
        writer.add_token_merges(self.merges)
        for kind, token in self.special.ids.items():
            if kind in ID_KEYS:
                writer.add_uint32(ID_KEYS[kind], token)
        for kind, value in self.special.add.items():
            if kind in ADD_KEYS:
                writer.add_bool(ADD_KEYS[kind], value and not (kind == "bos" and self.never_bos))
        if isinstance(self.chat_template, str):
            writer.add_chat_template(self.chat_template)
        elif self.chat_template is not None:
            _write_templates(writer, self.chat_template)
        if self.never_bos and "bos" not in self.special.add:
            writer.add_add_bos_token(False)


def vocabulary(checkpoint: Checkpoint, rows: int, tokenizer_class: str, *, llama: bool) -> Vocabulary:
    """Read a checkpoint's tokenizer. `rows` is the embedding's; `tokenizer_class` is used when no file names one.

    Raises:
        UnsupportedModel: no byte-level BPE, an unknown pre-tokenizer or tokenizer class, or more tokens than rows.
        CorruptFile: tokenizer.json is not one.
    """
    try:
        raw = json.loads(checkpoint.tokenizer_text)
        model = raw["model"]
        kind, byte_level = model["type"], _mentions(raw.get("pre_tokenizer"), "ByteLevel") or _mentions(raw.get("decoder"), "ByteLevel")
    except (json.JSONDecodeError, KeyError, TypeError) as error:
        raise CorruptFile(f"{checkpoint.folder / 'tokenizer.json'} is not a tokenizer ({error}); get the file again") from None
    if kind != "BPE" or model.get("byte_fallback") or not byte_level:
        what = "SentencePiece (BPE with byte fallback)" if kind == "BPE" and model.get("byte_fallback") else kind
        raise UnsupportedModel(f"this tokenizer is {what}; supported is byte-level BPE, as Qwen and Llama 3 have it: {WAY_OUT}")
    config = checkpoint.tokenizer_config or {}
    name = config.get("tokenizer_class") or checkpoint.config.get("tokenizer_class") or tokenizer_class
    name = str(name).removesuffix("Fast")
    if name not in CLASS_DEFAULTS:
        raise UnsupportedModel(f"the tokenizer class {name} is not known; supported are {', '.join(CLASS_DEFAULTS)}: {WAY_OUT}")
    tokenizer = _tokenizer(checkpoint, raw, config, name)
    pre = _pre_tokenizer(tokenizer, config, name)
    tokens, types = _tokens(tokenizer, rows)
    merges = _merges(model.get("merges"))
    special = special_tokens(raw, checkpoint.tokenizer_config, checkpoint.config)
    space = config.get("add_prefix_space")
    return Vocabulary(
        tokens=tokens,
        types=types,
        merges=merges,
        pre=pre,
        special=special,
        chat_template=checkpoint.chat_template,
        add_space_prefix=space if llama and isinstance(space, bool) else None,
        never_bos=llama and rows == GRANITE_ROWS,
    )


def _mentions(part: object, kind: str) -> bool:
    """Whether a pre-tokenizer or decoder is of this kind, or a sequence that contains it."""
    if not isinstance(part, Mapping):
        return False
    inner = part.get("pretokenizers") or part.get("decoders") or []
    return part.get("type") == kind or any(_mentions(item, kind) for item in inner)


def _tokenizer(checkpoint: Checkpoint, raw: dict[str, Any], config: Mapping[str, Any], name: str) -> Tokenizer:
    """The tokenizer with the added tokens as transformers would have them: tokenizer_config.json may change or add some."""
    space = bool(config.get("add_prefix_space", False))
    pre = raw.get("pre_tokenizer") or {}
    try:
        if "add_prefix_space" in pre and pre["add_prefix_space"] != space:
            tokenizer = Tokenizer.from_str(json.dumps({**raw, "pre_tokenizer": {**pre, "add_prefix_space": space}}))
        else:
            tokenizer = Tokenizer.from_str(checkpoint.tokenizer_text)
    except Exception as error:  # the library raises plain Exception
        raise CorruptFile(f"{checkpoint.folder / 'tokenizer.json'} can't be read by the tokenizers library: {error}") from None
    tokenizer.no_truncation()
    tokenizer.no_padding()
    named = {**CLASS_DEFAULTS[name], **{key: config[key] for key in (*SPECIAL, "additional_special_tokens") if key in config}}
    listed = named.pop("additional_special_tokens", None) or []
    special = [content(token) for token in (*named.values(), *cast(Sequence[Any], listed))]
    declared = config.get("added_tokens_decoder", {str(token["id"]): token for token in raw.get("added_tokens", [])})
    added = {int(number): _added(token, special) for number, token in declared.items()}
    known = {token.content for token in tokenizer.get_added_tokens_decoder().values()} | {token.content for token in added.values()}
    extra = [AddedToken(text, special=True) for text in dict.fromkeys(special) if text and text not in known]
    tokenizer.add_tokens([*(added[number] for number in sorted(added)), *extra])
    return tokenizer


def _added(token: Mapping[str, Any], special: Sequence[str | None]) -> AddedToken:
    flags = {flag: bool(token[flag]) for flag in ("single_word", "lstrip", "rstrip", "normalized") if flag in token}
    return AddedToken(token["content"], special=bool(token.get("special")) or token["content"] in special, **flags)


def _pre_tokenizer(tokenizer: Tokenizer, config: Mapping[str, Any], name: str) -> str:
    """llama.cpp's name of this pre-tokenizer, found by the ids of PROBE."""
    if name == "LlamaTokenizer":  # this class ignores the file's post-processor and puts bos and eos itself
        ids: list[int | None] = [*tokenizer.encode(PROBE, add_special_tokens=False).ids]
        text = {**CLASS_DEFAULTS[name], **{key: content(config[key]) for key in SPECIAL if key in config}}
        first = [tokenizer.token_to_id(str(text["bos_token"]))] if config.get("add_bos_token", True) else []
        last = [tokenizer.token_to_id(str(text["eos_token"]))] if config.get("add_eos_token", False) else []
        ids = first + ids + last
    else:
        ids = [*tokenizer.encode(PROBE).ids]
    digest = hashlib.sha256(str(ids).encode()).hexdigest()
    if digest not in PRE_TOKENIZERS:
        names = ", ".join(dict.fromkeys(PRE_TOKENIZERS.values()))
        raise UnsupportedModel(f"the pre-tokenizer of this model is unknown (hash {digest[:16]}); known are {names}: {WAY_OUT}")
    return PRE_TOKENIZERS[digest]


def _tokens(tokenizer: Tokenizer, rows: int) -> tuple[list[str], list[int]]:
    """Tokens and types by id; ids that no token has are [PADn], unused."""
    vocabulary = tokenizer.get_vocab(with_added_tokens=True)
    highest = max(vocabulary.values())
    if highest >= rows:
        raise UnsupportedModel(
            f"the tokenizer has a token with id {highest}, the model has rows for ids up to {rows - 1} only (vocab_size {rows}); "
            f"get tokenizer.json and config.json of one revision, or {WAY_OUT}"
        )
    added = tokenizer.get_added_tokens_decoder()
    tokens = [f"[PAD{number}]" for number in range(rows)]
    types = [int(TokenType.UNUSED)] * rows
    for text, number in vocabulary.items():
        if number not in added or added[number].content != text:
            tokens[number], types[number] = text, int(TokenType.NORMAL)
    for number, token in added.items():
        # llama.cpp takes added tokens as they are, so they must be what the normalizer leaves of them.
        text = token.content if token.normalized else _round_trip(tokenizer, token.content)
        if token.special or _looks_special(text):
            types[number] = int(TokenType.CONTROL)
        else:
            text = text.replace("▁", " ")
            types[number] = int(TokenType.USER_DEFINED)
        tokens[number] = text
    return tokens, types


def _round_trip(tokenizer: Tokenizer, text: str) -> str:
    return str(tokenizer.decode(tokenizer.encode(text, add_special_tokens=False).ids, skip_special_tokens=False))


def _looks_special(text: str) -> bool:
    """Some authors forgot to mark their control tokens; these are known by their look."""
    frames = (("<|", "|>"), ("<｜", "｜>"), ("<unused", ">"))
    return text in ("<pad>", "<mask>", "<2mass>", "[@BOS@]") or any(text.startswith(a) and text.endswith(b) for a, b in frames)


def _merges(found: object) -> list[str]:
    """The merges as "left right". The newer form is pairs; a space inside of a part becomes Ġ, byte-level BPE's sign for it."""
    if isinstance(found, list) and found and all(isinstance(merge, str) for merge in found):
        return found
    if isinstance(found, list) and found and all(isinstance(merge, list) and len(merge) == 2 for merge in found):
        return [" ".join(str(part).replace(" ", "Ġ") for part in merge) for merge in found]
    raise CorruptFile("tokenizer.json has no merges in a known form (a list of strings or of pairs); get the file again")


def _write_templates(writer: GGUFWriter, templates: Sequence[object]) -> None:
    """Named templates: `default` is the chat template, each other has its own key, and their names are listed.

    Not the gguf library's own: it lists the names in the order of a set, which differs from run to run.
    """
    default, names = None, []
    for choice in templates:
        if not isinstance(choice, Mapping) or not isinstance(choice.get("template"), str):
            continue
        name = "".join(letter if letter in ascii_letters + digits else "_" for letter in str(choice.get("name", "")))
        if name == "default":
            default = choice["template"]
        elif name and name not in names:
            names.append(name)
            writer.add_string(Keys.Tokenizer.CHAT_TEMPLATE_N.format(name=name), choice["template"])
    if names:
        writer.add_array(Keys.Tokenizer.CHAT_TEMPLATES, names)
    if default is not None:
        writer.add_chat_template(default)
