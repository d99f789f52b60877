"""What the status panel says, from what the API told: reasons that fit, and nothing that was not told or not checked."""

from __future__ import annotations

import re
from html import unescape
from typing import Any

import pytest

from services.shared import isolation
from services.ui import panel
from services.ui.client import Status
from services.ui.history import History
from services.ui.texts import EN, WORDS, ZH, Language, Words
from services.ui.told import Told
from tests.ui import fake as say


async def _nothing() -> Status:
    return Status("starting")


def html(data: dict[str, Any] | None, words: Words = EN, state: Any = "ready") -> str:
    history = History(_nothing)
    status = Status(state, told=Told(data))
    history.add(status)
    return panel.show(status, history, words)


def text(data: dict[str, Any] | None, words: Words = EN, state: Any = "ready") -> str:
    return " ".join(unescape(re.sub(r"<[^>]+>", " ", html(data, words, state))).split())


def machine(**fields: Any) -> dict[str, Any]:
    data = say.rich(threads=4, threads_now=4)
    return {**data, "machine": {**data["machine"], **fields}}


@pytest.mark.parametrize("language", ["en", "zh"])
def test_everything_that_was_told_is_there(language: Language) -> None:
    said, w = text(say.rich(), WORDS[language]), WORDS[language].panel
    for part in (
        *("21.5", "25 %", "4,096", "16,384", "1.6 GB", "3.0 GB", "8.0 GB", "haswell", "12,345", "67,890", "q4_k_m", "5.0", "poet"),
        *("DeepSeek R1 Distill Qwen 1.5B", "deepseek-ai/DeepSeek-R1-Distill-Qwen-1.5B", "main", "ad9f0ae0" * 5, "0123456789abcdef" * 4),
        *("model.safetensors", "fedcba9876543210" * 4, "cloister 0.1.0, gguf 0.17.1", "2026-11-24 06:30 UTC", "131,072", "8,192"),
        *(w.sources["hub"], w.quants["4"], w.threads_by_cores.format(count=4), w.threads_fewer.format(count=3), w.check_never),
    ):
        assert part in said, part


def test_great_numbers_are_in_the_language_s_own_units() -> None:
    assert "1.78 billion" in text(say.rich()) and "17.8 亿" in text(say.rich(), ZH)


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (machine(cpus=4, cores=8), EN.panel.threads_by_cpus),
        (machine(cpus=8, cores=4), EN.panel.threads_by_cores),
        (machine(cpus=8, cores=None, quota=4.5), EN.panel.threads_by_quota),
        (say.rich(threads_wanted=4), EN.panel.threads_set),
    ],
)
def test_the_reason_for_the_threads_is_the_limit_that_gives_their_number(data: dict[str, Any], reason: str) -> None:
    assert reason.format(count=4) in text(data)


def test_a_reason_that_is_not_known_is_the_engine_s_own_sentence() -> None:
    assert "4: limited by physical cores (CPU affinity: 8, physical cores: 4)" in text(machine(cpus=9, cores=9))


def test_names_and_hashes_are_no_markup() -> None:
    data = say.rich()
    data["model"]["title"] = data["model"]["source"]["repo"] = data["model"]["files"][0]["path"] = "<b>x</b>"
    assert "<b>x" not in html(data) and html(data).count("&lt;b&gt;x&lt;/b&gt;") == 3


@pytest.mark.parametrize("data", [None, {}, {"engine": {}, "model": {}, "isolation": {}}, {"engine": 3, "model": [], "machine": "x"}])
@pytest.mark.parametrize("language", ["en", "zh"])
def test_whatever_is_missing_is_not_made_up(data: dict[str, Any] | None, language: Language) -> None:
    said, w = text(data, WORDS[language], "starting"), WORDS[language].panel
    assert w.check_never in said and f"{w.live_api}{w.colon}{w.live_unknown}" in said and w.check_bare not in said
    assert w.nobody_waits not in said
    assert not re.search(r"\d", said.split(w.history)[0].replace(w.quiet, "")), "a figure from nowhere"


def test_states_that_are_not_ready() -> None:
    failed = {**say.failed("The disk is full."), "error": "The disk is full."}
    assert EN.panel.states["failed"] in text(failed, state="failed") and "The disk is full." in text(failed, state="failed")
    said = text(say.LOADING, state="loading")
    assert EN.panel.states["loading"] in said and EN.panel.no_figures in said and EN.panel.no_model in said


def walls(checked: dict[str, Any] | None, *, contained: bool = True, routes: tuple[str, ...] = ()) -> dict[str, Any]:
    return {**say.rich(), "isolation": {"contained": contained, "routes": list(routes), "checked": checked}}


def test_a_check_that_never_ran_never_ran() -> None:
    said = text(walls(None))
    assert EN.panel.check_never in said and "scripts/verify-isolation" in said
    assert EN.panel.check_bare not in said and EN.panel.check_limits not in said
    assert EN.panel.check_bare in text(walls(None, contained=False))


def test_a_check_tells_what_was_tried_where_and_when() -> None:
    said = text(walls(say.checked(api=25, ui=25, gateway=25)))
    assert "from inside of api, ui, gateway: 75 ways out were tried as root, all were closed." in said
    assert "2026-11-24 08:00 UTC" in said and EN.panel.check_limits in said and EN.panel.check_never not in said


def test_a_way_out_and_what_could_not_be_tried_are_told() -> None:
    data = walls(say.checked(api=24, ui=25, gateway=-1))
    said = text(data)
    assert "A WAY OUT WAS OPEN. api: 1 of 25 ways." in said
    assert "from inside of ui: 25 ways" in said and EN.panel.check_missed.format(names="gateway") in said
    assert "<dd class=alarm>" in html(data)
    assert "from inside of" not in text(walls(say.checked(api=-1, ui=-1)))


@pytest.mark.parametrize(
    ("here", "there", "contained", "verdict"),
    [
        ((), (), True, ""),
        (("ipv4",), ("ipv4",), False, EN.panel.live_bare),
        ((), ("ipv4",), True, EN.panel.live_alarm),
        (("ipv6",), (), True, EN.panel.live_alarm),
    ],
)
def test_what_the_programs_see_is_told_and_judged(
    monkeypatch: pytest.MonkeyPatch, here: tuple[str, ...], there: tuple[str, ...], contained: bool, verdict: str
) -> None:
    monkeypatch.setattr(isolation, "routes", lambda: here)
    monkeypatch.setattr(isolation, "contained", lambda: contained)
    said = text(walls(None, contained=contained, routes=there))
    for name, routes in ((EN.panel.live_api, there), (EN.panel.live_page, here)):
        kinds = ", ".join(routes).replace("ip", "IP")
        assert f"{name}: {EN.panel.live_some.format(kinds=kinds) if routes else EN.panel.live_none}" in said
    assert [sentence for sentence in (EN.panel.live_bare, EN.panel.live_alarm) if sentence in said] == ([verdict] if verdict else [])
    assert EN.panel.live_note in said
