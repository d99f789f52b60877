"""What is wrong with a machine, made to be so: Python, compiler, settings, CPU, memory, disk, ports, clock, permissions."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from scripts.diagnosis import clock, cpu, disk, memory, permissions
from services.init import preflight
from services.shared.secret import digest
from tests.conftest import ROOT, environment
from tests.doctor.conftest import files, one, scene, visit

TOOLS = "bash awk sed grep uname sha256sum cut dirname cat head env"


def checkout(home: Path) -> Path:
    """A copy of what the doctor needs, without .venv."""
    for name in ("scripts", "services", "config"):
        shutil.copytree(ROOT / name, home / "checkout" / name, ignore=shutil.ignore_patterns("__pycache__", "demo.npz"))
    return home / "checkout/scripts/doctor"


def tools(home: Path) -> dict[str, str]:
    """An environment with a PATH that has nothing but a few tools."""
    (home / "bin").mkdir()
    for name in TOOLS.split():
        (home / "bin" / name).symlink_to(str(shutil.which(name)))
    env = environment(home) | {"PATH": str(home / "bin"), "XDG_CACHE_HOME": str(home / "cache")}
    return {name: value for name, value in env.items() if name not in ("CXX", "PYTHON", "PYTHONPATH", "VIRTUAL_ENV")}


def test_no_compiler(tmp_path: Path) -> None:
    doctor, env = checkout(tmp_path), tools(tmp_path)
    seen = visit(tmp_path, "--quick", doctor=doctor, env=env | {"PYTHON": str(Path(sys.executable).resolve())})
    assert "apt install g++" in seen.found("BAD", "installation", "there is no C++ compiler").todo
    seen.found("skip", "memory", "is not installed")
    compiler = tmp_path / "bin/g++"
    compiler.write_text("#!/bin/sh\n")
    compiler.chmod(0o755)
    seen = visit(tmp_path, "--quick", doctor=doctor, env=env | {"PYTHON": str(Path(sys.executable).resolve())})
    seen.found("warn", "installation", "not compiled yet; g++")


def test_old_python(tmp_path: Path) -> None:
    doctor, env = checkout(tmp_path), tools(tmp_path)
    command = [doctor, "--quick"]
    done = subprocess.run(command, env=env, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 1 and done.stdout.startswith("BAD   installation: Python 3.11 or newer is needed, found none -> "), done
    old = tmp_path / "bin/python3"
    old.write_text('#!/usr/bin/env bash\n[[ $1 != --version ]] && exit 1\necho "Python 3.9.2"\n')
    old.chmod(0o755)
    done = subprocess.run([*command, "--json"], env=env, capture_output=True, text=True, check=False, timeout=60)
    (told,) = json.loads(done.stdout)
    assert told["level"] == "BAD" and told["found"].endswith("found Python 3.9.2") and "apt install python3 python3-venv" in told["todo"]


def test_a_setting_that_does_not_exist(tmp_path: Path) -> None:
    seen = visit(tmp_path, "--quick", ENGINE__CONTEXTS=1)
    seen.found("BAD", "settings", "CLOISTER_ENGINE__CONTEXTS", "did you mean CLOISTER_ENGINE__CONTEXT?")
    assert not [item for item in seen.findings if item.topic not in ("settings", "installation")]


def test_settings_that_fit_to_nothing(tmp_path: Path) -> None:
    (tmp_path / "poet.gguf").touch()
    config = {"ENGINE__CONTEXT": 512, "API__MAX_TOKENS": 100, "API__SCREEN": tmp_path / "none.toml", "MODEL__NAME": "deepseek-r2"}
    seen = visit(tmp_path, "--quick", ENGINE__ADAPTERS=f"{tmp_path}/poet.gguf,{tmp_path}/none.gguf", **config)
    seen.found("BAD", "settings", f"{tmp_path}/none.gguf")
    seen.found("BAD", "settings", f"{tmp_path}/none.toml")
    seen.found("BAD", "settings", "unknown model 'deepseek-r2'", "did you mean")
    seen.found("warn", "settings", "context is 512", "context_length_exceeded")
    seen.found("warn", "settings", "max_tokens is 100", "mid-sentence")


def test_what_is_open_to_others_without_tls(tmp_path: Path) -> None:
    keys = tmp_path / "api_keys"
    keys.write_text(f"ann {digest('a key').hex()}\n")
    seen = visit(tmp_path, "--quick", API__HOST="0.0.0.0", API__KEYS=keys)
    seen.found("warn", "settings", "other machines without TLS")


@pytest.mark.parametrize("section", ["ui", "api"])
def test_a_port_that_is_taken(tmp_path: Path, section: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        seen = visit(tmp_path, "--quick", **{f"{section.upper()}__PORT": port})
    told = seen.found("BAD", "ports", f"port {port} of [{section}] is taken by", f"(pid {os.getpid()})")
    assert f"CLOISTER_{section.upper()}__PORT=" in told.todo
    seen.found("ok", "ports", "is free")


def test_an_address_of_another_machine(tmp_path: Path) -> None:
    keys = tmp_path / "api_keys"
    keys.write_text(f"ann {digest('a key').hex()}\n")
    visit(tmp_path, "--quick", API__HOST="192.0.2.1", API__KEYS=keys).found("BAD", "ports", "192.0.2.1 of [api] is not an address")


def test_a_cpu_without_avx2(tmp_path: Path) -> None:
    root = files(tmp_path, {"proc/cpuinfo": "model name\t: Old One\nflags\t\t: fpu sse2 sse4_2 avx\n"})
    told = one(cpu.examine(scene(tmp_path, root=root)), "warn", "cpu", "Old One", "sse4_2 avx")
    assert "-cpu host" in told.todo
    root = files(tmp_path, {"proc/cpuinfo": "Features\t: fp asimd asimddp\n"})
    one(cpu.examine(scene(tmp_path, root=root)), "ok", "cpu", "asimd asimddp")


def test_a_cpu_quota(tmp_path: Path) -> None:
    """Half a CPU, of a group that this process is in."""
    given = {"proc/self/cgroup": "0::/a\n", "sys/fs/cgroup/a/cpu.max": "50000 100000\n"}
    for number in os.sched_getaffinity(0):
        given[f"sys/devices/system/cpu/cpu{number}/topology/physical_package_id"] = "0\n"
        given[f"sys/devices/system/cpu/cpu{number}/topology/core_id"] = f"{number}\n"
    root = files(tmp_path, given)
    told = one(cpu.examine(scene(tmp_path, root=root)), "warn", "cpu", "1 threads; limited by a CPU quota of 0.5")
    assert "CLOISTER_API_CPUS" in told.todo
    told = one(cpu.examine(scene(tmp_path, root=root, ENGINE__THREADS=2)), "BAD", "cpu", "2 threads compute on a CPU quota of 0.5")
    assert told.todo == "CLOISTER_ENGINE__THREADS=0"


def test_more_threads_than_cores(tmp_path: Path) -> None:
    told = visit(tmp_path, "--quick", ENGINE__THREADS=999).found("BAD", "cpu", "999 threads compute on", "physical cores")
    assert told.todo == "CLOISTER_ENGINE__THREADS=0"


def test_too_little_memory(tmp_path: Path) -> None:
    root = files(tmp_path, {"proc/meminfo": "MemTotal: 9000000 kB\nMemAvailable: 1000000 kB\n"})
    told = one(memory.examine(scene(tmp_path, root=root)), "BAD", "memory", "weights", "1.0 GB are available")
    assert "smaller quant" in told.todo
    one(memory.examine(scene(tmp_path, root=root, MODEL__NAME="demo")), "ok", "memory", "KV cache of 16384 cells")


def test_too_little_memory_for_a_prepared_model(volume: Path, tmp_path: Path) -> None:
    """Its KV cache counts as it is set."""
    root = files(tmp_path, {"proc/meminfo": "MemTotal: 9000000 kB\nMemAvailable: 700000 kB\n"})
    one(memory.examine(scene(tmp_path, root=root, MODEL__NAME="demo")), "ok", "memory", "weights", "KV cache of 16384 cells")
    large = scene(tmp_path, root=root, MODEL__NAME="demo", ENGINE__CELLS=1_000_000)
    one(memory.examine(large), "BAD", "memory", "KV cache of 1000000 cells")


def test_too_little_disk(tmp_path: Path) -> None:
    """On a real file system of 150 MB, in a mount namespace of its own."""
    (tmp_path / "volume").mkdir()
    mount = ("unshare", "--mount", "sh", "-c", f'mount -t tmpfs -o size=150m tmpfs {tmp_path}/volume && exec "$@"', "sh")
    if subprocess.run([*mount, "true"], capture_output=True, check=False, timeout=60).returncode:
        pytest.skip("no mount namespace for this user")
    told = visit(tmp_path, "--quick", before=mount, MODEL__NAME="demo").found("BAD", "disk", "preparing Cloister demo takes", "are free")
    assert "CLOISTER_PATHS__VOLUME" in told.todo
    assert "download 3.6 GB" in visit(tmp_path, "--quick", before=mount).found("BAD", "disk", "are free").found
    assert disk.RESERVE == preflight.DISK_RESERVE


def test_a_clock_that_is_behind(volume: Path, tmp_path: Path) -> None:
    there = scene(tmp_path, MODEL__NAME="demo")
    one(clock.examine(there), "ok", "clock")
    there.now = 946_684_800.0  # the first of January 2000: a machine whose battery is empty
    assert "hwclock" in one(clock.examine(there), "BAD", "clock", "it says 2000-01-01").todo


def test_a_clock_that_is_ahead_of_the_hardwares(tmp_path: Path) -> None:
    root = files(tmp_path, {"sys/class/rtc/rtc0/since_epoch": "1800000000\n"})
    there = scene(tmp_path, root=root)
    there.now = 1_900_000_000.0
    one(clock.examine(there), "warn", "clock", "2030-03-17", "hardware's clock 2027-01-15")


def test_secrets_that_others_may_read(tmp_path: Path) -> None:
    secrets = tmp_path / "secrets"
    secrets.mkdir(mode=0o755)
    secrets.chmod(0o755)
    (secrets / "page_key").write_text("cl-secret")
    (secrets / "api_keys").write_text(f"page {digest('cl-secret').hex()}\n")
    env = {"CLOISTER_SECRETS": str(secrets)}
    told = one(permissions.examine(scene(tmp_path, environ=env)), "BAD", "permissions", "others may read the secret")
    assert told.todo == f"chmod 700 {secrets}"
    subprocess.run(["sh", "-c", told.todo], check=True)
    one(permissions.examine(scene(tmp_path, environ=env)), "ok", "permissions")
    (secrets / "api_keys").chmod(0o666)
    told = one(permissions.examine(scene(tmp_path, environ=env)), "BAD", "permissions", "others may change", "api_keys")
    subprocess.run(["sh", "-c", told.todo], check=True)
    inside = scene(tmp_path, environ=env)
    inside.mode = "docker"
    one(permissions.examine(inside), "ok", "permissions")
    (secrets / "page_key").chmod(0o600)
    told = one(permissions.examine(inside), "BAD", "permissions", "the containers' user can't read", "page_key")


def test_a_model_that_everybody_may_change(volume: Path, tmp_path: Path) -> None:
    (volume / "current").resolve().joinpath("model.gguf").chmod(0o666)
    told = one(permissions.examine(scene(tmp_path, MODEL__NAME="demo")), "BAD", "permissions", "everybody may change", "model.gguf")
    assert told.todo.startswith("chmod -R o-w")


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become somebody else")
def test_a_volume_of_somebody_else(tmp_path: Path) -> None:
    """Started once as root, then as nobody."""
    home = Path(subprocess.run(["mktemp", "-d", "/var/tmp/doctor.XXXX"], capture_output=True, text=True, check=True).stdout.strip())
    try:
        home.chmod(0o755)
        (home / "volume").mkdir(mode=0o755)
        child = os.fork()
        if not child:
            os.setgid(65534)
            os.setuid(65534)
            found = permissions.examine(scene(home, environ={"CLOISTER_SECRETS": "none"}))
            os._exit(0 if any("this user may not write" in item.found and item.level == "BAD" for item in found) else 1)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    finally:
        shutil.rmtree(home)


def test_a_token_in_a_file_that_others_may_read(tmp_path: Path) -> None:
    file = tmp_path / ".env"
    file.write_text("CLOISTER_UI__PORT=1\nHF_TOKEN=hf_secretsecret\n")
    notes = permissions.Notes("permissions")
    file.chmod(0o600)
    permissions._dotenv(notes, file)
    assert notes.all == []
    file.chmod(0o644)
    permissions._dotenv(notes, file)
    assert "hf_" not in one(notes.all, "warn", "permissions", "others may read .env").line()


@pytest.mark.parametrize("wrong", [["--nothing"], ["--report", "/nowhere/at/all/report"], ["--report"]])
def test_wrong_use(tmp_path: Path, wrong: list[str]) -> None:
    done = subprocess.run([ROOT / "scripts/doctor", *wrong], env=environment(tmp_path), capture_output=True, check=False, timeout=60)
    assert done.returncode == 2 and done.stdout == b""
    done = subprocess.run([ROOT / "scripts/doctor", "--help"], capture_output=True, text=True, check=True, timeout=60)
    assert "--report FILE" in done.stdout and "Exit codes" in done.stdout
