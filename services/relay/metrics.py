"""The metrics of several replicas as one text for Prometheus: each sample with the label `replica`. Knows nothing of what they mean."""

from __future__ import annotations

import re
from collections.abc import Iterable

SAMPLE = re.compile(r"([A-Za-z_:][A-Za-z0-9_:]*)(?:\{(.*)\})?( .*)")


def joined(texts: Iterable[tuple[str, str]]) -> str:
    """Of (replica, its metrics), families together, as the format wants them. Raises ValueError for a line that is no sample."""
    families: dict[str, list[str]] = {}
    for replica, text in texts:
        family = ""
        known: set[str] = set(families)
        for line in filter(None, text.splitlines()):
            if line.startswith("#"):
                family = line.split(" ")[2]
                if family not in known:
                    families.setdefault(family, []).append(line)
                continue
            found = SAMPLE.fullmatch(line)
            if not found:
                raise ValueError("a line of the metrics is no sample")
            name, labels, rest = found.groups()
            sample = f'{name}{{replica="{replica}"{"," + labels if labels else ""}}}{rest}'
            families.setdefault(family, []).append(sample)
    return "\n".join(line for lines in families.values() for line in lines) + "\n"
