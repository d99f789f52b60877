"""Volumes and tmpfs of a service. A stack takes no short tmpfs (it is dropped without a word), and a path of a machine must be there on
every node, so what Compose shows from the checkout becomes a volume of each node, or nothing."""

from __future__ import annotations

from typing import Any

UNITS = {"k": 1 << 10, "m": 1 << 20, "g": 1 << 30}
USUAL = 16 << 20  # bytes of a tmpfs that names no size
OF_EACH_NODE = {"./var/adapters": "adapters"}
LEFT_OUT = {"/source/"}  # a model that is a folder of this machine: the others don't have it


def tmpfs(line: str) -> dict[str, Any]:
    """`/tmp:size=256m,mode=1777`; its owner and mode can't be said, it is 1777 and root's."""
    target, _, options = line.partition(":")
    size = dict(option.split("=") for option in options.split(",")).get("size")
    return {"type": "tmpfs", "target": target, "tmpfs": {"size": int(size[:-1]) * UNITS[size[-1]] if size else USUAL}}


def volume(line: str) -> dict[str, Any] | None:
    """`model:/opt/cloister/var/volume:ro`; None for one that is left out."""
    source, target, *mode = line.replace(":-", "\0").split(":")
    source, target = source.replace("\0", ":-"), target.replace("\0", ":-")
    if any(target.startswith(path) for path in LEFT_OUT):
        return None
    return {
        "type": "volume",
        "source": OF_EACH_NODE.get(source, source),
        "target": target,
        **({"read_only": True} if mode == ["ro"] else {}),
    }
