"""`docker save IMAGE ... | python3 images.py FOLDER`: the images as files that are named by their content.

Owns the archive's form: every engine of another version or store writes another one, with times in it; this one has the same bytes
for the same images, holds a layer once, and every engine's `docker load` reads it:

    manifest.json     which configuration and which layers make an image, and its name
    <sha256>.json     an image's configuration
    <sha256>.tar      a layer, by the digest of these bytes

Needs nothing but the standard library.
"""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import posixpath
import sys
import tarfile
from pathlib import Path
from typing import IO, Any

CHUNK = 1 << 20
GZIP = b"\x1f\x8b"


def normalise(archive: IO[bytes], folder: Path) -> list[str]:
    """Write the archive's images into the empty folder; their names in the archive's order.

    Raises:
        ValueError: it is not a whole archive of `docker save`.
    """
    found: dict[str, Path] = {}
    links: dict[str, str] = {}
    with tarfile.open(fileobj=archive, mode="r|") as members:
        for member in members:
            name = posixpath.normpath(member.name)
            if member.islnk():
                links[name] = posixpath.normpath(member.linkname)
            elif member.issym():
                links[name] = posixpath.normpath(posixpath.join(posixpath.dirname(name), member.linkname))
            elif member.isfile() and (content := members.extractfile(member)) is not None:
                found[name] = _keep(content, folder)
    try:
        images: list[dict[str, Any]] = json.loads(_file("manifest.json", found, links).read_bytes())
        described = [_describe(image, folder, found, links) for image in images]
    except KeyError as error:
        raise ValueError(f"docker save did not write {error}") from None
    for left in folder.glob(".*"):
        left.unlink()
    text = json.dumps(sorted(described, key=lambda image: image["RepoTags"]), indent=1, sort_keys=True)
    (folder / "manifest.json").write_text(text + "\n")
    return [name for image in described for name in image["RepoTags"]]


def _keep(content: IO[bytes], folder: Path) -> Path:
    """Write it under a hidden name that is its digest; what is there already is the same. Some stores compress layers; ours are plain."""
    buffered = io.BufferedReader(content)  # type: ignore[type-var]
    plain = gzip.GzipFile(fileobj=buffered) if buffered.peek(2)[:2] == GZIP else buffered
    digest, part = hashlib.sha256(), folder / ".part"
    with part.open("wb") as file:
        while chunk := plain.read(CHUNK):
            digest.update(chunk)
            file.write(chunk)
    return part.rename(folder / f".{digest.hexdigest()}")


def _file(name: str, found: dict[str, Path], links: dict[str, str]) -> Path:
    for _ in range(len(links)):
        name = links.get(name, name)
    return found[name]


def _describe(image: dict[str, Any], folder: Path, found: dict[str, Path], links: dict[str, str]) -> dict[str, Any]:
    """The image's entry in our manifest; its files get their names."""

    def named(path: str, kind: str) -> str:
        hidden = _file(posixpath.normpath(path), found, links)
        name = f"{hidden.name[1:]}.{kind}"
        if not (folder / name).exists():
            hidden.rename(folder / name)
        return name

    layers = [named(path, "tar") for path in image["Layers"]]
    return {"Config": named(image["Config"], "json"), "Layers": layers, "RepoTags": sorted(image["RepoTags"])}


if __name__ == "__main__":
    try:
        normalise(sys.stdin.buffer, Path(sys.argv[1]))
    except (ValueError, tarfile.TarError) as error:
        sys.exit(f"images: {error}")
