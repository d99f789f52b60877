"""Who asks: the id of the HTTP request that is being answered and the name of its key, wherever in its task somebody wants to know."""

from __future__ import annotations

from contextvars import ContextVar
from dataclasses import dataclass, field


@dataclass
class Caller:
    """`id`: the request's, in X-Request-Id and in the log; `key`: the key's name, "" without one; `asked`: by which ids the engine
    knows what it was asked for this request."""

    id: str = ""
    key: str = ""
    asked: list[str] = field(default_factory=list)


_current: ContextVar[Caller] = ContextVar("caller")


def current() -> Caller:
    """The caller of the request that this task belongs to; a nameless one outside of any."""
    return _current.get(Caller())


def enter(caller: Caller) -> None:
    """From now on this task, and what it starts, works for this caller."""
    _current.set(caller)
