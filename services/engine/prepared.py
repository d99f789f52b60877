"""Which prepared model the engine opens: the one that [engine] model names, or the one in use.

On a swarm all replicas are told the same one. So a node that comes back after the others have changed waits until it has the new one,
and one that is restarted while another model is being brought takes the one before. Knows nothing of how a model comes into the volume.
"""

from __future__ import annotations

import logging
import re
import time
from dataclasses import dataclass
from pathlib import Path

from services.shared import logs, manifest, progress
from services.shared.manifest import ManifestError
from services.shared.settings import Settings, SettingsError

log = logging.getLogger("engine")
# Seconds without a sign that init or the copying is at work: a large file is flushed to a slow disk without one, and a new attempt of the
# copying takes its time to begin. After them, another model than the wanted one is better than none.
PATIENCE = 300.0
NONE = "no model is prepared yet: waiting for init"


@dataclass(frozen=True)
class Wanted:
    """A model by name, quant and the first 12 hex digits of its SHA-256, as init's last line has them."""

    name: str
    quant: str
    sha256: str

    @classmethod
    def parse(cls, text: str | None) -> Wanted | None:
        """`NAME QUANT SHA256`; None for none.

        Raises:
            SettingsError: it is not that.
        """
        if text is None:
            return None
        if not (found := re.fullmatch(r"([\w.-]+) (\w+) ([0-9a-f]{12})", text)):
            raise SettingsError(f"[engine] model must be a model's name, its quant and 12 digits of its SHA-256; found {text!r}")
        return cls(*found.groups())

    def lies_in(self, directory: Path) -> bool:
        """Whether it is what is prepared there."""
        try:
            return manifest.read(directory).model.sha256.startswith(self.sha256)
        except ManifestError:
            return False


def named(config: Settings) -> Path | None:
    """The directory of the model that [engine] model names; None where it names none, or that one is not here.

    Raises:
        SettingsError: it is no name of a model.
    """
    wanted = Wanted.parse(config.engine.model)
    if wanted and wanted.lies_in(directory := config.paths.volume / "models" / wanted.name / wanted.quant):
        return directory
    return None


def wait(config: Settings, patience: float = PATIENCE) -> Path:
    """The model's directory, once there is one.

    Raises:
        SettingsError: [engine] model is no name of a model.
    """
    current, told, seen = config.paths.current, False, time.monotonic()
    while True:
        if directory := named(config):
            return directory
        there = (current / manifest.NAME).exists()
        if there and config.engine.model is None:
            return current.resolve()
        if there and time.monotonic() - seen > patience:
            log.warning("another model %s", logs.facts(wanted=f'"{config.engine.model}"', instead="/".join(current.resolve().parts[-2:])))
            return current.resolve()
        if not told:
            log.info(f"the model {config.engine.model} is not here yet: waiting for it" if there else NONE)
            told = True
        now = progress.read(config.paths.progress)
        if now and now.state == "running" and time.time() - now.updated < patience:
            seen = time.monotonic()
        time.sleep(0.5)
