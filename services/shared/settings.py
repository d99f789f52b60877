"""Every setting, typed: config/cloister.toml overlaid with CLOISTER_SECTION__KEY.

Owns the names, types and ranges; the defaults have their home in the TOML file. Knows nothing of where the
environment comes from: a service's __main__ hands it in.
"""

from __future__ import annotations

import dataclasses
import difflib
import ipaddress
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, get_args, get_origin, get_type_hints

PREFIX = "CLOISTER_"
# Names of .env that only compose.yaml and scripts/up read: they shape the containers, not a service.
COMPOSE_NAMES = frozenset(
    f"{PREFIX}{name}"
    for name in (
        *("PROJECT", "TAG", "BIND", "TLS", "SUBPATH", "PROXIED", "SECRETS", "SOURCE", "SOURCE_NAME"),
        *(f"{service}_{limit}" for service in ("INIT", "API", "UI", "GATEWAY") for limit in ("MEMORY", "CPUS")),
    )
)
ROOT = Path(__file__).resolve().parents[2]

Quant = Literal["q4_0", "q4_k_m", "q5_0", "q5_k_m", "q6_k", "q8_0", "f16", "bf16"]
QUANTS: tuple[str, ...] = get_args(Quant)


class SettingsError(ValueError):
    """A setting is unknown, missing or out of its range. The message is one line for the person who starts Cloister."""


@dataclass(frozen=True)
class Range:
    """The inclusive bounds of a number."""

    low: int
    high: int


Port = Annotated[int, Range(1, 65535)]


@dataclass(frozen=True)
class ModelSettings:
    name: str
    revision: str
    quant: Quant
    fallback: Literal["demo", "none"]
    keep_source: bool
    peer: str | None


@dataclass(frozen=True)
class PathSettings:
    volume: Path
    run: Path
    progress: Path
    logs: Path

    @property
    def socket(self) -> Path:
        """The unix socket on which the engine listens."""
        return self.run / "engine.sock"

    @property
    def opened(self) -> Path:
        """A link to the directory of the model that the engine has opened: on a swarm it can be another one than the current one."""
        return self.run / "model"

    @property
    def current(self) -> Path:
        """The link to the directory of the model in use."""
        return self.volume / "current"


@dataclass(frozen=True)
class EngineSettings:
    context: Annotated[int, Range(64, 1 << 20)]
    cells: Annotated[int, Range(64, 1 << 22)]
    sequences: Annotated[int, Range(1, 250)]
    batch: Annotated[int, Range(32, 2048)]
    threads: Annotated[int, Range(0, 1024)]
    queue: Annotated[int, Range(0, 100_000)]
    store: Annotated[int, Range(0, 1 << 20)]
    speculate: bool
    adapters: tuple[Path, ...]
    model: str | None


@dataclass(frozen=True)
class ApiSettings:
    host: str
    port: Port
    published: str | None
    keys: Path | None
    hosts: tuple[str, ...]
    origins: tuple[str, ...]
    screen: Path | None
    max_body: Annotated[int, Range(1024, 1 << 30)]
    max_tokens: Annotated[int, Range(0, 1 << 20)]
    strict: bool
    store: str | None
    drain: Annotated[int, Range(0, 600)]
    grace: Annotated[int, Range(0, 86_400)]


@dataclass(frozen=True)
class UiSettings:
    host: str
    port: Port
    published: str | None
    password: Path | None
    api: str
    key: Path | None
    path: str


@dataclass(frozen=True)
class LogSettings:
    level: Literal["debug", "info", "warning", "error"]


@dataclass(frozen=True)
class Settings:
    model: ModelSettings
    paths: PathSettings
    engine: EngineSettings
    api: ApiSettings
    ui: UiSettings
    log: LogSettings


def load(environ: Mapping[str, str], file: Path = ROOT / "config" / "cloister.toml") -> Settings:
    """Read the settings file and overlay the environment.

    Relative paths in [paths] are taken from the top of the checkout.

    Raises:
        SettingsError: unreadable file, unknown or missing key, unknown CLOISTER_ name, wrong type or range.
    """
    try:
        table: dict[str, Any] = tomllib.loads(file.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise SettingsError(f"{file}: no such file") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise SettingsError(f"{file}: not valid TOML: {error}") from None
    sections = get_type_hints(Settings)
    for name, keys in table.items():
        if name not in sections:
            raise SettingsError(f"{file}: unknown section [{name}]{_meant(name, sections)}")
        if not isinstance(keys, dict):
            raise SettingsError(f"{file}: [{name}] must be a section, found {keys!r}")
    _overlay(table, environ, sections)
    settings = Settings(**{name: _section(name, cls, table.get(name, {}), file) for name, cls in sections.items()})
    if settings.engine.cells < settings.engine.context:
        raise SettingsError(
            f"[engine] cells is {settings.engine.cells}, less than [engine] context {settings.engine.context}: "
            "one conversation would not fit; raise cells or lower context"
        )
    _closed("api", "keys", settings.api.published or settings.api.host, settings.api.keys)
    _closed("ui", "password", settings.ui.published or settings.ui.host, settings.ui.password)
    return settings


def _closed(section: str, key: str, address: str, secret: Path | None) -> None:
    """Refuse to listen where other machines reach it without a secret to ask for."""
    try:
        alone = ipaddress.ip_address(address).is_loopback
    except ValueError:
        alone = address == "localhost"
    try:
        there = secret is not None and bool(secret.read_text(encoding="utf-8").strip())
    except OSError as error:
        raise SettingsError(f"[{section}] {key}: {secret} can't be read ({error.strerror}); scripts/keys makes it") from None
    if not alone and not there:
        raise SettingsError(
            f"[{section}] would answer to everyone who reaches {address} and has no {key}: "
            f"run scripts/keys, which makes them and says how to use them, or stay on 127.0.0.1"
        )


def _overlay(table: dict[str, Any], environ: Mapping[str, str], sections: Mapping[str, Any]) -> None:
    known = {
        f"{PREFIX}{section.upper()}__{field.name.upper()}": (section, field.name)
        for section, cls in sections.items()
        for field in dataclasses.fields(cls)
    }
    for variable, text in sorted(environ.items()):
        if not variable.startswith(PREFIX) or variable in COMPOSE_NAMES:
            continue
        if variable not in known:
            raise SettingsError(f"unknown setting {variable} in the environment{_meant(variable, known)}")
        section, key = known[variable]
        table.setdefault(section, {})[key] = _FromEnvironment(variable, text)


@dataclass(frozen=True)
class _FromEnvironment:
    variable: str
    text: str


def _section(section: str, cls: type, found: Mapping[str, Any], file: Path) -> Any:
    hints = get_type_hints(cls, include_extras=True)
    for key in found:
        if key not in hints:
            raise SettingsError(f"{file}: unknown key [{section}] {key}{_meant(key, hints)}")
    values = {}
    for key, hint in hints.items():
        if key not in found:
            raise SettingsError(f"{file}: [{section}] {key} is missing")
        raw = found[key]
        if isinstance(raw, _FromEnvironment):
            values[key] = _value(raw.variable, hint, raw.text, from_text=True)
        else:
            values[key] = _value(f"[{section}] {key}", hint, raw, from_text=False)
    return cls(**values)


def _value(where: str, hint: Any, raw: Any, *, from_text: bool) -> Any:
    bounds = None
    if get_origin(hint) is Annotated:
        hint, bounds = get_args(hint)
    if get_origin(hint) is UnionType:  # something or nothing, and nothing is written as ""
        if raw == "":
            return None
        hint = next(kind for kind in get_args(hint) if kind is not NoneType)
    if get_origin(hint) is tuple:
        parts = [part.strip() for part in raw.split(",") if part.strip()] if from_text else raw
        if not isinstance(parts, list):
            raise SettingsError(f"{where} must be a list; found {raw!r}")
        return tuple(_value(where, get_args(hint)[0], part, from_text=from_text) for part in parts)
    if get_origin(hint) is Literal:
        if raw not in get_args(hint):
            raise SettingsError(f"{where} must be one of {', '.join(get_args(hint))}; found {raw!r}")
        return raw
    if hint is Path:
        if not isinstance(raw, str) or not raw:
            raise SettingsError(f"{where} must be a path; found {raw!r}")
        return ROOT / Path(raw).expanduser()
    if hint is bool:
        if from_text and raw.lower() in ("true", "1", "yes", "false", "0", "no"):
            return raw.lower() in ("true", "1", "yes")
        if not isinstance(raw, bool):
            raise SettingsError(f"{where} must be true or false; found {raw!r}")
        return raw
    if hint is int:
        try:
            number = int(raw) if from_text else raw
        except ValueError:
            number = None
        if not isinstance(number, int) or isinstance(number, bool):
            raise SettingsError(f"{where} must be a whole number; found {raw!r}")
        if bounds and not bounds.low <= number <= bounds.high:
            raise SettingsError(f"{where} must be from {bounds.low} to {bounds.high}; found {number}")
        return number
    if not isinstance(raw, str) or not raw.strip():
        raise SettingsError(f"{where} must be text that is not empty; found {raw!r}")
    return raw


def _meant(name: str, known: Mapping[str, Any]) -> str:
    close = difflib.get_close_matches(name, known, n=1)
    return f"; did you mean {close[0]}?" if close else f"; known are {', '.join(known)}"
