"""What the page says of the model, in words that need no knowledge."""

from __future__ import annotations

from services.shared.progress import Progress
from services.ui import status as statuses
from services.ui.client import Model, Status
from services.ui.texts import EN, ZH

DEMO = Model("demo", "Cloister Demo", "q4_k_m", 8192, "demo")
R1 = Model("r1", "DeepSeek R1 <Distill>", "f16", 8192, "hub")


def preparing(**fields: object) -> Status:
    progress = {
        "state": "running",
        "model": "r1",
        "quant": "q4_k_m",
        "step": "fetch",
        "done": 1_200_000_000,
        "total": 3_600_000_000,
        **fields,
    }
    return Status("preparing", Progress(**progress))  # type: ignore[arg-type]


def test_a_download_is_told_in_percent_size_rate_and_time() -> None:
    card = statuses.card(preparing(rate=12_300_000.0, seconds_left=195.0), EN)
    for text in ("Preparing the model", "Download", "33 %", "1.2 GB of 3.6 GB", "12.3 MB a second", "about 3 min 15 s left"):
        assert text in card
    assert 'aria-valuenow="33"' in card and 'aria-current="step"' in card


def test_steps_are_past_present_and_future() -> None:
    card = statuses.card(preparing(step="quantize", unit="tensors", done=10, total=339), ZH)
    assert [card.count(f'<li class="{kind}"') for kind in ("past", "present", "future")] == [3, 1, 2]
    assert "10 / 339 份" in card


def test_an_unknown_total_has_no_percent() -> None:
    card = statuses.card(preparing(done=0, total=0), EN)
    assert "%" not in card.replace("width", "") and "endless" in card


def test_a_later_step_is_not_known_but_shown() -> None:
    assert "Preparing" in statuses.card(preparing(step="bless"), EN)
    assert "Preparing" in statuses.strip(preparing(step="bless"), EN)


def test_a_failure_shows_the_sentence_and_what_to_do_escaped() -> None:
    card = statuses.card(Status("failed", Progress("failed", "r1", "q4", error="<b>disk</b> full")), EN)
    assert "&lt;b&gt;disk&lt;/b&gt; full" in card and EN.failed_todo in card


def test_a_ready_model_needs_no_card() -> None:
    assert statuses.card(Status("ready", model=R1), EN) == statuses.strip(Status("ready", model=R1), EN) == ""


def test_every_other_state_has_one_line_too() -> None:
    for status in (Status("starting"), Status("loading"), Status("failed"), Status("preparing"), preparing()):
        assert "<p" in statuses.strip(status, ZH) and "<h2>" in statuses.card(status, ZH)
        assert "\n" not in statuses.sentence(status, EN)


def test_a_demo_that_stands_in_is_announced() -> None:
    banner = statuses.banner(Status("ready", model=DEMO, notice="the hub is away"), ZH)
    assert ZH.demo_stands_in in banner and "the hub is away" in banner
    assert statuses.banner(Status("ready", model=R1, notice="old <file>"), EN).count("old &lt;file&gt;") == 1
    assert statuses.banner(Status("ready", model=DEMO), EN) == ""


def test_a_chosen_demo_says_what_it_knows() -> None:
    assert EN.demo_hint in statuses.welcome(Status("ready", model=DEMO), EN)
    assert EN.demo_hint not in statuses.welcome(Status("ready", model=R1), EN)


def test_the_facts_name_model_and_quant_and_explain_it() -> None:
    assert "compressed to 4 bits" in statuses.facts(Status("ready", model=DEMO), EN)
    facts = statuses.facts(Status("ready", model=R1), EN)
    assert "DeepSeek R1 &lt;Distill&gt;" in facts and "uncompressed" in facts


def test_speed_is_told_once_known() -> None:
    assert statuses.speed(0.0, EN) == ""
    assert "12.3 tokens/s" in statuses.speed(12.34, EN) and "250 词元/秒" in statuses.speed(250.4, ZH)
