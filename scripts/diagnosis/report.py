"""The file to hand to somebody: findings, versions and figures, and nothing personal.

Nothing is in it but what is put in here; and from that every name, address, path, key and quoted value is taken out, whatever they stand
in, because sentences of others (llama.cpp, Docker, an operating system) are among it.
"""

from __future__ import annotations

import os
import pwd
import re
import socket
from collections.abc import Iterable, Mapping
from pathlib import Path

from scripts.diagnosis.cpu import processor
from scripts.diagnosis.finding import Finding
from scripts.diagnosis.scene import Scene
from services.init import catalog, sources
from services.shared import VERSION
from services.shared.settings import ROOT

KEY = re.compile(r"\b(?:cl|sk)-[\w-]{16,}|\bhf_\w{8,}|\b[0-9a-fA-F]{40,}\b|\b(?:[a-z2-7]{5}-){4}[a-z2-7]+\b")
URL = re.compile(r"\b([a-z][a-z0-9+.-]*)://[^\s'\"<>,;)]+", re.IGNORECASE)
MAIL = re.compile(r"[\w.+-]+@[\w-]+(?:\.[\w-]+)+")
IPV4 = re.compile(r"(?<![\d.])(?!127\.|0\.0\.0\.0)\d{1,3}(?:\.\d{1,3}){3}(?![\d.])")
IPV6 = re.compile(r"(?<![\w:])(?=[0-9a-fA-F:]*:[0-9a-fA-F:]*:)(?!::1?(?![0-9a-fA-F:]))[0-9a-fA-F:]{2,}(?:%\w+)?(?![\w:])")
ENDINGS = "arpa|com|net|org|io|ai|cn|de|eu|lan|local|home|internal|example"
DOMAIN = re.compile(rf"\b(?:[a-z0-9][a-z0-9-]*\.)+(?:{ENDINGS})\b", re.IGNORECASE)
# A path may have spaces in it, so one goes on to the next sign that ends a phrase; these few beginnings are nobody's.
PUBLIC_PATH = r"/(?:proc|sys|v1|metrics|livez|readyz)(?=[/\s,;:.)]|$)[^\s,;:()'\"]*"
PATH = re.compile(rf"(?<![\w.~])(?:(?P<public>{PUBLIC_PATH})|~?/[^\s,;:()'\"].*?(?= ->|[,;:()'\"]|$))")
QUOTED = re.compile(r"'[^']*'|\"[^\"]*\"")
PERSONS = 1000, 60000  # user ids
SECRETIVE = re.compile(r"KEY|TOKEN|SECRET|PASS|PROXY|HOST|ORIGIN|TLS|USER|LOGNAME|ENDPOINT|CERT|MAIL|SOURCE", re.IGNORECASE)

FIGURES = (
    *("restarts", "threads", "threads_now", "sequences", "cells", "cells_used", "memory", "stored", "preempted", "evicted"),
    *("throttled_seconds", "step_seconds", "decode_seconds", "prompt_tokens", "generated_tokens"),
)


def write(file: Path, scene: Scene, findings: Iterable[Finding]) -> None:
    """Write the report; an older one is replaced."""
    file.write_text(text(scene, findings), encoding="utf-8")


def text(scene: Scene, findings: Iterable[Finding]) -> str:
    """The whole report."""
    name, flags = processor(scene.root)
    config, engine, machine = scene.settings, scene.status.at("engine"), scene.facts.at("machine")
    system = os.uname()
    lines = [
        f"Cloister {VERSION}, examined by scripts/doctor. Without texts, names, addresses, paths and keys.",
        "",
        f"runs: {scene.mode}; {', '.join(f'{name} {state}' for name, state in scene.programs.items()) or 'nothing'}",
        f"system: {_distribution()}, {system.sysname} {system.release} {system.machine}",
        f"cpu: {name}",
        f"flags: {' '.join(sorted(flags))}",
        "machine: " + ", ".join(f"{key} {machine.number(key):.15g}" for key in ("cpus", "cores", "quota", "memory") if machine.number(key)),
        f"model: {config.model.name} at {config.model.quant}",
        "engine settings: " + ", ".join(f"{key} {value}" for key, value in vars(config.engine).items() if isinstance(value, int)),
        "engine: " + (", ".join(f"{key} {number:.15g}" for key in FIGURES if (number := engine.number(key)) is not None) or "not running"),
        "",
    ]
    safe = Eraser(scene)
    return "\n".join(safe.clean(line) for line in [*lines, *(finding.line() for finding in findings)]) + "\n"


def _distribution() -> str:
    try:
        found = re.search(r'^PRETTY_NAME="?([^"\n]*)', Path("/etc/os-release").read_text(encoding="utf-8"), re.MULTILINE)
    except OSError:
        found = None
    return found[1] if found else "unknown"


def _public(name: str) -> bool:
    """Whether it is a model that the catalog has; whoever has one of their own may not want to tell."""
    return name == sources.DEMO or name in catalog.load()


class Eraser:
    """Takes out of a text what is somebody's."""

    def __init__(self, scene: Scene) -> None:
        words = _of_system(scene.environ) | _of_settings(scene)
        known = sorted(
            (word for word in words if len(word) > 1 and word.lower() not in PUBLIC and not word.isdigit()), key=len, reverse=True
        )
        self._known = re.compile("|".join(rf"(?<![A-Za-z0-9]){re.escape(word)}(?![A-Za-z0-9])" for word in known) or "(?!)", re.IGNORECASE)

    def clean(self, line: str) -> str:
        line = line.replace(f"{ROOT}/", "").replace(str(ROOT), "[checkout]")
        line = self._known.sub("[name]", line)
        line = KEY.sub("[key]", line)
        line = URL.sub(lambda found: f"{found[1]}://[address]", line)
        line = MAIL.sub("[mail]", line)
        line = QUOTED.sub("[value]", line)
        line = PATH.sub(lambda found: found["public"] or "[path]", line)
        line = DOMAIN.sub("[host]", line)
        return IPV6.sub("[address]", IPV4.sub("[address]", line))


def _of_system(environ: Mapping[str, str]) -> set[str]:
    """Words of the environment, of the accounts of persons, and of the machine."""
    words = {part for name, value in environ.items() if SECRETIVE.search(name) for part in (value, *re.split(r"[\s,;:/@=]+", value))}
    host = socket.gethostname()
    words |= {host, socket.getfqdn(), host.partition(".")[0], str(Path.home()), Path.home().name}
    for account in pwd.getpwall():
        if PERSONS[0] <= account.pw_uid < PERSONS[1] or account.pw_uid == os.getuid():
            words |= {account.pw_name, account.pw_gecos.partition(",")[0], account.pw_dir}
    return words


def _of_settings(scene: Scene) -> set[str]:
    """Paths and hosts of the settings, an own model's name, and names of keys and of persons."""
    config, card = scene.settings, scene.facts.at("manifest")
    words = {part for value in (*config.api.hosts, *config.api.origins) for part in (value, *re.split(r"[\s,;:/]+", value))}
    words |= {file.stem for file in config.engine.adapters}
    words |= {str(value) for section in vars(config).values() for value in vars(section).values() if isinstance(value, Path)}
    words |= {str(file) for file in config.engine.adapters}
    if not _public(config.model.name):
        words |= {config.model.name, Path(config.model.name).name}
    if not _public(card.text("name")):
        words |= {card.text("name"), card.text("title"), card.text("location"), Path(card.text("location")).name}
    secrets = {file.parent for file in (config.api.keys, config.ui.password) if file}
    for directory in (*secrets, ROOT / scene.environ.get("CLOISTER_SECRETS", "var/secrets")):
        for name in ("api_keys", "page_password"):
            try:
                words |= {line.split()[0] for line in (directory / name).read_text(encoding="utf-8").splitlines() if line.strip()}
            except (OSError, UnicodeDecodeError):
                continue
    return words


# Words that stand in such places and are nobody's; to take them out would only make a report hard to read.
PUBLIC = {
    *(
        "localhost",
        "127.0.0.1",
        "0.0.0.0",
        "::1",
        "http",
        "https",
        "true",
        "false",
        "root",
        "page",
        "api",
        "ui",
        "first",
        "cloister",
        "none",
        "native",
    ),
    *("var", "secrets", "usr", "bin", "home", "etc", "ssl", "certs", "page_key", "api_keys", "page_password", "model", "demo", "docker"),
}
