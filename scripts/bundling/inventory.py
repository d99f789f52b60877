"""`python3 inventory.py NAME VERSION FOLDER`, inside of an image of that name: what is installed here.

Owns FOLDER/sbom/NAME.cdx.json, the bill of materials (CycloneDX 1.6, https://cyclonedx.org/docs/1.6/json/), and
FOLDER/licences/NAME.txt, the text of all licences, both from dpkg's status and Python's dist-info. The same image gives
the same bytes: no time, no serial number. Needs nothing but the standard library.
"""

from __future__ import annotations

import importlib.metadata
import json
import re
import sys
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

ROOT = Path("/")
LICENCE_FILE = re.compile(r"(licen[cs]e|copying|notice|authors)", re.IGNORECASE)


@dataclass(frozen=True, order=True)
class Package:
    """Something installed. `licence` is what it says of itself, `expression` whether that is an SPDX expression."""

    kind: str  # deb or pypi
    name: str
    version: str
    url: str
    texts: tuple[Path, ...]
    licence: str = ""
    expression: bool = False
    description: str = ""


def debian(root: Path = ROOT) -> list[Package]:
    """The packages that dpkg says are installed."""
    release = dict(re.findall(r'^(\w+)="?([^"\n]*)"?$', (root / "etc/os-release").read_text(), re.MULTILINE))
    distribution, where = release.get("ID", "debian"), f"{release.get('ID', 'debian')}-{release.get('VERSION_ID', '')}".rstrip("-")
    found = []
    for block in (root / "var/lib/dpkg/status").read_text(encoding="utf-8").split("\n\n"):
        fields: dict[str, str] = dict(re.findall(r"^([A-Za-z-]+): (.*)$", block, re.MULTILINE))
        if not fields.get("Status", "").endswith(" installed"):
            continue
        name, version = fields["Package"], fields["Version"]
        source = fields.get("Source", name).partition(" ")[0]
        url = f"pkg:deb/{distribution}/{quote(name, safe='.-~')}@{quote(version, safe='.-~')}?arch={fields['Architecture']}&distro={where}"
        if source != name:
            url += f"&upstream={quote(source, safe='.-~')}"
        text = root / "usr/share/doc" / name / "copyright"
        found.append(Package("deb", name, version, url, (text,) if text.is_file() else (), description=fields.get("Description", "")))
    return found


def python() -> list[Package]:
    """The distributions that this Python sees."""
    found = []
    for distribution in importlib.metadata.distributions():
        about = distribution.metadata

        def said(key: str, about: importlib.metadata.PackageMetadata = about) -> str:
            return str((about.get_all(key) or [""])[0]).strip()

        name = re.sub(r"[-_.]+", "-", said("Name")).lower()
        expression = said("License-Expression")
        short = said("License") if len(said("License")) < 60 else ""  # some hold the whole text
        classified = [
            classifier.split(" :: ")[-1] for classifier in about.get_all("Classifier") or () if classifier.startswith("License ::")
        ]
        licence = expression or short or " and ".join(classified)
        files = [Path(str(distribution.locate_file(file))) for file in distribution.files or () if ".dist-info" in str(file)]
        texts = tuple(sorted(file for file in files if LICENCE_FILE.search(file.name) and file.is_file()))
        url = f"pkg:pypi/{name}@{quote(distribution.version, safe='.-')}"
        found.append(Package("pypi", name, distribution.version, url, texts, licence, bool(expression), said("Summary")))
    return found


def sbom(packages: list[Package], name: str, version: str) -> str:
    """The bill of materials of an image of that name."""
    components = []
    for package in packages:
        component: dict[str, object] = {
            "type": "library",
            "bom-ref": package.url,
            "name": package.name,
            "version": package.version,
            "purl": package.url,
        }
        if package.description:
            component["description"] = package.description
        if package.licence:
            component["licenses"] = [{"expression": package.licence} if package.expression else {"license": {"name": package.licence}}]
        components.append(component)
    document = {
        "$schema": "http://cyclonedx.org/schema/bom-1.6.schema.json",
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "version": 1,
        "metadata": {"component": {"type": "container", "bom-ref": name, "name": name, "version": version}},
        "components": components,
        "dependencies": [{"ref": name, "dependsOn": [package.url for package in packages]}],
    }
    return json.dumps(document, ensure_ascii=False, indent=1) + "\n"


def licences(packages: list[Package], root: Path = ROOT) -> str:
    """Every package's own text, then those that Debian keeps in one place for all."""
    common = sorted(path for path in (root / "usr/share/common-licenses").glob("*") if path.is_file() and not path.is_symlink())
    parts = []
    for package in packages:
        text = "\n".join(path.read_text(encoding="utf-8", errors="replace").strip() for path in package.texts)
        head = f"{package.name} {package.version} ({package.kind}){': ' + package.licence if package.licence else ''}"
        parts.append(f"{'=' * 78}\n{head}\n{'=' * 78}\n{text or 'The image holds no text of its licence.'}\n")
    parts += [f"{'=' * 78}\n{path.name}, of usr/share/common-licenses\n{'=' * 78}\n{path.read_text(errors='replace')}" for path in common]
    return "\n".join(parts)


def main(name: str, version: str, folder: str) -> None:
    packages = sorted({package.url: package for package in debian() + python()}.values())
    for file, text in ((f"sbom/{name}.cdx.json", sbom(packages, name, version)), (f"licences/{name}.txt", licences(packages))):
        Path(folder, file).write_bytes(text.encode())


if __name__ == "__main__":
    main(*sys.argv[1:])
