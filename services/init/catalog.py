"""The catalog of known models, config/models.toml: short name → hub repository and what its authors recommend.

Owns the file's fields. Knows nothing of the hub, or of which architectures can be converted.
"""

from __future__ import annotations

import dataclasses
import tomllib
from dataclasses import dataclass
from pathlib import Path

from services.init.errors import SettingsProblem
from services.shared.settings import ROOT

FILE = ROOT / "config" / "models.toml"


@dataclass(frozen=True)
class Entry:
    """One known model. `parameters` counts each weight once; `generation` is the authors' sampling, empty where they give none."""

    repo: str
    title: str
    parameters: int
    licence: str
    generation: dict[str, float] = dataclasses.field(default_factory=dict)


def load(file: Path = FILE) -> dict[str, Entry]:
    """The catalog by name, in the file's order.

    Raises:
        SettingsProblem: the file can't be read, or an entry has an unknown or missing field.
    """
    try:
        return {name: Entry(**fields) for name, fields in tomllib.loads(file.read_text(encoding="utf-8")).items()}
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise SettingsProblem(f"{file}: the catalog can't be read: {error}") from None
    except TypeError as error:
        fields = ", ".join(field.name for field in dataclasses.fields(Entry))
        raise SettingsProblem(f"{file}: every model has the fields {fields}; {error}") from None
