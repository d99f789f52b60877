"""The file to hand to somebody has nothing in it that is somebody's, wherever that stood; what helps is in it."""

from __future__ import annotations

import getpass
import re
import socket
from pathlib import Path

import pytest

from scripts.diagnosis import report
from scripts.diagnosis.finding import Finding
from services.shared.secret import digest
from tests.conftest import Cloister
from tests.doctor.conftest import scene, visit

KEY = "cl-Zm9vYmFyYmF6cXV4MTIzNDU2Nzg5MGFiY2RlZg"
PLANTED = {
    "path": "/home/ann/letters to mary",
    "key": KEY,
    "token": "hf_AbCdEfGhIjKlMnOp",
    "password": "abcde-fghij-klmno-pqrst-uvwxyz",
    "host": "ai.annsplace.example",
    "mail": "ann@annsplace.example",
    "ipv4": "203.0.113.77",
    "ipv6": "2001:db8::77",
    "proxy": "http://ann:hunter2@proxy.annsplace.example:3128",
    "hash": digest(KEY).hex(),
    "person": "zacharias",
}


def test_planted_secrets_are_not_in_the_report(cloister: Cloister, tmp_path: Path) -> None:
    """On a running appliance, with each secret in a place where such things stand; on the terminal they may be seen."""
    secrets = tmp_path / "annas secrets"
    secrets.mkdir(mode=0o755)
    secrets.chmod(0o755)
    (secrets / "api_keys").write_text(f"{PLANTED['person']} {PLANTED['hash']}\n")
    (secrets / "page_key").write_text(KEY)
    (secrets / "page_password").write_text(f"{PLANTED['person']} {digest(PLANTED['password']).hex()}\n")
    file = tmp_path / "report.txt"
    env = cloister.env | {
        "CLOISTER_SECRETS": str(secrets),
        "CLOISTER_API__HOSTS": PLANTED["host"],
        "CLOISTER_API__ORIGINS": f"https://{PLANTED['host']}",
        "CLOISTER_API__SCREEN": f"{PLANTED['path']}/screen.toml",
        "CLOISTER_ENGINE__ADAPTERS": f"{PLANTED['path']}/mary.gguf",
        "CLOISTER_MODEL__NAME": f"{PLANTED['path']}/model.gguf",
        "HF_TOKEN": PLANTED["token"],
        "HTTPS_PROXY": PLANTED["proxy"],
        "USER": PLANTED["person"],
    }
    seen = visit(cloister.home, "--report", str(file), env=env)
    told = "\n".join(item.line() for item in seen.findings)
    assert PLANTED["path"] in told and "annas secrets" in told, "else nothing would be shown here"
    text = file.read_text()
    for word in [*PLANTED.values(), "ann", "mary", "annas", "hunter2", "annsplace", str(cloister.home), socket.gethostname()]:
        assert not re.search(rf"(?<![a-z]){re.escape(word)}(?![a-z])", text, re.IGNORECASE), (word, text)
    assert (
        "Cloister 0.1.0" in text and "runs: native; " in text and "engine RUNNING" in text and "BAD   permissions: others may read" in text
    )
    assert "the engine writes" in text and "flags: " in text and "screen names [" in text
    assert re.search(r"^machine: cpus \d+, ", text, re.MULTILINE) and "restarts" in text


@pytest.mark.parametrize("value", PLANTED.values(), ids=PLANTED.keys())
def test_what_others_say_is_cleaned(tmp_path: Path, value: str) -> None:
    """Sentences of Docker, of the system, of a hub: values that nobody told the doctor of."""
    there = scene(tmp_path, environ={"LOGNAME": PLANTED["person"], "CLOISTER_SECRETS": "none"})
    for sentence in (f"can't open {value}: no", f"found '{value}' there", f"({value})", f"x={value}, y", f'"{value}"', value):
        text = report.text(there, [Finding("BAD", "model", sentence, f"do something with {value}")])
        assert "BAD   model: " in text
        for word in re.findall(r"[A-Za-z0-9]{4,}", value):
            if word.lower() not in ("home", "example", "http", "proxy", "3128", "2001", "letters"):
                assert word not in text.partition("BAD   model")[2], text


def test_what_helps_stays(tmp_path: Path) -> None:
    there = scene(tmp_path, environ={"CLOISTER_SECRETS": "none"})
    lines = [
        "2 threads; limited by CPU affinity (CPU affinity: 2, physical cores: 2)",
        "the engine writes 30.1 tokens/s, 80 % of that bound",
        "port 7860 of [ui] is taken by another program",
        "page and API answer on 127.0.0.1 and 0.0.0.0, at 2026-11-28 01:44 UTC",
        "DeepSeek R1 Distill Qwen 1.5B, q4_k_m, 1.1 GB, prepared 2026-11-24T06:30:00+00:00",
        "CLOISTER_ENGINE__CONTEXT=8192, see scripts/logs engine; /v1/status tells more, /proc/cpuinfo too",
    ]
    text = report.text(there, [Finding("ok", "x", line) for line in lines])
    assert getpass.getuser() == "root" or getpass.getuser() not in text
    for line in lines:
        assert line in text
    assert "model: deepseek-r1-distill-qwen-1.5b at q4_k_m" in text


def test_a_report_of_wrong_settings(tmp_path: Path) -> None:
    file = tmp_path / "report.txt"
    seen = visit(tmp_path, "--report", str(file), API__PORT=KEY)
    seen.found("BAD", "settings", "CLOISTER_API__PORT must be a whole number")
    assert "BAD   settings: CLOISTER_API__PORT must be a whole number; found [" in file.read_text()
    assert KEY not in file.read_text()
