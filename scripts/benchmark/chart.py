"""The chart of a run: bars by scenario as an SVG that reads well on light and on dark ground. Draws a report, computes nothing."""

from __future__ import annotations

import statistics
from html import escape

from scripts.benchmark.report import Report, number

WIDTH, LEFT, RIGHT = 760, 96, 130  # the labels stand left of the bars, the figures right
ROW, BAR, GAP = 20, 14, 10
TITLES = {  # scenario and figure that are drawn → title
    ("distinct", "rate"): "Distinct prompts: tokens/s of all users, more is better",
    ("shared", "rate"): "Common system prompt: tokens/s of all users, more is better",
    ("distinct", "decode"): "Distinct prompts: tokens/s of one stream, more is better",
    ("copy", "decode"): "Copying a text: tokens/s, more is better",
    ("distinct", "first.median"): "Distinct prompts: seconds to the first token, less is better",
    ("shared", "first.median"): "Common system prompt: seconds to the first token, less is better",
    ("long", "gap.max"): "Long prompt arriving: longest gap of the others in seconds, less is better",
    ("turn", "first"): "Second turn: seconds to the first token, less is better",
    ("cancel", "first"): "After a hang-up: seconds to the next first token, less is better",
    ("memory", "rss"): "Memory: resident MB, less is better",
}
STYLE = """
  svg { --text: #1f2328; --soft: #656d76; --ground: #ffffff; --a: #0969da; --b: #bc4c00; --c: #1a7f37; --d: #8250df; }
  @media (prefers-color-scheme: dark) {
    svg { --text: #e6edf3; --soft: #8d96a0; --ground: #0d1117; --a: #4493f8; --b: #f0883e; --c: #3fb950; --d: #ab7df8; }
  }
  text { font: 13px system-ui, sans-serif; fill: var(--text); } .title { font-weight: 600; } .soft { fill: var(--soft); }
  .ground { fill: var(--ground); } .range { stroke: var(--text); stroke-width: 1.5; }
  .e0 { fill: var(--a); } .e1 { fill: var(--b); } .e2 { fill: var(--c); } .e3 { fill: var(--d); }
"""


def svg(report: Report) -> str:
    """The chart. The thin line on a bar goes from the least to the greatest round."""
    parts: list[str] = []
    y = 34
    legend(parts, dict(enumerate(report.labels)), y)
    y += 18
    for (scenario, figure), title in TITLES.items():
        names = [n for n in report.measurements.figures if n.split(".")[0] == scenario and n.endswith(f".{figure}") and _exact(n, figure)]
        if names:
            y = _section(parts, report, title, names, y + 24)
    note = f"medians of {report.plan.rounds} interleaved rounds, {report.plan.sizes.tokens} tokens an answer; lines: least to greatest"
    parts.append(f'<text class="soft" x="20" y="{y + 18}">{escape(note)}</text>')
    return document("Benchmark", parts, y + 34)


def document(title: str, parts: list[str], height: int) -> str:
    """The parts as a whole SVG."""
    head = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" width="{WIDTH}" height="{height}" role="img">'
    ground = f'<rect class="ground" width="{WIDTH}" height="{height}" rx="8"/>'
    return "\n".join([head, f"<title>{escape(title)}</title>", f"<style>{STYLE}</style>", ground, *parts, "</svg>"]) + "\n"


def legend(parts: list[str], labels: dict[int, str], y: int) -> None:
    """Draw what the colours mean, in one line."""
    for at, (colour, label) in enumerate(labels.items()):
        x = 20 + at * (WIDTH - 40) // len(labels)
        parts.append(f'<rect class="e{colour % 4}" x="{x}" y="{y - 11}" width="12" height="12" rx="2"/>')
        parts.append(f'<text x="{x + 18}" y="{y}">{escape(label)}</text>')


def bar(parts: list[str], values: list[float], most: float, y: int, *, colour: int, caption: str, note: str) -> None:
    """Draw one bar as long as the median of the values, the scale ending at `most`, with a line from the least to the greatest of
    them. `caption` stands left of it, `note` right of its figure."""
    median, middle, scale = statistics.median(values), y + ROW / 2, (WIDTH - LEFT - RIGHT) / most
    if caption:
        parts.append(f'<text class="soft" x="{LEFT - 12}" y="{middle + 4}" text-anchor="end">{escape(caption)}</text>')
    parts.append(f'<rect class="e{colour % 4}" x="{LEFT}" y="{middle - BAR / 2}" width="{median * scale:.1f}" height="{BAR}" rx="2"/>')
    low, high = LEFT + min(values) * scale, LEFT + max(values) * scale
    if len(values) > 1:
        parts.append(f'<line class="range" x1="{low:.1f}" y1="{middle}" x2="{high:.1f}" y2="{middle}"/>')
    text = number(median) + (f" · {note}" if note else "")
    parts.append(f'<text x="{max(high, LEFT + median * scale) + 8:.1f}" y="{middle + 4}">{escape(text)}</text>')


def _exact(name: str, figure: str) -> bool:
    """ "turn.before.first" is not turn's "first"."""
    return name.split(".", 1)[1].lstrip("0123456789").lstrip(".") == figure


def _section(parts: list[str], report: Report, title: str, names: list[str], y: int) -> int:
    """Draw one title with its bars, all to one scale; returns where it ends."""
    parts.append(f'<text class="title" x="20" y="{y}">{escape(title)}</text>')
    y += 10
    most = max(value for name in names for values in report.measurements.figures[name].values() for value in values) or 1.0
    for name in names:
        users = name.split(".")[1]
        caption = f"{users} user{'s' if users != '1' else ''}" if users.isdigit() else ""
        for at, label in enumerate(report.labels):
            values = report.measurements.figures[name].get(label)
            if values is None:
                continue
            ratio = report.ratio(name, label) if label != report.baseline else None
            bar(parts, values, most, y, colour=at, caption=caption, note="" if ratio is None else f"{ratio:.2f}x")
            caption = ""
            y += ROW
        y += GAP
    return y
