"""./install --native in a network namespace with nothing but loopback and a PATH without docker."""

from __future__ import annotations

import hashlib
import os
import platform
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from tests.conftest import ROOT, free_port
from tests.stack import dockerd
from tests.stack.bundles import Bundles, digest, release
from tests.stack.conftest import QUESTION
from tests.stack.waiting import wait

PROGRAMS = (
    "awk base32 base64 bash cat chmod comm cp cut date df dirname env grep head id install ln ls mkdir mktemp mv readlink rm sed setsid sh "
    "sha256sum sleep sort ssh-keygen tail tar timeout touch tr uname wc"
)
MODEL = "models/demo/q4_k_m"


@dataclass(frozen=True)
class Bare:
    """A machine: what enters it, its programs, its environment."""

    enter: list[str]
    home: Path
    environment: dict[str, str]

    def run(self, folder: Path, *command: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [*self.enter, *command], cwd=folder, env=self.environment, text=True, capture_output=True, timeout=900, check=False
        )

    def without(self, name: str, program: str = "") -> Bare:
        """The same machine where a program is missing, or another one stands for it."""
        folder = self.home / f"without-{name}-{hashlib.sha256(program.encode()).hexdigest()[:6]}"
        shutil.copytree(self.environment["PATH"], folder, symlinks=True)
        (folder / name).unlink()
        if program:
            (folder / name).write_text(f"#!/bin/sh\n{program}\n")
            (folder / name).chmod(0o755)
        return replace(self, environment=self.environment | {"PATH": str(folder)})


@pytest.fixture(scope="module")
def bare(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bare]:
    if os.geteuid() != 0:
        assert os.environ.get("CI") != "true", "the network namespace needs root"
        pytest.skip("a network namespace needs root")
    home = tmp_path_factory.mktemp("bare")
    programs = home / "programs"
    programs.mkdir()
    for name in PROGRAMS.split():
        found = shutil.which(name)
        assert found, f"{name} is missing here"
        (programs / name).symlink_to(found)
    (programs / "python3").symlink_to(Path(sys.executable).resolve())
    ports = {"CLOISTER_UI__PORT": str(free_port()), "CLOISTER_API__PORT": str(free_port())}
    with dockerd.namespace("cloister-native"):
        yield Bare(dockerd.entering("cloister-native"), home, {"PATH": str(programs), "HOME": str(home), **ports})


@pytest.fixture(scope="module")
def wheels(engine: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheelhouse as scripts/bundle provides it."""
    folder = tmp_path_factory.mktemp("wheelhouse") / "wheels"
    program = '. scripts/environment; . scripts/docker; provide_wheel; provide_wheelhouse "$1"'
    command = ["bash", "-euc", program, ROOT / "scripts/bundle", folder]
    subprocess.run(command, cwd=ROOT, env=os.environ | {"BASE_IMAGE": engine}, check=True, timeout=2400)
    return folder


def handmade(folder: Path, wheels: Path, model: Path, glibc: str = "") -> Path:
    """An unpacked bundle without images, made in no time; nobody has signed it."""
    bundle = folder / "cloister"
    bundle.mkdir(parents=True)
    listed = re.search(r"^files=\((.*)\)$", (ROOT / "scripts/bundle").read_text(), re.MULTILINE)
    assert listed
    subprocess.run(["cp", "-R", "--parents", *listed[1].split(), bundle], cwd=ROOT, check=True)
    subprocess.run(["cp", "-al", wheels, bundle / "wheels"], check=True)
    (bundle / "scripts/installing/install").rename(bundle / "install")
    shutil.copytree(model / MODEL, bundle / "model" / MODEL)
    for cache in bundle.rglob("__pycache__"):
        shutil.rmtree(cache)
    about = (bundle / "wheels/about").read_text()
    (bundle / "wheels/about").unlink()
    if glibc:
        about = re.sub(r"glibc=.*", f"glibc={glibc}", about)
    machine = {"x86_64": "amd64", "aarch64": "arm64"}[platform.machine()]
    (bundle / "RELEASE").write_text(
        f"release=0.1.0-aaaaaaaaaaaa\narchitecture={machine}\nmodel=demo\nquant=\nrevision=\ndirectory={MODEL}\n"
        f"since=\nimages_bytes=0\nmodel_bytes=61622912\nbody_bytes=400000000\n{about}"
    )
    sums = {str(p.relative_to(bundle)): digest(p) for p in sorted(bundle.rglob("*")) if p.is_file()}
    held = "".join(f"{found}  {name}\n" for name, found in sums.items() if name.startswith(("model/", "wheels/")))
    (bundle / "MANIFEST").write_text(f"release=0.1.0-aaaaaaaaaaaa\n{held}")
    sums["MANIFEST"] = digest(bundle / "MANIFEST")
    (bundle / "SHA256SUMS").write_text("".join(f"{found}  {name}\n" for name, found in sums.items()))
    for name in ("SHA256SUMS.sig", "key.pub"):
        (bundle / name).touch()
    return bundle


INSTALL = ["sh", "./install", "--native", "--without-signature"]


def refused(bare: Bare, bundle: Path) -> str:
    """What ./install says as it refuses; the folder is as it was."""
    before = sorted(bundle.rglob("*"))
    done = bare.run(bundle, *INSTALL)
    assert done.returncode == 1, done.stdout + done.stderr
    assert sorted(bundle.rglob("*")) == before
    return done.stderr


@pytest.fixture(scope="module")
def bundle(wheels: Path, demo_volume: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return handmade(tmp_path_factory.mktemp("bundle"), wheels, demo_volume)


@pytest.mark.parametrize(
    ("name", "program", "sentence"),
    [
        ("python3", "", "there is no Python here: install one of 3.11"),
        ("python3", "echo 3.9", "this machine has Python 3.9, and this bundle is for 3.11"),
        ("uname", "echo riscv64", "and this machine is riscv64"),
        ("bash", "", "there is no bash here"),
    ],
)
def test_what_is_not_here_is_named(bare: Bare, bundle: Path, name: str, program: str, sentence: str) -> None:
    assert sentence in refused(bare.without(name, program), bundle).splitlines()[-1]


def test_a_damaged_wheel_is_named(bare: Bare, bundle: Path) -> None:
    wheel = next((bundle / "wheels").glob("supervisor-*.whl"))
    whole = wheel.read_bytes()
    wheel.unlink()  # it is linked to the one of other bundles
    wheel.write_bytes(whole[:100] + bytes([whole[100] ^ 1]) + whole[101:])
    try:
        assert f"wheels/{wheel.name} is damaged" in refused(bare, bundle)
    finally:
        wheel.write_bytes(whole)


def test_a_port_that_is_taken_is_named(bare: Bare, bundle: Path) -> None:
    port = bare.environment["CLOISTER_UI__PORT"]
    listen = f"import socket; s = socket.create_server(('127.0.0.1', {port})); print('on', flush=True); s.accept()"
    other = subprocess.Popen([*bare.enter, sys.executable, "-c", listen], stdout=subprocess.PIPE, text=True)
    try:
        assert other.stdout is not None and other.stdout.readline() == "on\n"
        assert f"port {port} is taken by another program: free it, or set CLOISTER_UI__PORT" in refused(bare, bundle)
    finally:
        other.kill()
        other.wait()


def test_an_old_c_library_is_named(bare: Bare, wheels: Path, demo_volume: Path, tmp_path: Path) -> None:
    assert "and 9.9 or newer is needed" in refused(bare, handmade(tmp_path, wheels, demo_volume, glibc="9.9"))


def test_what_fails_later_is_undone(bare: Bare, wheels: Path, demo_volume: Path, tmp_path: Path) -> None:
    fewer = tmp_path / "wheels"
    shutil.copytree(wheels, fewer, copy_function=os.link)
    next(fewer.glob("supervisor-*.whl")).unlink()
    said = refused(bare, handmade(tmp_path, fewer, demo_volume))
    assert "the packages can't be installed: see above" in said and "supervisor" in said and "taking back what was done" in said


def test_installed_stopped_started_upgraded_and_rolled_back(bare: Bare, bundles: Bundles) -> None:
    folder = bundles.unpack(bundles.file, bare.home / "installed")
    old = release(folder)

    def answers() -> None:
        said = bare.run(folder, "bash", "scripts/chat", QUESTION)
        assert "23" in said.stdout and "12" in said.stdout, said.stderr

    install = ["sh", "./install", "--native", "--fingerprint", bundles.fingerprint]
    cut = subprocess.Popen([*bare.enter, *install], cwd=folder, env=bare.environment, stderr=subprocess.DEVNULL)
    wait(lambda: any(folder.glob(".venv/lib/*/site-packages/llama_cpp")), 120)
    cut.kill()  # pip goes on
    cut.wait()
    done = bare.run(folder, *install)
    assert done.returncode == 0, done.stderr
    try:
        assert "taking back what was done" in done.stderr
        assert "23" in done.stderr and f"http://127.0.0.1:{bare.environment['CLOISTER_UI__PORT']}" in done.stdout
        assert "API key of first, shown only now" in done.stdout
        directory = (folder / "var/volume/current").resolve().relative_to(folder / "var/volume")
        models = [root / directory / "model.gguf" for root in (folder / "var/volume", folder / "model")]
        assert models[0].samefile(models[1]), "the model takes room twice"
        answers()
        assert "this folder was installed from before" in bare.run(folder, *install).stderr

        assert "stopped" in bare.run(folder, "bash", "scripts/down").stderr
        up = bare.run(folder, "bash", "scripts/up", "--native", "--detach")
        assert up.returncode == 0 and "installing" not in up.stderr, up.stderr
        answers()

        newer = bundles.unpack(bundles.newer, bare.home / "newer")
        upgraded = bare.run(newer, *install, "--upgrade", str(folder))
        assert upgraded.returncode == 0 and "installing" not in upgraded.stderr, upgraded.stderr
        assert release(folder) == release(newer) != old
        answers()
        back = bare.run(folder, "sh", "scripts/rollback")
        assert back.returncode == 0, back.stderr
        assert release(folder) == old
        answers()
    finally:
        bare.run(folder, "bash", "scripts/down")
