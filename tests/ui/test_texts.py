"""Both languages say everything, with the same places to fill in."""

from __future__ import annotations

import dataclasses
import re
import string
from typing import Any

import pytest

from services.shared.progress import STEPS
from services.ui.texts import EN, ZH, preferred, spoken


def leaves(value: Any, path: str = "") -> dict[str, str]:
    """Every text under a value, by its path."""
    if isinstance(value, str):
        return {path: value}
    if dataclasses.is_dataclass(value):
        value = {field.name: getattr(value, field.name) for field in dataclasses.fields(value)}
    if isinstance(value, tuple):
        value = dict(enumerate(value))
    return {deep: text for key, item in value.items() for deep, text in leaves(item, f"{path}.{key}").items()}


def test_both_languages_fill_in_the_same_names() -> None:
    english, chinese = leaves(EN), leaves(ZH)
    assert english.keys() == chinese.keys()
    for path, text in english.items():
        names = [{name for _, name, _, _ in string.Formatter().parse(t) if name} for t in (text, chinese[path])]
        assert names[0] == names[1], path
        assert text.strip() and chinese[path].strip(), path


def test_chinese_uses_chinese_punctuation() -> None:
    for path, text in leaves(ZH).items():
        assert not re.search(r"[一-鿿}][,;:?!]", text.replace("：//", "")), path


def test_all_steps_of_init_have_words() -> None:
    assert set(EN.steps) == set(ZH.steps) == set(STEPS)


@pytest.mark.parametrize(
    ("wanted", "language"),
    [
        ("zh-CN,zh;q=0.9,en;q=0.8", "zh"),
        ("en-GB,en;q=0.9,zh;q=0.8", "en"),
        ("fr-FR,fr;q=0.9,zh-TW;q=0.5,en;q=0.4", "zh"),
        ("fr", "en"),
        ("", "en"),
        ("zh;q=nonsense", "en"),
        ("zh_CN.UTF-8", "zh"),
        ("C.UTF-8", "en"),
    ],
)
def test_the_visitor_chooses_the_language(wanted: str, language: str) -> None:
    assert preferred(wanted) == language


def test_durations_are_spoken() -> None:
    assert [spoken(EN, seconds) for seconds in (0.2, 12.4, 75, 3700)] == ["1 s", "12 s", "1 min 15 s", "1 h 1 min"]
    assert spoken(ZH, 75) == "1 分 15 秒"
