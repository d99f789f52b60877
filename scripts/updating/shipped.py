"""Which of Python's packages are shipped: the services' locked requirements, or a bundle's bills of materials.

Asks nobody. Debian's packages in the images are none of its business: their own tool tells of them.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote

from packaging.markers import Marker
from packaging.utils import canonicalize_name
from packaging.version import Version

REQUIREMENTS = ("services/*/requirements.txt", "config/requirements.txt")
SBOM = "sbom/*.cdx.json"
PIN = re.compile(r"^([A-Za-z0-9._-]+)==([^\s;\\]+)(?:\s*;\s*([^\\\n]+))?", re.MULTILINE)
PURL = re.compile(r"pkg:pypi/([^@]+)@(.+)")
PYTHONS = ("3.11", "3.12", "3.13", "3.14")
MACHINES = ("x86_64", "aarch64")


@dataclass(frozen=True, order=True)
class Package:
    """One version of a package, by its normalized name. `where`: the services or images that hold it."""

    name: str
    version: str
    where: tuple[str, ...]


class NothingShipped(Exception):
    """There is no list of what is shipped; the message says which was looked for."""


def shipped(root: Path) -> list[Package]:
    """All packages that the checkout or the unpacked bundle at `root` holds, sorted; a package may be there in several versions.

    Raises:
        NothingShipped: neither kind of list is there, or one can't be read.
    """
    places: dict[tuple[str, str], set[str]] = {}
    try:
        for where, name, version in (*_pinned(root), *_billed(root)):
            places.setdefault((canonicalize_name(name), str(Version(version))), set()).add(where)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise NothingShipped(f"the lists of what is shipped can't be read ({type(error).__name__}: {error})") from None
    if not places:
        raise NothingShipped(f"there is neither {REQUIREMENTS[0]} nor {SBOM} in {root}")
    return sorted(Package(name, version, tuple(sorted(where))) for (name, version), where in places.items())


def _pinned(root: Path) -> Iterator[tuple[str, str, str]]:
    for file in (file for pattern in REQUIREMENTS for file in root.glob(pattern)):
        for name, version, marker in PIN.findall(file.read_text(encoding="utf-8")):
            if not marker or _on_linux(Marker(marker.strip())):
                yield file.parent.name, name, version


def _billed(root: Path) -> Iterator[tuple[str, str, str]]:
    for file in root.glob(SBOM):
        for component in json.loads(file.read_text(encoding="utf-8"))["components"]:
            if match := PURL.fullmatch(component.get("purl", "")):
                yield file.name.removesuffix(".cdx.json").removeprefix("cloister-"), unquote(match[1]), unquote(match[2])


def _on_linux(marker: Marker) -> bool:
    """Whether it holds with any Python and CPU that we ship for."""
    linux = {"sys_platform": "linux", "platform_system": "Linux", "os_name": "posix"}
    return any(
        marker.evaluate({**linux, "python_version": python, "python_full_version": f"{python}.0", "platform_machine": machine})
        for python in PYTHONS
        for machine in MACHINES
    )
