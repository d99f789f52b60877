"""`python -m tests.stack.story`: the whole story of docs/airgap.md once, with its times and sizes, as Markdown on standard output.

Needs root, and the Docker stack of this checkout (scripts/up); CLOISTER_MODEL__NAME names the model that it has, such as demo. The
bundles are made of it; they are installed on a second engine in a network namespace with nothing but loopback.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from tests.conftest import ROOT
from tests.stack import bundles, offline
from tests.stack.bundles import Bundles, Installed, flipped, refused, release, renamed, unready, without
from tests.stack.conftest import QUESTION
from tests.stack.offline import Machine

SECRET = re.compile(r"cl-[\w-]{20,}|\b\w{5}-\w{5}-\w{5}-\w{5}-\w{6}\b")


def tell(folder: Path, title: str, command: str, seconds: float, said: str, code: int = 0) -> None:
    """A step as it is shown: secrets and the folder's name are left out."""
    said = SECRET.sub("(shown once)", said.replace(str(folder), "").replace("\n\n", "\n")).strip("\n")
    print(f"### {title}\n\n{seconds:.1f} s{f', exit code {code}' if code else ''}\n\n```\n$ {command}\n{said}\n```\n", flush=True)


def make(folder: Path, out: str, *options: str | Path, root: Path = ROOT, **more: str) -> float:
    command = [root / "scripts/bundle", "--key", folder / "key", "--out", folder / out, *options]
    began = time.monotonic()
    done = subprocess.run(command, cwd=root, env=os.environ | more, text=True, capture_output=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    shown = "scripts/bundle " + " ".join(str(option).replace(f"{folder}/", "") for option in ("--out", out, *options))
    tell(folder, f"A machine with a network: {out}", shown, time.monotonic() - began, done.stderr + done.stdout)
    return (folder / out).stat().st_size if (folder / out).exists() else 0


def step(machine: Machine, title: str, folder: Path, *command: str) -> str:
    began = time.monotonic()
    done = machine.run(*command, cwd=folder)
    tell(
        machine.home,
        title,
        " ".join(command).replace(str(machine.home), ""),
        time.monotonic() - began,
        done.stderr + done.stdout,
        done.returncode,
    )
    return done.stdout


def damages(machine: Machine, whole: Path, parts: Path, beside: Path) -> None:
    """Each on its own; afterwards everything is as it was, or the story ends here."""
    rows: list[tuple[str, str]] = []
    biggest = max((whole / "images").iterdir(), key=lambda file: file.stat().st_size)
    for what, file in (
        ("a bit flipped in a layer", biggest),
        ("a bit flipped in the model", next((whole / "model").rglob("model.gguf"))),
        ("a bit flipped in compose.yaml", whole / "compose.yaml"),
        ("a bit flipped in RELEASE", whole / "RELEASE"),
        ("a bit flipped in the installer", whole / "scripts/installing/docker.sh"),
        ("a bit flipped in SHA256SUMS", whole / "SHA256SUMS"),
        ("a bit flipped in the signature", whole / "SHA256SUMS.sig"),
    ):
        mend = flipped(file)
        rows.append((what, refused(machine, whole)))
        mend()
    for what, file in (("a layer missing", biggest), ("the licence missing", whole / "LICENSE")):
        file.rename(beside / "kept")
        rows.append((what, refused(machine, whole)))
        (beside / "kept").rename(file)
    rows.append(("signed by another key", refused(machine, whole, "--fingerprint", "SHA256:ofSomebodyElse")))
    one, two = parts / "c.tar.001", parts / "c.tar.002"
    mend = flipped(two)
    rows.append(("a bit flipped in a part", refused(machine, beside / "cloister", str(parts))))
    mend()
    one.rename(parts / "kept")
    rows.append(("a part missing", refused(machine, beside / "cloister", str(parts))))
    two.rename(one)
    (parts / "kept").rename(two)
    rows.append(("two parts mixed up", refused(machine, beside / "cloister", str(parts))))
    one.rename(parts / "kept")
    two.rename(one)
    (parts / "kept").rename(two)
    size = two.stat().st_size
    os.truncate(two, size // 2)
    rows.append(("a part cut short", refused(machine, beside / "cloister", str(parts))))
    for what, name, program in (
        ("no ssh-keygen, no minisign", "ssh-keygen", ""),
        ("no Docker", "docker", ""),
        ("no Compose", "docker", '[ "$1" != compose ] || exit 1'),
        ("an old Docker", "docker", '[ "$1" != version ] || { echo 19.03.15 amd64; exit; }'),
        ("another architecture", "docker", '[ "$1" != version ] || { echo 28.0.0 arm64; exit; }'),
        ("no engine", "docker", '[ "$1" != version ] || exit 1'),
    ):
        rows.append((what, refused(machine, whole, PATH=without(machine, name, program))))
    print("### What was damaged, and the sentence it got\n")
    print("After each the machine was as before: files, images, containers, volumes, networks.\n")
    print("| what | the sentence |\n|---|---|")
    for what, sentence in rows:
        print(f"| {what} | `{sentence.removeprefix('cloister: ').replace(str(machine.home), '').replace(str(parts.parent), '')}` |")
    print(flush=True)


def main() -> None:
    print("# Without a network: one whole run\n")
    print("Two Docker engines on one machine of 2 cores, the second in a network namespace with nothing but loopback, the demo model.\n")
    with tempfile.TemporaryDirectory(dir=os.environ.get("TMPDIR", "/var/tmp")) as name:
        folder = Path(name)
        whole = make(folder, "a.tar")
        (folder / "parts").mkdir()
        make(folder, "parts/c.tar", "--split", "300M")
        newer = make(folder, "newer.tar", "--since", folder / "a.tar.manifest", root=bundles.later(folder / "later"), CLOISTER_TAG="story")
        other = make(folder, "q8_0.tar", "--since", folder / "a.tar.manifest", CLOISTER_MODEL__QUANT="q8_0")
        made = Bundles(folder / "a.tar", folder / "parts", folder / "newer.tar", folder / "key", "", "", {})
        with offline.machine(folder / "off") as machine:
            here = made.unpack(made.file, folder / "off/srv")
            upgrade = made.unpack(made.newer, folder / "off/upgrade")
            made.unpack(made.parts / "c.tar.000", folder / "off/stick")
            damages(machine, here, made.parts, folder / "off/stick")
            said = step(machine, "A machine without: install", here, "./install")
            installed = Installed(here, said.split("shown only now:")[1].split()[0], said, 0)

            def chat() -> None:
                began = time.monotonic()
                answer = bundles.answers(installed, QUESTION)
                tell(folder, "Chat", f"POST /v1/chat/completions {QUESTION}", time.monotonic() - began, answer)

            chat()
            step(machine, "Upgrade", upgrade, "./install", "--upgrade", str(here))
            chat()
            bad = made.unpack(made.newer, folder / "off/bad")
            unready(bad)
            renamed(bad, "0.1.0-broken000000", made.key, since=release(here))
            step(machine, "A release whose API can't start takes itself back", bad, "./install", "--upgrade", str(here))
            step(machine, "Roll back", here, "scripts/rollback")
            chat()
            quant = made.unpack(folder / "q8_0.tar", folder / "off/quant")
            step(machine, "Another quant of the model", quant, "./install", "--upgrade", str(here))
            chat()
        print("### Sizes\n")
        print(f"| bundle | bytes | of the whole |\n|---|---|---|\n| whole | {whole} | |")
        print(f"| since, another line of code | {newer} | {newer / whole:.2%} |\n| since, another quant | {other} | {other / whole:.2%} |")


if __name__ == "__main__":
    if os.geteuid():
        sys.exit("the story needs root: its machine without a network is a network namespace")
    main()
