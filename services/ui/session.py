"""What the page's server keeps of a visitor between two events: nothing.

Gradio keeps the last value and configuration of every component for thousands of sessions, and works them out anew with
each update of an answer. Only deep links would read them, and those are closed (door).
"""

from __future__ import annotations

from copy import copy
from typing import Any

from gradio.blocks import Blocks
from gradio.routes import App
from gradio.state_holder import SessionState, StateHolder


class _Blank(SessionState):
    """A session as it is before anything has happened; it lives as long as one event's call."""

    def __init__(self, blocks: Blocks) -> None:
        self.blocks_config = copy(blocks.default_config)
        self.config_values: dict[int, Any] = {}
        self.state_data: dict[int, Any] = {}
        self._state_ttl: dict[int, Any] = {}
        self.is_closed = False

    def __setitem__(self, key: int, value: Any) -> None:
        self.blocks_config.blocks[key] = value

    def _update_config(self, key: int) -> None:
        pass

    def _update_value_in_config(self, key: int, value: Any) -> None:
        pass


class _Forgetful(StateHolder):
    def __getitem__(self, session_id: str) -> SessionState:
        return _Blank(self.blocks)


def forget(app: App) -> None:
    """Let a Gradio app keep nothing of its visitors."""
    app.state_holder = _Forgetful()  # type: ignore[no-untyped-call]
    app.state_holder.set_blocks(app.get_blocks())
