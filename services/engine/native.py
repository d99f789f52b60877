"""The model itself: llama.cpp through llama-cpp-python's low-level API. Only this and sampling.py touch native code while serving.

Owns the native model, context and batch arrays. Knows nothing of requests or scheduling. Whatever llama.cpp would
assert on (and so kill the process) is checked here first. Pinned to llama-cpp-python 0.3.36: struct layouts drift.
"""

from __future__ import annotations

import ctypes
import logging
import time
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import Any

import llama_cpp
import numpy as np

from services.engine.engine import Aborted
from services.engine.grammar import GrammarError, Grammars
from services.engine.sampling import COLD, ChainSampler, GreedySampler
from services.engine.scheduler import Chunk
from services.engine.sequence import Sampler
from services.engine.threads import Threads
from services.shared import backend
from services.shared.wire import Sampling

log = logging.getLogger("engine")
_LEVELS = {2: logging.DEBUG, 3: logging.WARNING, 4: logging.ERROR}  # of ggml; its info lines are debug for us
# What llama.cpp says when a decode is cut short, as it is for every cancelled request: no failure.
_CUT_SHORT = ("compute_async failed with error 1", "compute status: 1", "failed to decode, ret = 2", "removing memory module entries")


class ModelError(RuntimeError):
    """The model can't be loaded, or native code failed in a way that only a restart mends."""


def _log(level: int, text: bytes, _: object) -> None:
    line = text.decode("utf-8", "replace").strip(" .\n")
    if line and "n_ctx_seq" not in line:  # that warning is about one sequence filling the shared pool; [engine] context forbids it
        meant = any(words in line for words in _CUT_SHORT)
        logging.getLogger("llama").log(logging.DEBUG if meant else _LEVELS.get(level, logging.DEBUG), line)


_log_callback = llama_cpp.llama_log_callback(_log)  # kept here: native code calls it for as long as the process lives


class NativeVocabulary:
    """The tokenizer of a loaded model."""

    def __init__(self, vocab: llama_cpp.llama_vocab_p) -> None:
        self._vocab = vocab
        self.size = llama_cpp.llama_vocab_n_tokens(vocab)
        attributes = [llama_cpp.llama_vocab_get_attr(vocab, token) for token in range(self.size)]
        marked = llama_cpp.LLAMA_TOKEN_ATTR_CONTROL | llama_cpp.LLAMA_TOKEN_ATTR_USER_DEFINED
        self.added = {self._text(token): token for token, attribute in enumerate(attributes) if attribute & marked}
        user_defined = llama_cpp.LLAMA_TOKEN_ATTR_USER_DEFINED
        self.user_defined = {text: token for text, token in self.added.items() if attributes[token] & user_defined}
        self.control = {text: token for text, token in self.added.items() if text not in self.user_defined}
        bos = llama_cpp.llama_vocab_bos(vocab) if llama_cpp.llama_vocab_get_add_bos(vocab) else llama_cpp.LLAMA_TOKEN_NULL
        self.bos = "" if bos == llama_cpp.LLAMA_TOKEN_NULL else self._text(bos)  # what every prompt begins with
        self.ends = frozenset(token for token in range(self.size) if llama_cpp.llama_vocab_is_eog(vocab, token))

    def _text(self, token: int) -> str:
        return str(llama_cpp.llama_vocab_get_text(self._vocab, token), "utf-8", "replace")

    def plain(self, text: str) -> list[int]:
        """Tokens of text, control tokens not parsed, nothing added."""
        data = text.encode("utf-8", "replace")
        buffer = (llama_cpp.llama_token * (len(data) + 8))()  # a token is at least one byte
        count = llama_cpp.llama_tokenize(self._vocab, data, len(data), buffer, len(buffer), False, False)
        if count < 0:
            raise ModelError(f"the tokenizer wanted room for {-count} tokens for {len(data)} bytes")
        return list(buffer[:count])

    @cached_property
    def pieces(self) -> list[bytes]:
        """The bytes of every token's text, added tokens included."""
        buffer = ctypes.create_string_buffer(512)
        return [self._piece(token, buffer) for token in range(self.size)]

    def _piece(self, token: int, buffer: ctypes.Array[ctypes.c_char]) -> bytes:
        length = llama_cpp.llama_token_to_piece(self._vocab, token, buffer, len(buffer), 0, True)
        if length < 0:
            larger = ctypes.create_string_buffer(-length)
            llama_cpp.llama_token_to_piece(self._vocab, token, larger, -length, 0, True)
            return larger.raw
        return buffer.raw[:length]


class NativeModel:
    """A loaded model with its context. `step` is the most tokens of one decode; `context` the most of one sequence; `slots` are
    sequences that the KV cache tells apart; `threads` are as many, always, or as many as pay; `adapters` are LoRA files by name, of
    which a step uses one or none."""

    def __init__(
        self,
        path: Path,
        *,
        context: int,
        cells: int,
        slots: int,
        step: int,
        threads: int | Threads,
        adapters: Mapping[str, Path] | None = None,
    ) -> None:
        llama_cpp.llama_log_set(_log_callback, None)
        self.variant = backend.load(llama_cpp)
        llama_cpp.llama_backend_init()
        self._model = self._load(path)
        self.context = min(context, llama_cpp.llama_model_n_ctx_train(self._model))
        self.adapters = {name: self._load_adapter(file) for name, file in (adapters or {}).items()}
        self._adapter = ""
        self._crew = threads if isinstance(threads, Threads) else None
        self.threads = threads.count if isinstance(threads, Threads) else threads
        self._context = self._open(cells, slots, step, self.threads)
        self._memory = llama_cpp.llama_get_memory(self._context)
        self.cells = llama_cpp.llama_n_ctx(self._context)
        self.slots, self.step = slots, step
        self.vocabulary = NativeVocabulary(llama_cpp.llama_model_get_vocab(self._model))
        self.ends = self.vocabulary.ends
        tags = self.vocabulary.added.get("<think>"), self.vocabulary.added.get("</think>")
        self.think_start, self.think_end = tags if None not in tags else (None, None)
        # other USER_DEFINED tokens, such as <tool_call>, are text that has a token of its own
        self._special = frozenset(self.vocabulary.control.values()) | {self.think_start, self.think_end}
        self._pieces = self.vocabulary.pieces
        self._silent = frozenset(self.vocabulary.control.values()) | {token for token, piece in enumerate(self._pieces) if not piece}
        self._grammars = Grammars(self.vocabulary, [token for token in self._special if token is not None])
        self._build_batch()

    def _load(self, path: Path) -> llama_cpp.llama_model_p:
        params = llama_cpp.llama_model_default_params()
        params.n_gpu_layers = 0
        # weights are repacked into memory of their own; a mapped second copy would only compete for a container's memory
        params.load_mode = llama_cpp.LLAMA_LOAD_MODE_NONE
        model = llama_cpp.llama_model_load_from_file(str(path).encode(), params)
        if not model:
            raise ModelError(f"{path}: llama.cpp can't load it; prepare the model again with python -m services.init --verify")
        return model

    def _load_adapter(self, path: Path) -> llama_cpp.llama_adapter_lora_p:
        adapter = llama_cpp.llama_adapter_lora_init(self._model, str(path).encode())
        if not adapter:
            raise ModelError(f"{path}: not a LoRA adapter of this model in GGUF; take it out of [engine] adapters or convert it again")
        return adapter

    def _open(self, cells: int, slots: int, step: int, threads: int) -> llama_cpp.llama_context_p:
        params = llama_cpp.llama_context_default_params()
        if (params.n_ctx, params.n_batch, params.n_ubatch) != (512, 2048, 512):
            raise ModelError("llama-cpp-python's structures are not those of version 0.3.36: install the locked requirements")
        params.n_ctx, params.n_seq_max, params.kv_unified = cells, slots, True
        params.n_batch = params.n_ubatch = step
        params.n_outputs_max = slots  # more outputs than this abort the process; fewer rows keep the buffer small
        params.n_threads = params.n_threads_batch = threads
        params.flash_attn_type = llama_cpp.LLAMA_FLASH_ATTN_TYPE_ENABLED
        params.no_perf = True
        # strlen as the abort callback: ggml asks it after every graph node, and it takes no GIL; the flag is its "string"
        self._flag = ctypes.create_string_buffer(2)
        strlen = ctypes.cast(ctypes.CDLL(None).strlen, ctypes.c_void_p).value
        params.abort_callback = llama_cpp.ggml_abort_callback(strlen)
        params.abort_callback_data = ctypes.cast(self._flag, ctypes.c_void_p)
        context = llama_cpp.llama_init_from_model(self._model, params)
        if not context:
            raise ModelError(f"no memory for a KV cache of {cells} cells: lower [engine] cells")
        return context

    def _build_batch(self) -> None:
        """One llama_batch over arrays of our own, filled by slices: 10 µs for 256 tokens."""
        size = self.step
        self._tokens, self._positions = np.zeros(size, np.int32), np.zeros(size, np.int32)
        self._owners, self._outputs = np.zeros(size, np.int32), np.zeros(size, np.int8)
        counts = np.ones(size, np.int32)
        addresses = self._owners.ctypes.data + np.arange(size, dtype=np.uint64) * np.uint64(self._owners.itemsize)
        self._keep = (counts, addresses)

        def pointer(array: np.ndarray, kind: type) -> Any:
            return ctypes.cast(array.ctypes.data, ctypes.POINTER(kind))

        self._batch = llama_cpp.llama_batch()
        self._batch.token = pointer(self._tokens, llama_cpp.llama_token)
        self._batch.pos = pointer(self._positions, llama_cpp.llama_pos)
        self._batch.n_seq_id = pointer(counts, ctypes.c_int32)
        self._batch.seq_id = pointer(addresses, ctypes.POINTER(llama_cpp.llama_seq_id))
        self._batch.logits = pointer(self._outputs, ctypes.c_int8)

    def decode(self, chunks: list[Chunk]) -> list[list[int]]:
        """Compute the chunks, all of one adapter, in one batch; for each the logits rows of its last token and its guesses, none
        where more of it is pending.

        Raises:
            Aborted: nothing was computed.
            ModelError: native code failed.
        """
        at, rows = 0, []
        self._use(chunks[0].sequence.adapter)
        for chunk in chunks:
            end, start = at + chunk.size, chunk.sequence.computed
            if end > self.step:
                raise ModelError(f"a step of more than {self.step} tokens")
            self._tokens[at:end] = chunk.tokens
            self._positions[at:end] = np.arange(start, start + chunk.size)
            self._owners[at:end] = chunk.slot
            first = at + chunk.count - 1 if chunk.last else end
            self._outputs[at:end] = 0
            self._outputs[first:end] = 1
            rows.append(list(range(first, end)))
            at = end
        if sum(map(len, rows)) > self.slots:
            raise ModelError(f"a step with more than {self.slots} outputs")
        self._batch.n_tokens = at
        began = time.monotonic()
        result = llama_cpp.llama_decode(self._context, self._batch)
        self._pace(time.monotonic() - began)
        if result == 2:
            raise Aborted
        if result != 0:
            raise ModelError(f"llama_decode returned {result} for {at} tokens of {len(chunks)} sequences")
        return rows

    def _pace(self, seconds: float) -> None:
        if self._crew is not None and (count := self._crew.worked(seconds)) != self.threads:
            self.threads = count
            llama_cpp.llama_set_n_threads(self._context, count, count)

    def _use(self, adapter: str) -> None:
        """Compute with this adapter from now on. A change makes llama.cpp reserve its buffers again."""
        if adapter != self._adapter:
            chosen = [self.adapters[adapter]] if adapter else []
            handles = (llama_cpp.llama_adapter_lora_p_ctypes * len(chosen))(*chosen)
            if llama_cpp.llama_set_adapters_lora(self._context, handles, len(chosen), (ctypes.c_float * len(chosen))(*[1.0] * len(chosen))):
                raise ModelError(f"llama.cpp can't use the adapter {adapter!r}")
            self._adapter = adapter

    def abort(self) -> None:
        """From any thread: cancel the decode that runs now, or the next one, until `rearm`."""
        self._flag[0] = b"\1"

    def rearm(self) -> None:
        """Let decodes run again."""
        self._flag[0] = b"\0"

    def remove(self, slot: int, start: int, end: int) -> None:
        """The slot gives up its cells of these positions; `end` -1 is the last one."""
        if not llama_cpp.llama_memory_seq_rm(self._memory, slot, start, end):
            raise ModelError(f"llama_memory_seq_rm refused slot {slot} from {start} to {end}")

    def share(self, source: int, target: int, start: int, end: int) -> None:
        """The target takes part in the source's cells of these positions. Metadata only, as the cache is unified."""
        llama_cpp.llama_memory_seq_cp(self._memory, source, target, start, end)

    def save(self, slot: int) -> bytes:
        """Keys and values of all that the slot holds."""
        size = llama_cpp.llama_state_seq_get_size(self._context, slot)
        buffer = (ctypes.c_uint8 * size)()
        return bytes(memoryview(buffer)[: llama_cpp.llama_state_seq_get_data(self._context, buffer, size, slot)])

    def load(self, slot: int, data: bytes) -> bool:
        """Put saved keys and values into free cells of a slot that holds nothing; False when llama.cpp can't."""
        buffer = ctypes.cast(ctypes.c_char_p(data), ctypes.POINTER(ctypes.c_uint8))
        return bool(llama_cpp.llama_state_seq_set_data(self._context, buffer, len(data), slot))

    def refusal(self, sampling: Sampling) -> str | None:
        """Why this vocabulary can't be sampled so, or None. From any thread: compiling a grammar can take a while."""
        for token, _ in sampling.logit_bias:
            if token >= self.vocabulary.size:
                return f"logit_bias: there is no token {token}, the vocabulary has {self.vocabulary.size}"
            if token in self._silent:
                return f"logit_bias can't be set for control token {token}"
        try:
            self._grammars.start(sampling.grammar, sampling.json_schema, sampling.frame, sampling.instead)
        except GrammarError as error:
            return str(error)
        return None

    def sampler(self, sampling: Sampling) -> Sampler:
        """A sampler for one sequence, whose sampling was not refused."""
        grammar = self._grammars.start(sampling.grammar, sampling.json_schema, sampling.frame, sampling.instead)
        kind = GreedySampler if sampling.temperature < COLD else ChainSampler
        return kind(self._context, self.vocabulary.size, sampling, grammar)

    def piece(self, token: int) -> bytes:
        """The bytes of a token's text."""
        return self._pieces[token]

    def special(self, token: int) -> bool:
        """Is it a control or thinking token rather than text?"""
        return token in self._special
