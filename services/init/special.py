"""Which tokens of a tokenizer are bos, eos and so on, and which of them it adds to a text by itself.

Owns how the reference reads that out of three files that may disagree: tokenizer.json's post-processor, tokenizer_config.json and
config.json. Knows nothing of vocabularies or GGUF.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

KINDS = ("bos", "eos", "unk", "sep", "pad", "cls", "mask")


@dataclass(frozen=True)
class Special:
    """Ids of special tokens by kind (bos, eos, ...), and which kinds the tokenizer adds to a text by itself."""

    ids: dict[str, int] = field(default_factory=dict)
    add: dict[str, bool] = field(default_factory=dict)


def special_tokens(raw: Mapping[str, Any], config: Mapping[str, Any] | None, model: Mapping[str, Any]) -> Special:
    """Which tokens are bos, eos and so on, and which are added by themselves.

    Read from the post-processor, then tokenizer_config.json, then config.json: the first to name one wins. (DeepSeek's distills
    have a wrong bos_token_id in config.json.) A token counts only if tokenizer.json lists it among the added tokens.
    """
    special = Special()
    given = config or {}
    names: dict[str, Any] = {kind: given.get(f"{kind}_token") for kind in KINDS}
    names["bos"] = names["bos"] or names["cls"]
    names["eos"] = names["eos"] or names["sep"]
    for processor in _processors(raw):
        _read_processor(processor, names, special.add)
    if given:
        added = {token.get("content"): token.get("id") for token in reversed(raw.get("added_tokens", []))}
        for kind, name in names.items():
            value = given.get(f"add_{kind}_token")
            if isinstance(value, bool):
                special.add.setdefault(kind, value)
            _put(special.ids, kind, added.get(content(name)))
    for kind in names:
        _put(special.ids, kind, model.get(f"{kind}_token_id"))
    return special


def _put(ids: dict[str, int], kind: str, number: object) -> None:
    if isinstance(number, int) and number >= 0:
        ids.setdefault(kind, number)


def _processors(raw: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    found = raw.get("post_processor") or {}
    return list(found.get("processors", [found]))


def _read_processor(processor: Mapping[str, Any], names: dict[str, Any], add: dict[str, bool]) -> None:
    """What a post-processor says of bos, eos and sep; it may name tokens (in `names`) that tokenizer_config.json does not."""
    if processor.get("type") == "ByteLevel":
        add.setdefault("bos", False)
        add.setdefault("eos", False)
    if processor.get("type") != "TemplateProcessing":
        return
    single, pair = processor.get("single", []), processor.get("pair", [])
    first = _special_id(single[0]) if len(single) > 1 else None
    last = _special_id(single[-1]) if len(single) > 1 else None
    if first:
        # A token that config gives as an object instead of a string counts as another one here: so does the reference, which
        # then takes it for cls too (that has no key in GGUF).
        names["bos"] = names["bos"] or first
        names["cls"] = names["cls"] or first
        add["bos"] = first in (names["bos"], names["cls"])
    if last:
        if last != names["eos"]:
            kind = next((kind for kind in ("eot", "eom") if kind not in names), None)
            if kind:
                names[kind] = names["eos"]
            names["eos"] = last
        add["eos"] = True
    start = 1 if first and pair and _special_id(pair[0]) == first else 0
    middle = pair[start : len(pair) - 1 if last and pair and _special_id(pair[-1]) == last else None]
    if len(middle) > 2 and _sequence(middle[0]) == "A" and _sequence(middle[-1]) == "B":
        separators = [_special_id(item) for item in middle[1:-1]]
        ends = (names["sep"], names["eos"])
        add["sep"] = (separators[0] in ends and separators[0] is not None and not last) or (
            len(separators) == 2 and separators[1] is not None and separators[1] in ends
        )
        if add["sep"]:
            names["sep"] = names["sep"] or names["eos"]


def _special_id(item: Mapping[str, Any]) -> str | None:
    found: str | None = item.get("SpecialToken", {}).get("id")
    return found


def _sequence(item: Mapping[str, Any]) -> str | None:
    found: str | None = item.get("Sequence", {}).get("id")
    return found


def content(token: object) -> str | None:
    """The text of a token that may be given as a string or as an object, or None."""
    found = token.get("content") if isinstance(token, Mapping) else token
    return found if isinstance(found, str) else None
