"""scripts/bundle on an engine, ./install on another one that has no network: the whole story, and every damage with its sentence."""

from __future__ import annotations

import hashlib
import json
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.conftest import ROOT
from tests.stack import offline
from tests.stack.conftest import QUESTION, Stack, wait
from tests.stack.offline import ENTER, Machine

SHELLS = [["dash"], ["busybox", "sh"]]
ASK = """
import json, sys, urllib.request
key, question = sys.argv[1:]
body = json.dumps({"messages": [{"role": "user", "content": question}]}).encode()
headers = {"Authorization": f"Bearer {key}", "Content-Type": "application/json"}
request = urllib.request.Request("http://127.0.0.1:8000/v1/chat/completions", body, headers)
print(json.load(urllib.request.urlopen(request, timeout=120))["choices"][0]["message"]["content"])
"""


@dataclass(frozen=True)
class Bundles:
    """The same bundle in one file and in parts, and what scripts/bundle said."""

    file: Path
    parts: Path
    fingerprint: str
    again: str


def digest(file: Path) -> str:
    with file.open("rb") as content:
        return hashlib.file_digest(content, "sha256").hexdigest()


@pytest.fixture(scope="module")
def bundles(stack: Stack, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bundles]:
    folder = tmp_path_factory.mktemp("bundles")
    file, parts, key = folder / "a.tar", folder / "parts", folder / "key"
    parts.mkdir()
    command = [ROOT / "scripts/bundle", "--key", key, "--out"]
    stack.run(*command, file)
    first = digest(file)
    # Once more, interrupted when the images are there: they are not made again, and every byte is the same.
    images = folder / "a.tar.work/body/cloister/images"
    cut = subprocess.Popen([*command, file], cwd=ROOT, env=stack.env, stderr=subprocess.DEVNULL, start_new_session=True)
    wait(images.exists, 300)
    cut.send_signal(signal.SIGKILL)
    cut.wait()
    assert digest(file) == first, "an unfinished bundle stands under the name of the finished one"
    resumed = subprocess.Popen([*command, file], cwd=ROOT, env=stack.env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    out, err = resumed.communicate(timeout=600)
    assert resumed.returncode == 0 and "cloister: images:" not in err, err
    split = stack.run(*command, parts / "c.tar", "--split", "300M")
    fingerprint = split.stdout.split("signed by ")[1].split()[0]
    assert fingerprint in out
    yield Bundles(file, parts, fingerprint, "same" if digest(file) == first else "other")
    shutil.rmtree(folder)


@pytest.fixture(scope="module")
def machine(bundles: Bundles, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Machine]:
    with offline.machine(tmp_path_factory.mktemp("off")) as there:
        yield there


@pytest.fixture(scope="module")
def unpacked(bundles: Bundles, machine: Machine) -> Path:
    subprocess.run(["tar", "-xf", bundles.file, "-C", machine.home], check=True)
    return machine.home / "cloister"


def refused(machine: Machine, folder: Path, *arguments: str, shell: list[str] = SHELLS[0], **environment: str) -> str:
    """What ./install says as it refuses; the machine is as it was."""
    before = machine.holds(), sorted(folder.rglob("*"))
    told = Machine(machine.home, machine.data, machine.programs, machine.log, {**machine.environment, **environment})
    program = shutil.which(shell[0])
    assert program
    done = told.run(program, *shell[1:], "./install", *arguments, cwd=folder)
    assert done.returncode == 1, done.stdout + done.stderr
    assert (machine.holds(), sorted(folder.rglob("*"))) == before
    return done.stderr.splitlines()[-1]


def flipped(file: Path) -> Callable[[], None]:
    """One bit of the file's middle is another one, until what is returned is called."""

    def flip() -> None:
        with file.open("r+b") as content:
            content.seek(file.stat().st_size // 2)
            byte = content.read(1)[0]
            content.seek(-1, 1)
            content.write(bytes([byte ^ 1]))

    flip()
    return flip


def test_the_same_input_makes_the_same_bytes(bundles: Bundles) -> None:
    assert bundles.again == "same"
    assert all(file.stat().st_size <= 300 << 20 for file in bundles.parts.iterdir())


@pytest.mark.parametrize("shell", SHELLS)
@pytest.mark.parametrize("name", ["images", "model", "RELEASE", "compose.yaml"])
def test_a_flipped_bit_is_found(machine: Machine, unpacked: Path, name: str, shell: list[str]) -> None:
    file = max((p for p in (unpacked / name).rglob("*") if p.is_file()), key=lambda p: p.stat().st_size, default=unpacked / name)
    mend = flipped(file)
    try:
        assert f"{file.relative_to(unpacked)} is damaged" in refused(machine, unpacked, shell=shell)
    finally:
        mend()


def test_a_missing_file_is_named(machine: Machine, unpacked: Path) -> None:
    (unpacked / "LICENSE").rename(unpacked / "elsewhere")
    try:
        assert "LICENSE is missing here" in refused(machine, unpacked)
    finally:
        (unpacked / "elsewhere").rename(unpacked / "LICENSE")


def test_the_signature_is_looked_at(machine: Machine, unpacked: Path, bundles: Bundles) -> None:
    mend = flipped(unpacked / "SHA256SUMS")
    try:
        assert "the signature does not fit SHA256SUMS" in refused(machine, unpacked)
    finally:
        mend()
    assert f"signed by {bundles.fingerprint} and not by SHA256:x" in refused(machine, unpacked, "--fingerprint", "SHA256:x")


def without(machine: Machine, name: str, program: str = "") -> str:
    """A PATH where a program is missing, or another one stands for it."""
    folder = machine.home / f"without-{name}-{hashlib.sha256(program.encode()).hexdigest()[:6]}"
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(machine.programs, folder, symlinks=True)
    (folder / name).unlink()
    if program:
        (folder / name).write_text(f'#!/bin/sh\n{program}\nexec {shutil.which(name)} "$@"\n')
        (folder / name).chmod(0o755)
    return str(folder)


@pytest.mark.parametrize("shell", SHELLS)
@pytest.mark.parametrize(
    ("name", "program", "sentence"),
    [
        ("ssh-keygen", "", "there is no ssh-keygen here"),
        ("docker", "", "there is no docker here"),
        ("docker", '[ "$1" != compose ] || exit 1', "Docker is here without Compose"),
        ("docker", '[ "$1" != version ] || { echo 19.03.15 amd64; exit; }', "Docker 19.03.15 is too old"),
        ("docker", '[ "$1" != version ] || { echo 28.0.0 arm64; exit; }', "this bundle is for amd64 and this machine is arm64"),
        ("docker", '[ "$1" != version ] || exit 1', "the Docker engine does not answer"),
    ],
)
def test_what_is_not_here_is_named(machine: Machine, unpacked: Path, name: str, program: str, sentence: str, shell: list[str]) -> None:
    assert sentence in refused(machine, unpacked, shell=shell, PATH=without(machine, name, program))


def test_a_port_that_is_taken_is_named(machine: Machine, unpacked: Path) -> None:
    listen = "import socket; s = socket.create_server(('127.0.0.1', 8000)); print('on', flush=True); s.accept()"
    other = subprocess.Popen([*ENTER, "python3", "-c", listen], stdout=subprocess.PIPE, text=True)
    try:
        assert other.stdout is not None and other.stdout.readline() == "on\n"
        assert "port 8000 is taken by another program: free it, or set CLOISTER_API__PORT" in refused(machine, unpacked)
    finally:
        other.kill()
        other.wait()


def test_too_little_disk_is_told_with_both_numbers(machine: Machine, unpacked: Path) -> None:
    small = machine.home / "small"
    small.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64m", "tmpfs", small], check=True)
    try:
        program = f'[ "$1" != info ] || {{ echo {small}; exit; }}'
        assert f"MB in {small}, and 68 MB are free" in refused(machine, unpacked, PATH=without(machine, "docker", program))
    finally:
        subprocess.run(["umount", small], check=True)


@pytest.mark.parametrize("shell", SHELLS)
def test_parts_that_are_wrong_are_named(machine: Machine, bundles: Bundles, shell: list[str]) -> None:
    one, two = bundles.parts / "c.tar.001", bundles.parts / "c.tar.002"
    beside = machine.home / "parts"
    shutil.rmtree(beside, ignore_errors=True)
    beside.mkdir()
    subprocess.run(["tar", "-xf", bundles.parts / "c.tar.000", "-C", beside], check=True)
    folder, where = beside / "cloister", str(bundles.parts)
    assert "part c.tar.001 of 3 is not in .." in refused(machine, folder, shell=shell)
    mend = flipped(two)
    assert "c.tar.002 is damaged, or of another bundle" in refused(machine, folder, where, shell=shell)
    mend()
    one.rename(bundles.parts / "x")
    two.rename(one)
    (bundles.parts / "x").rename(two)
    assert "c.tar.001 holds what belongs into c.tar.002: the parts were mixed up" in refused(machine, folder, where, shell=shell)
    one.rename(bundles.parts / "x")
    two.rename(one)
    (bundles.parts / "x").rename(two)


def test_what_fails_later_is_undone(machine: Machine, unpacked: Path) -> None:
    program = '[ "$1 $4" != "compose up" ] || exit 1'
    assert "taking back what was done" in refused(machine, unpacked, PATH=without(machine, "docker", program))


def test_installed_from_parts_after_a_cut_it_answers_and_pulls_nothing(machine: Machine, bundles: Bundles) -> None:
    home = machine.home / "real"
    home.mkdir()
    subprocess.run(["tar", "-xf", bundles.parts / "c.tar.000", "-C", home], check=True)
    folder = home / "cloister"
    arguments = ["./install", "--fingerprint", bundles.fingerprint, str(bundles.parts)]
    began = time.time()
    shell = shutil.which("dash") or "sh"
    cut = subprocess.Popen([*ENTER, shell, *arguments], cwd=folder, env=machine.environment, stderr=subprocess.DEVNULL)
    wait(lambda: any("cloister-door" in line for line in machine.docker("images")), 300)
    cut.kill()
    cut.wait()
    done = machine.run(shell, *arguments, cwd=folder)
    assert done.returncode == 0, done.stderr
    assert "taking back what was done" in done.stderr and "23" in done.stderr and "http://127.0.0.1:7860" in done.stdout
    key = done.stdout.split("API key of first, shown only now:")[1].split()[0]
    asked = subprocess.run([*ENTER, "python3", "-c", ASK, key, QUESTION], text=True, capture_output=True, check=True)
    assert "23" in asked.stdout and "12" in asked.stdout
    events = machine.docker("events", "--since", f"{began:.0f}", "--until", f"{time.time():.0f}", "--format", "{{json .}}")
    assert events and not [event for event in map(json.loads, events) if event.get("Action") == "pull"]
    assert "Attempting next endpoint for pull" not in machine.log.read_text()
    assert "a Cloister named cloister is here already" in refused(machine, folder)
