"""The chart of a tuning: bars by setting and figure, in the manner of chart.py. Draws what was measured, computes nothing."""

from __future__ import annotations

from html import escape

from scripts.benchmark.chart import GAP, ROW, bar, document, legend
from scripts.benchmark.probe import SEQUENCES
from scripts.benchmark.tune import Phase, Tuning

TITLES = {
    "prefill": "reading a prompt",
    "decode": "writing, one sequence",
    "together": f"writing, {SEQUENCES} sequences together",
}
WHAT = {"threads": "Threads", "batch": "Batch", "quant": "Quant"}
PRESENT, PROPOSED, OTHER = 0, 2, 3  # colours of chart.py


def svg(tuning: Tuning) -> str:
    """The chart. The thin line on a bar goes from the least to the greatest round."""
    parts: list[str] = []
    legend(parts, {PRESENT: "set now", PROPOSED: "proposed", OTHER: "others"}, 34)
    y = 52
    for phase in tuning.phases:
        for figure, title in TITLES.items():
            if any(row.rounds for row in phase.rows):
                y = _section(parts, phase, figure, f"{WHAT[phase.setting]}: {title}, tokens/s, more is better", y + 24)
    model = tuning.models[tuning.present.quant][1].title
    size = tuning.size
    note = f"{model}: medians of {size.rounds} interleaved rounds, {size.prompt} tokens read and {size.tokens} written at most"
    parts.append(f'<text class="soft" x="20" y="{y + 18}">{escape(note)}</text>')
    return document("Tuning", parts, y + 34)


def _section(parts: list[str], phase: Phase, figure: str, title: str, y: int) -> int:
    """Draw one figure of all values, to one scale; returns where it ends."""
    parts.append(f'<text class="title" x="20" y="{y}">{escape(title)}</text>')
    y += 10
    rows = [row for row in phase.rows if row.rounds]
    most = max(value for row in rows for value in row.values(figure))
    for row in rows:
        value = row.combination.value(phase.setting)
        colour = PRESENT if value == phase.present else PROPOSED if value == phase.chosen else OTHER
        note = "set now" if value == phase.present else "proposed" if value == phase.chosen else ""
        bar(parts, row.values(figure), most, y, colour=colour, caption=str(value), note=note)
        y += ROW
    return y + GAP
