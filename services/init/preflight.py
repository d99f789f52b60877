"""Whether disk and memory suffice, asked before anything is written."""

from __future__ import annotations

from services.init.plan import Plan
from services.init.volume import Volume
from services.shared.settings import Settings


def require(plan: Plan, settings: Settings, volume: Volume) -> None:
    """Raises NotEnough."""
