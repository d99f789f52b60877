"""What is seen from where the model lies or the page stands: in this process, in a child of it, or inside of a container.

`python -m scripts.diagnosis.probe PART`, or `python3 - PART` in a container with this file as its standard input: one JSON object on
standard output. So it imports nothing beyond services.shared before a part is known that needs more. Native code may crash on a
damaged file: then only a child dies, and the caller tells the signal. Judges nothing; writes nothing.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from services.shared import backend, files, hardware, isolation, manifest, progress, secret, settings
from services.shared.settings import Settings

TEXTS = (
    "鸡兔同笼：共有35个头，94只脚，问鸡和兔各几只？",
    "emoji 🐔🐰 👍🏽, ¡Olé!",
    "def f(x):\n\treturn [i for i in x if i % 2]\n",
    "龍䶮𡿺",  # the last one is written in bytes by most vocabularies
)
QUESTION = "鸡兔同笼,共有 35 个头,94 条腿,请问鸡和兔各有多少只?"
STEPS = 32  # pieces of an answer that tell how fast the engine is
CACHES = 4  # times the last-level cache: so large must be what is read to tell the memory's speed
BUFFER = 256 << 20, 1 << 30  # bytes, least and most of it
SECONDS = 1.0  # of reading
PATIENCE = 120.0  # seconds without an answer


def facts(config: Settings, root: Path = Path("/")) -> dict[str, Any]:
    """The machine or container as a process in here sees it, and what lies in the volume. `root`: where /proc and /sys are."""
    volume = config.paths.volume
    threads = hardware.threads(config.engine.threads, root=root)
    now, checked = progress.read(config.paths.progress), isolation.read(config.paths.run / isolation.NAME)
    return {
        "machine": vars(hardware.machine(root)),
        "memory_available": hardware.memory_available(root),
        "threads": threads.count,
        "threads_reason": threads.reason,
        "throttled": hardware.throttled(root),
        "cache": _cache(root),
        "disk_free": hardware.disk_free(volume),
        "volume": volume.is_dir(),
        "manifest": _manifest(config),
        "parts": _bytes(volume.glob("sources/*/parts/*")),
        "work": _bytes(volume.glob("work/*/*/*")),
        "progress": vars(now) if now else None,
        "contained": isolation.contained(),
        "routes": list(isolation.routes()),
        "checked": {"at": checked.at, "containers": [vars(one) for one in checked.containers]} if checked else None,
        "now": time.time(),
    }


def _bytes(files: Iterable[Path]) -> int:
    """What they hold together; init may rename or remove one meanwhile."""
    total = 0
    for file in files:
        with contextlib.suppress(OSError):
            total += file.stat().st_size if file.is_file() else 0
    return total


def _model(config: Settings) -> Path:
    """The directory of the model in use: of the one that [engine] model names, or the current one."""
    from services.engine import prepared

    return prepared.named(config) or config.paths.current


def _manifest(config: Settings) -> dict[str, Any] | None:
    """What is told of the model in use; None where there is none."""
    try:
        directory = _model(config)
        if not directory.is_symlink() and not directory.exists():
            return None
        found = manifest.read(directory)
    except (settings.SettingsError, manifest.ManifestError, OSError) as error:
        return {"error": str(error)}
    told = ("name", "title", "quant", "architecture", "parameters", "context_length", "created")
    size = {"size": found.model.size, "sha256": found.model.sha256}
    return {name: getattr(found, name) for name in told} | size | {"kind": found.source.kind, "location": found.source.location}


def hashes(config: Settings) -> dict[str, Any]:
    """Read the model in use and what is kept of its source again; `wrong`: files that are not what the manifest says."""
    directory, wrong, size = _model(config).resolve(), [], 0
    found = manifest.read(directory)
    kept = config.paths.volume / "sources" / found.name / (found.source.repo or "none").partition("/")[2]
    wanted = [
        (directory, found.model),
        *((kept, file) for file in found.source.files if found.source.repo and (kept / file.path).is_file()),
    ]
    for where, file in wanted:
        path = where / file.path
        if not path.is_file():
            wrong.append({"path": str(path), "why": "is not there"})
            continue
        size += path.stat().st_size
        if path.stat().st_size != file.size:
            wrong.append({"path": str(path), "why": f"has {path.stat().st_size} bytes, the manifest says {file.size}"})
        elif (now := files.sha256(path)) != file.sha256:
            wrong.append({"path": str(path), "why": f"has the SHA-256 {now[:16]}…, the manifest says {file.sha256[:16]}…"})
    return {"wrong": wrong, "files": len(wanted), "bytes": size}


def tokenizer(config: Settings) -> dict[str, Any]:
    """Send texts through the tokenizer and back; `lost`: those that came back otherwise. `variant`: the code chosen for this CPU."""
    import llama_cpp

    from services.engine.native import NativeVocabulary

    variant = backend.load(llama_cpp)
    llama_cpp.llama_backend_init()
    parameters = llama_cpp.llama_model_default_params()
    parameters.vocab_only = True  # the weights are the engine's
    model = llama_cpp.llama_model_load_from_file(os.fsencode(_model(config) / "model.gguf"), parameters)
    if not model:
        return {"variant": variant, "error": "llama.cpp can't load its vocabulary"}
    vocabulary = NativeVocabulary(llama_cpp.llama_model_get_vocab(model))
    lost = []
    for text in TEXTS:
        back = b"".join(vocabulary.pieces[token] for token in vocabulary.plain(text)).decode("utf-8", "replace")
        if back not in (text, " " + text):  # SentencePiece may put a space in front
            lost.append({"text": text, "back": back})
    return {"variant": variant, "texts": len(TEXTS), "lost": lost, "tokens": vocabulary.size}


def template(config: Settings) -> dict[str, Any]:
    """Render a conversation with the model's chat template, as the API does; `error`: why that is not possible."""
    from services.api.conversation import Message
    from services.api.errors import ApiError
    from services.api.renderer import Renderer

    found = manifest.read(_model(config))
    if not found.chat_template:
        return {"error": "there is none: this is a base model, which can't chat"}

    async def rendered() -> dict[str, Any]:
        renderer = Renderer(found.chat_template or "", bos_token=found.bos_token, eos_token=found.eos_token)
        try:
            await renderer.start()
            for roles in (("user",), ("user", "assistant", "user")):
                parts = (await renderer.render([Message(role, TEXTS[0]) for role in roles])).parts
                texts = [text for own, text in parts if not own]
                if texts.count(TEXTS[0]) != len(roles):
                    return {"error": f"of {len(roles)} messages {texts.count(TEXTS[0])} are in the prompt"}
        except ApiError as error:
            return {"error": error.message}
        finally:
            await renderer.close()
        return {"variables": sorted(renderer.variables)}

    return asyncio.run(rendered())


def bandwidth(config: Settings) -> dict[str, Any]:
    """Bytes a second that as many threads as the engine has read from memory, at best; `size` is that of the buffer they read."""
    import numpy as np

    count = hardware.threads(config.engine.threads).count
    size = min(max(BUFFER[0], CACHES * _cache(Path("/"))), BUFFER[1], hardware.memory_available() // 4)
    share = max(1, size // count // 8)
    buffers = [np.ones(share, np.int64) for _ in range(count)]
    best, ends = 0.0, time.monotonic() + SECONDS
    while not best or time.monotonic() < ends:
        readers = [threading.Thread(target=buffer.max) for buffer in buffers]
        began = time.perf_counter()
        for reader in readers:
            reader.start()
        for reader in readers:
            reader.join()
        best = max(best, share * 8 * count / (time.perf_counter() - began))
    return {"rate": best, "size": share * 8 * count, "threads": count, "cache": _cache(Path("/"))}


def _cache(root: Path) -> int:
    """Bytes of the largest cache of the first CPU; 0 where /sys does not tell."""
    sizes = [0]
    for file in root.glob("sys/devices/system/cpu/cpu0/cache/index*/size"):
        with contextlib.suppress(OSError, ValueError):
            text = file.read_text().strip()
            sizes.append(int(text.rstrip("KMG")) << {"K": 10, "M": 20, "G": 30}.get(text[-1], 0))
    return max(sizes)


def api(config: Settings) -> dict[str, Any]:
    """What the API tells of itself: `status` and `metrics`, or `code` and `error`."""
    try:
        with _open(config, "/v1/status", 10) as answer:
            told = {"status": json.load(answer)}
        with _open(config, "/metrics", 10) as answer:
            return told | {"metrics": answer.read().decode()}
    except urllib.error.HTTPError as error:
        return {"code": error.code, "error": error.reason}
    except (OSError, ValueError) as error:
        return {"code": 0, "error": str(error)}


def answer(config: Settings) -> dict[str, Any]:
    """Ask one question and hang up after some tokens; `rate` is pieces a second, of which a step of the engine makes one."""
    body = {"messages": [{"role": "user", "content": QUESTION}], "stream": True, "ignore_eos": True, "max_tokens": 4 * STEPS}
    times, text, began = [], "", time.perf_counter()
    try:
        with _open(config, "/v1/chat/completions", PATIENCE, json.dumps(body).encode()) as lines:
            for line in lines:
                if not line.startswith(b"data: {"):
                    continue
                event = json.loads(line[6:])
                if "error" in event:
                    return {"error": str(event["error"].get("message"))}
                delta = (event.get("choices") or [{}])[0].get("delta") or {}
                if piece := delta.get("reasoning_content") or delta.get("content"):
                    text += piece
                    times.append(time.perf_counter())
                if len(times) >= STEPS:
                    break
    except urllib.error.HTTPError as error:
        return {"code": error.code, "error": _reason(error)}
    except (OSError, ValueError) as error:
        return {"code": 0, "error": str(error)}
    if len(times) < 2:
        return {"error": "no text came"}
    return {"rate": (len(times) - 1) / (times[-1] - times[0]), "first": times[0] - began, "garbled": "\ufffd" in text}


def _open(config: Settings, path: str, patience: float, body: bytes | None = None) -> Any:
    key = secret.plain(config.ui.key)
    headers = {"Content-Type": "application/json"} | ({"Authorization": f"Bearer {key}"} if key else {})
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    return opener.open(urllib.request.Request(config.ui.api.rstrip("/") + path, body, headers), timeout=patience)


def _reason(error: urllib.error.HTTPError) -> str:
    try:
        return str(json.load(error)["error"]["message"])
    except (ValueError, KeyError, TypeError, OSError):
        return str(error.reason)


PARTS: dict[str, Callable[[Settings], dict[str, Any]]] = {
    part.__name__: part for part in (facts, hashes, tokenizer, template, bandwidth, api, answer)
}


def main(part: str) -> int:
    said = sys.stdout
    with contextlib.redirect_stdout(sys.stderr):
        try:
            found = PARTS[part](settings.load(os.environ))
        except ImportError as error:
            found = {"missing": error.name or "a package"}
        except (OSError, ValueError, RuntimeError) as error:
            found = {"error": f"{type(error).__name__}: {error}"}
    said.write(json.dumps(found))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
