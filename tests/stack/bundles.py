"""Bundles for the stack tests: made by scripts/bundle, damaged or made anew by hand, and what ./install says of them.

Owns the making, which takes minutes, so that all tests of a run share it. Machines that install them: tests/stack/offline.py.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import signal
import subprocess
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from tests.conftest import ROOT
from tests.stack.offline import ENTER, Machine

SHELLS = [["dash"], ["busybox", "sh"]]


@dataclass(frozen=True)
class Bundles:
    """A release in one file and in parts, the one after it as what is new since, all for a swarm too; and the seconds of each."""

    file: Path
    parts: Path
    newer: Path
    key: Path
    fingerprint: str
    said: str
    seconds: dict[str, float]

    def unpack(self, file: Path, folder: Path) -> Path:
        folder.mkdir(parents=True)
        subprocess.run(["tar", "-xf", file, "-C", folder], check=True)
        return folder / "cloister"


def make(folder: Path, environment: dict[str, str]) -> Bundles:
    """Make them with what the running stack was built from."""
    file, parts, newer, key = folder / "a.tar", folder / "parts", folder / "newer.tar", folder / "key"
    parts.mkdir()
    seconds: dict[str, float] = {}

    def bundle(out: Path, *options: str | Path, root: Path = ROOT, **more: str) -> str:
        began = time.monotonic()
        command = [root / "scripts/bundle", "--key", key, "--out", out, *options]
        done = subprocess.run(command, cwd=root, env=environment | more, text=True, capture_output=True, timeout=2400, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
        seconds[out.name] = time.monotonic() - began
        return done.stdout + done.stderr

    first = bundle(file, "--swarm")
    fingerprint = first.split("signed by ")[1].split()[0]
    with ThreadPoolExecutor() as pool:
        root, tag = later(folder / "later"), f"{environment['CLOISTER_TAG']}-later"
        made = pool.submit(bundle, newer, "--swarm", "--since", f"{file}.manifest", root=root, CLOISTER_TAG=tag)
        # Once more in parts, interrupted when the images are there: they are not made again.
        command = [ROOT / "scripts/bundle", "--key", key, "--out", parts / "c.tar", "--swarm", "--split", "300M"]
        cut = subprocess.Popen(command, cwd=ROOT, env=environment, stderr=subprocess.DEVNULL, start_new_session=True)
        images = parts / "c.tar.work/body/cloister/images"
        while not images.exists():
            assert cut.poll() is None
            time.sleep(0.1)
        os.killpg(cut.pid, signal.SIGKILL)
        cut.wait()
        assert [entry.name for entry in parts.iterdir()] == ["c.tar.work"], "an unfinished bundle stands under the name of the finished one"
        said = bundle(parts / "c.tar", "--swarm", "--split", "300M")
        assert "cloister: images:" not in said and f"signed by {fingerprint}" in said
        made.result()
    return Bundles(file, parts, newer, key, fingerprint, first, seconds)


@dataclass(frozen=True)
class Installed:
    """Where it is, its API key, what ./install said, and since when the engine's events are of interest."""

    folder: Path
    key: str
    said: str
    began: float


def install(bundles: Bundles, machine: Machine) -> Installed:
    """From the parts, killed when the images are loaded, and once more."""
    folder = bundles.unpack(bundles.parts / "c.tar.000", machine.home / "installed")
    arguments = ["./install", "--fingerprint", bundles.fingerprint, str(bundles.parts)]
    began = time.time()
    shell = shutil.which("dash") or "sh"
    cut = subprocess.Popen([*ENTER, shell, *arguments], cwd=folder, env=machine.environment, stderr=subprocess.DEVNULL)
    while not any("cloister-door" in line for line in machine.docker("images")):
        assert cut.poll() is None
        time.sleep(0.1)
    cut.kill()
    cut.wait()
    done = machine.run(shell, *arguments, cwd=folder)
    assert done.returncode == 0, done.stderr
    key = done.stdout.split("API key of first, shown only now:")[1].split()[0]
    return Installed(folder, key, done.stdout + done.stderr, began)


def later(root: Path) -> Path:
    """The checkout with another line in the API's code."""
    root.mkdir()
    files = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, check=True).stdout
    subprocess.run(["cp", "--parents", "-t", root, *filter(None, files.decode().split("\0"))], cwd=ROOT, check=True)
    for wheel in (ROOT / "docker/wheels").glob("*.whl"):
        shutil.copy(wheel, root / "docker/wheels")
    with (root / "services/api/__init__.py").open("a") as code:
        code.write("\n# A later release.\n")
    return root


def digest(file: Path) -> str:
    with file.open("rb") as content:
        return hashlib.file_digest(content, "sha256").hexdigest()


def release(folder: Path) -> str:
    """Its name, of a folder that a bundle was unpacked to."""
    return (folder / "RELEASE").read_text().split("\n")[0].removeprefix("release=")


def signed(folder: Path, key: Path) -> None:
    """Sign the folder as it is now."""
    listed = [line[66:] for line in (folder / "SHA256SUMS").read_text().splitlines()]
    sums = "".join(f"{digest(folder / name)}  {name}\n" for name in listed if (folder / name).exists())
    (folder / "SHA256SUMS").write_text(sums)
    (folder / "SHA256SUMS.sig").unlink()
    subprocess.run(
        ["ssh-keygen", "-q", "-Y", "sign", "-f", key, "-n", "cloister-bundle", folder / "SHA256SUMS"], check=True, capture_output=True
    )
    public = subprocess.run(["ssh-keygen", "-y", "-f", key], text=True, capture_output=True, check=True).stdout
    (folder / "key.pub").write_text(" ".join(public.split()[:2]) + "\n")


def renamed(folder: Path, name: str, key: Path, since: str | None = None) -> None:
    """The same release under another name, as after any change of it; `since` makes it build on another one."""
    old = release(folder)
    for file in (folder / "RELEASE", folder / "MANIFEST", folder / "images/manifest.json"):
        file.write_text(file.read_text().replace(old, name))
    if since is not None:
        about = folder / "RELEASE"
        about.write_text(re.sub(r"^since=.*$", f"since={since}", about.read_text(), flags=re.MULTILINE))
    signed(folder, key)


def unready(folder: Path) -> None:
    """Its API can't start: a setting that the code doesn't know."""
    override = folder / "compose.override.yaml"
    text = override.read_text()
    assert "  api: *here\n" in text
    override.write_text(text.replace("  api: *here\n", "  api:\n    pull_policy: never\n    command: [python3, -m, services.no_such]\n"))


def another_model(folder: Path, model: Path) -> None:
    """The same model with another manifest, in a bundle that had left it out: what a newer commit of its repository brings."""
    [manifest] = model.rglob("manifest.json")
    place = folder / manifest.parent.relative_to(model.parent)
    shutil.copytree(manifest.parent, place)
    text: dict[str, Any] = json.loads(manifest.read_text())
    (place / "manifest.json").write_text(json.dumps(text, indent=4))
    with (folder / "SHA256SUMS").open("a") as sums:
        sums.writelines(f"{digest(file)}  {file.relative_to(folder)}\n" for file in place.iterdir())
    about = folder / "RELEASE"
    size = sum(file.stat().st_size for file in place.iterdir())
    about.write_text(re.sub(r"^model_bytes=.*$", f"model_bytes={size}", about.read_text(), flags=re.MULTILINE))


ASK = """
import json, sys, urllib.request
key, question = sys.argv[1:]
body = json.dumps({"messages": [{"role": "user", "content": question}]}).encode()
headers = {"Authorization": f"Bearer {key}", "Content-Type": "application/json"}
request = urllib.request.Request("http://127.0.0.1:8000/v1/chat/completions", body, headers)
print(json.load(urllib.request.urlopen(request, timeout=120))["choices"][0]["message"]["content"])
"""


def answers(installed: Installed, question: str) -> str:
    """What the API there says to who has the key that it was installed with."""
    command = [*ENTER, "python3", "-c", ASK, installed.key, question]
    return subprocess.run(command, text=True, capture_output=True, check=True).stdout


def refused(machine: Machine, folder: Path, *arguments: str, shell: list[str] = SHELLS[0], **environment: str) -> str:
    """What ./install says as it refuses; the machine is as it was."""
    before = machine.holds(), sorted(folder.rglob("*"))
    told = replace(machine, environment=machine.environment | environment)
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
