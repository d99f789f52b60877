"""Does a finished GGUF work? Load it, weights and all, send texts through its tokenizer and back, let it write a few tokens.

The work happens in a child process (`python -m services.init.check PATH THREADS`, one JSON object on standard output), because
a crafted or corrupt file may crash native code. Knows nothing of how the file was made.
"""

from __future__ import annotations

import contextlib
import ctypes
import dataclasses
import json
import signal
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from services.init import header
from services.init.errors import CheckFailed, CorruptFile
from services.shared.settings import ROOT

TEXTS = (
    "鸡兔同笼：共有35个头，94只脚，问鸡和兔各几只？",
    "Emoji: 🐔🐰 👨‍👩‍👧‍👦 🏳️‍🌈 👍🏽 e\u0301 ¡Olé!",
    "def f(x: int) -> list[str]:\n\treturn [f'{i:>4}' for i in range(x) if i % 2 != 0]  # ok\n",
    "  two spaces,\ttab,\n\nnew lines \r\n and the end   ",
    "<b>&amp;</b> {\"a\": [1, 2.5e-3, null]} C:\\path // it's, I'm, we'll . ! ?",
)
PROMPT = "One, two, three,"
TOKENS = 8
SECONDS, BYTES_A_SECOND = 120.0, 20e6  # the longest wait: SECONDS, and what a slow disk needs to read the file


@dataclass(frozen=True)
class Facts:
    """What a checked GGUF says of itself. `parameters` counts weights, `context_length` is in tokens, `quant` is as in `[model] quant`."""

    architecture: str
    parameters: int
    context_length: int
    chat_template: str | None
    bos_token: str | None
    eos_token: str | None
    quant: str


def check(path: Path, threads: int) -> Facts:
    """Check a GGUF in a child process.

    Raises:
        CheckFailed: it does not load, its tokenizer does not round-trip, it computes nonsense, or it takes the process down.
    """
    try:
        header.read(path)
    except CorruptFile as error:
        raise CheckFailed(str(error)) from None
    wait = SECONDS + path.stat().st_size / BYTES_A_SECOND
    command = [sys.executable, "-m", "services.init.check", str(path.resolve()), str(threads)]
    try:
        child = subprocess.run(command, cwd=ROOT, capture_output=True, timeout=wait, check=False)
    except subprocess.TimeoutExpired:
        raise CheckFailed(f"{path} did not load and write {TOKENS} tokens within {wait:.0f} seconds") from None
    if child.returncode < 0:
        name = signal.Signals(-child.returncode).name
        why = "the system stopped it, most likely for want of memory" if name == "SIGKILL" else "the file is corrupt or made to harm"
        raise CheckFailed(f"{path}: llama.cpp crashed on it with {name}; {why}")
    try:
        answer = json.loads(child.stdout)
        if "error" in answer:
            raise CheckFailed(f"{path}: {answer['error']}")
        return Facts(**answer)
    except (json.JSONDecodeError, TypeError):
        last = child.stderr.decode("utf-8", "replace").strip().rpartition("\n")[2]
        raise CheckFailed(f"{path}: the check ended with status {child.returncode}: {last or 'no reason given'}") from None


def _child(path: Path, threads: int) -> Facts:
    """The work itself. Raises CheckFailed."""
    from services.init import native

    native.start()
    library = native.library
    parameters = library.llama_model_default_params()
    parameters.n_gpu_layers = 0
    parameters.use_extra_bufts = False  # no repacked second copy of the weights
    parameters.check_tensors = True
    model = library.llama_model_load_from_file(bytes(path), parameters)
    if not model:
        raise CheckFailed(f"llama.cpp can't load it: {native.reason('no reason given')}")
    vocabulary = library.llama_model_get_vocab(model)
    if library.llama_vocab_type(vocabulary) == library.LLAMA_VOCAB_TYPE_NONE:
        raise CheckFailed("it has no tokenizer")
    for text in TEXTS:
        back = _text(vocabulary, _tokens(vocabulary, text))
        if back not in (text, " " + text):  # SentencePiece may put a space in front
            raise CheckFailed(f"its tokenizer does not give back what went in: {text!r} became {back!r}")
    _generate(model, vocabulary, threads)

    def token(number: int) -> str | None:
        return str(library.llama_vocab_get_text(vocabulary, number).decode("utf-8", "replace")) if number >= 0 else None

    template = library.llama_model_chat_template(model, None)
    found = header.read(path)
    return Facts(
        architecture=str(found.values.get("general.architecture", "")),
        parameters=library.llama_model_n_params(model),
        context_length=library.llama_model_n_ctx_train(model),
        chat_template=template.decode("utf-8", "replace") if template else None,
        bos_token=token(library.llama_vocab_bos(vocabulary)),
        eos_token=token(library.llama_vocab_eos(vocabulary)),
        quant=found.quant,
    )


def _tokens(vocabulary: object, text: str) -> list[int]:
    from services.init.native import library

    data = text.encode()
    room = len(data) + 16
    array = (library.llama_token * room)()
    count = library.llama_tokenize(vocabulary, data, len(data), array, room, False, False)
    if count < 0:
        raise CheckFailed(f"its tokenizer makes {-count} tokens of {len(data)} bytes")
    return list(array[:count])


def _text(vocabulary: object, tokens: list[int]) -> str:
    from services.init.native import library

    room = ctypes.create_string_buffer(4096)
    data = b""
    for token in tokens:
        size = library.llama_token_to_piece(vocabulary, token, room, len(room), 0, True)
        if size < 0:
            raise CheckFailed(f"its token {token} is {-size} bytes long")
        data += room.raw[:size]
    return data.decode("utf-8", "replace")


def _generate(model: object, vocabulary: object, threads: int) -> None:
    """Write a few tokens, always the likeliest; every logit must be a number."""
    from services.init.native import library

    parameters = library.llama_context_default_params()
    parameters.n_ctx, parameters.n_batch, parameters.n_ubatch = 128, 64, 64
    parameters.n_threads = parameters.n_threads_batch = threads
    context = library.llama_init_from_model(model, parameters)
    if not context:
        raise CheckFailed("llama.cpp can't compute with it")
    rows = library.llama_vocab_n_tokens(vocabulary)
    tokens = _tokens(vocabulary, PROMPT)[:32] or [0]
    for _ in range(TOKENS):
        array = (library.llama_token * len(tokens))(*tokens)
        if (status := library.llama_decode(context, library.llama_batch_get_one(array, len(tokens)))) != 0:
            raise CheckFailed(f"it does not compute: llama_decode says {status}")
        logits = np.ctypeslib.as_array(library.llama_get_logits_ith(context, -1), shape=(rows,))
        if not np.isfinite(logits).all():
            raise CheckFailed("it computes numbers that are none (NaN or infinite logits); its weights are damaged")
        tokens = [int(logits.argmax())]
    library.llama_free(context)


def _main(path: str, threads: str) -> int:
    with contextlib.redirect_stdout(sys.stderr):
        try:
            answer = dataclasses.asdict(_child(Path(path), int(threads)))
        except CheckFailed as error:
            answer = {"error": str(error)}
    sys.stdout.write(json.dumps(answer))
    return 0


if __name__ == "__main__":
    sys.exit(_main(*sys.argv[1:]))
