"""`python -m scripts.swarming`: make swarm.yaml of compose.yaml; `--check` only says whether it is up to date."""

from __future__ import annotations

import sys
from pathlib import Path

from scripts.swarming.stack import stack, text

ROOT = Path(__file__).resolve().parents[2]


def main(arguments: list[str]) -> int:
    made = text(stack((ROOT / "compose.yaml").read_text()))
    file = ROOT / "swarm.yaml"
    if arguments == ["--check"]:
        return int(not file.exists() or file.read_text() != made)
    file.write_text(made)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
