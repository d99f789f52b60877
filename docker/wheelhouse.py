"""Inside docker build: `python wheelhouse.py FOLDER PYTHON... -- REQUIREMENTS...` puts wheels of all that is locked into the folder.

Owns which wheels a machine without Docker and network may need: those of several versions of Python, of this kind of CPU. The folder holds
llama-cpp-python's wheel already. A version for which something can't be had is left out and said. Writes `about` beside the wheels:

    pythons=3.11 3.12      the versions of Python
    glibc=2.34             the oldest C library that all of it runs on
    glibcxx=3.4.30         what llama.cpp needs of libstdc++
"""

from __future__ import annotations

import platform
import re
import subprocess
import sys
import zipfile
from pathlib import Path

from packaging.markers import default_environment
from packaging.requirements import Requirement

NEWEST_GLIBC = 36  # as in Debian 12, which llama.cpp is compiled on
LEGACY = {"manylinux1": 5, "manylinux2010": 12, "manylinux2014": 17}  # PEP 600


def wanted(python: str, files: list[Path]) -> list[str]:
    """What pip is to fetch for this version of Python, without markers: pip would judge them by the version that it runs on."""
    environment: dict[str, str] = {**default_environment(), "python_version": python, "python_full_version": f"{python}.0", "extra": ""}  # type: ignore[dict-item]
    lines = {}
    for file in files:
        for line in file.read_text().replace("\\\n", " ").splitlines():
            pin, *hashes = line.split(" --hash=")
            if not pin.strip() or pin.startswith(("#", "llama-cpp-python==")):
                continue
            requirement = Requirement(pin)
            if requirement.marker is None or requirement.marker.evaluate(environment):
                lines[requirement.name] = " --hash=".join([f"{requirement.name}{requirement.specifier}", *map(str.strip, hashes)])
    return sorted(lines.values())


def fetch(python: str, requirements: list[str], folder: Path) -> bool:
    """Whether all of them are wheels in the folder now; pip says what is missing."""
    machine = platform.machine()
    tags = [f"manylinux_2_{minor}_{machine}" for minor in range(NEWEST_GLIBC, 4, -1)] + [f"{name}_{machine}" for name in reversed(LEGACY)]
    listed = folder / "requirements.txt"
    listed.write_text("\n".join(requirements))
    command = [sys.executable, "-m", "pip", "download", "--disable-pip-version-check", "--no-cache-dir", "--no-deps", "--only-binary=:all:"]
    command += ["--require-hashes", "--implementation=cp", f"--python-version={python}", *(f"--platform={tag}" for tag in tags)]
    done = subprocess.run([*command, "--dest", folder, "--requirement", listed], check=False)
    listed.unlink()
    return done.returncode == 0


def glibc(wheel: str) -> int:
    """The minor version of the oldest C library (2.x) that the tags of a wheel's name allow; 0 where it needs none."""
    tags = wheel.removesuffix(".whl").split("-")[-1].split(".")
    new = [int(found[1]) for tag in tags if (found := re.match(r"manylinux_2_(\d+)_", tag))]
    return min([*new, *(LEGACY[name] for tag in tags if (name := tag.partition("_")[0]) in LEGACY)], default=0)


def symbols(wheel: Path, library: bytes) -> list[tuple[int, ...]]:
    """The versions of a library's symbols, such as GLIBC, that the wheel's own libraries ask for."""
    with zipfile.ZipFile(wheel) as archive:
        content = b"".join(archive.read(name) for name in archive.namelist() if ".so" in name)
    return [tuple(map(int, found.split(b"."))) for found in re.findall(library + rb"_([0-9]+(?:\.[0-9]+)+)\0", content)]


def dotted(version: tuple[int, ...]) -> str:
    return ".".join(map(str, version))


def main(arguments: list[str]) -> None:
    folder, pythons = Path(arguments[0]), arguments[1 : arguments.index("--")]
    files = [Path(name) for name in arguments[arguments.index("--") + 1 :]]
    (native,) = folder.glob("llama_cpp_python-*.whl")
    had = []
    for python in pythons:
        before = set(folder.iterdir())
        if fetch(python, wanted(python, files), folder):
            had.append(python)
            continue
        for new in set(folder.iterdir()) - before:
            new.unlink()
        sys.stdout.write(f"wheelhouse: Python {python} is left out: see above\n")
    if not had:
        sys.exit("wheelhouse: there are wheels for no version of Python")
    oldest = max([*symbols(native, b"GLIBC"), *((2, glibc(wheel.name)) for wheel in folder.glob("*.whl"))])
    lines = f"pythons={' '.join(had)}\nglibc={dotted(oldest)}\nglibcxx={dotted(max(symbols(native, b'GLIBCXX')))}\n"
    (folder / "about").write_text(lines)
    sys.stdout.write(lines)


if __name__ == "__main__":
    main(sys.argv[1:])
