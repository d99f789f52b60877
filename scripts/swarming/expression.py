"""The ${...} in values: `docker stack deploy` knows `-` and `?`, and of Compose's others none."""

from __future__ import annotations

import re
from typing import Any

ALTERNATIVE = re.compile(r"\$\{([A-Za-z_]\w*):\+([^}]*)\}")
BIND = re.compile(r"\$\{CLOISTER_BIND:-[^}]*\}")
EVERYWHERE = "0.0.0.0"  # where Swarm publishes ports; it takes no address


def translated(value: Any) -> Any:
    """The same value with expressions that the stack understands. `${NAME:+TEXT}` becomes `${SWARM_NAME:-}`: scripts/swarm sets that to
    TEXT when NAME is set."""
    if isinstance(value, dict):
        return {key: translated(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [translated(inner) for inner in value]
    if isinstance(value, str):
        return BIND.sub(EVERYWHERE, ALTERNATIVE.sub(r"${SWARM_\1:-}", value))
    return value
