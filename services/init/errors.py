"""What can go wrong while a model is prepared. Each message is for the person who ran it: what, found, what to do.

InitError
├── SettingsProblem      the name, quant or catalog is wrong
├── SourceError          the source can't be had: hub unreachable, not found, no access, not a checkpoint
│   └── Unreachable      ... because nobody answers: the one case for the fallback
├── CorruptFile          a fetched file is not what the hub says it is
├── NotEnough            disk or memory does not suffice
├── UnsupportedModel     an architecture, tensor or tokenizer that can't be converted
└── CheckFailed          the finished file does not load, tokenize or generate
"""

from __future__ import annotations


class InitError(Exception):
    """A model could not be prepared."""


class SettingsProblem(InitError):
    """The name, quant or catalog is wrong."""


class SourceError(InitError):
    """The source can't be had."""


class Unreachable(SourceError):
    """Nobody answers."""


class CorruptFile(InitError):
    """A fetched file is not what the hub says it is."""


class NotEnough(InitError):
    """Disk or memory does not suffice."""


class UnsupportedModel(InitError):
    """An architecture, tensor or tokenizer that can't be converted."""


class CheckFailed(InitError):
    """The finished file does not load, tokenize or generate."""
