"""`python -m services.engine`: wait for a prepared model, load it, serve it on the unix socket until SIGTERM."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import sys
import threading
import time
from pathlib import Path

from services.engine import prepared
from services.engine.engine import Engine
from services.engine.pages import enlarge
from services.engine.server import Server
from services.engine.threads import Threads, waited
from services.engine.worker import Worker
from services.shared import VERSION, files, hardware, logs, settings, wire
from services.shared.settings import Settings, SettingsError

log = logging.getLogger("engine")
# Threads that wait for each other spin for a while, then sleep. Where every CPU has a thread, any other process takes one away in the
# middle of a step, and libgomp's own 300,000 rounds keep the others spinning until it is back: steps of 36 ms became steps of 0.6 to
# 3 s. This many outlast what the API and other small things take beside a step, and no more (docs/performance.md).
SPIN = "100000"


def main() -> int:
    """Exit codes: 0 stopped, 1 the model failed, 2 a setting is wrong."""
    try:
        config = settings.load(os.environ)
    except SettingsError as error:
        print(f"cloister engine: {error}", file=sys.stderr)  # noqa: T201
        return 2
    logs.start("engine", config.log.level)
    if len(os.fsencode(config.paths.socket)) > 107:
        log.error("the socket's path is longer than 107 bytes: %s; set [paths] run to a shorter one", config.paths.socket)
        return 2
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    try:
        config.paths.opened.unlink(missing_ok=True)
        directory = prepared.wait(config)
        config.paths.run.mkdir(parents=True, exist_ok=True)
        files.link(directory, config.paths.opened)
        # loading is native code that no Python handler can stop, and there is nothing to clean up yet
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        return asyncio.run(run(config, directory))
    except SettingsError as error:
        log.error("%s", error)
        return 2
    except KeyboardInterrupt:
        return 0


async def run(config: Settings, directory: Path) -> int:
    """Load, listen, and end when told to or when the engine fails."""
    e = config.engine
    threads = hardware.threads(e.threads)
    if not threads.room:
        os.environ.setdefault("GOMP_SPINCOUNT", SPIN)  # read by libgomp when it is loaded, which is now
    from services.engine.native import ModelError, NativeModel

    log.info("threads %s", logs.facts(count=threads.count, reason=f'"{threads.reason}"'))
    began = time.monotonic()
    try:
        model = NativeModel(
            directory / "model.gguf",
            context=e.context,
            cells=e.cells,
            slots=slots(e.sequences),
            step=e.batch,
            threads=Threads(threads.count, waited),
            adapters={file.stem: file for file in e.adapters},
        )
    except ModelError as error:
        log.error("%s", error)
        return 1
    log.info(
        "loaded %s",
        logs.facts(
            model=directory.parent.name,
            quant=directory.name,
            context=model.context,
            cells=model.cells,
            sequences=e.sequences,
            cpu=model.variant,
            memory=f"{hardware.resident() / 1e6:.0f}MB",
            seconds=f"{time.monotonic() - began:.1f}",
        ),
    )
    threading.Thread(target=enlarge, name="pages", daemon=True).start()  # a large model takes seconds, in which it can answer already
    hello = wire.Hello(
        model=str(directory),
        context=model.context,
        cells=model.cells,
        sequences=e.sequences,
        threads=threads.count,
        threads_reason=threads.reason,
        think_start=None if model.think_start is None else "<think>",
        think_end=None if model.think_end is None else "</think>",
        version=VERSION,
        adapters=tuple(model.adapters),
        bos=model.vocabulary.bos,
        started=time.time(),
        variant=model.variant,
    )

    def observe(request: str) -> wire.Observed:
        waiting, now = tuple(engine.scheduler.waiting), time.monotonic()
        return wire.Observed(
            request,
            running=len(engine.scheduler.running),
            waiting=len(waiting),
            cells_used=engine.kv.used,
            tokens_per_second=round(engine.rate(), 2),
            memory=hardware.resident(),
            prompt_tokens=engine.prompt_tokens,
            generated_tokens=engine.generated_tokens,
            step_seconds=engine.step_seconds,
            decode_seconds=engine.decode_seconds,
            preempted=engine.scheduler.preempted,
            stored=engine.kv.store.used,
            threads=model.threads,
            evicted=engine.kv.evicted,
            throttled_seconds=hardware.throttled(),
            waited=now - min((sequence.arrived for sequence in waiting), default=now),
        )

    server = Server(config.paths.socket, hello, observe)
    engine = Engine(
        model,
        context=model.context,
        cells=model.cells,
        sequences=e.sequences,
        slots=model.slots,
        step=e.batch,
        queue=e.queue,
        emit=server.emit,
        store=e.store << 20,
        speculate=e.speculate,
    )
    loop, ended = asyncio.get_running_loop(), asyncio.Event()
    failed: list[bool] = []

    def fail() -> None:
        failed.append(True)
        loop.call_soon_threadsafe(ended.set)

    worker = Worker(engine, model, failed=fail)
    server.worker, server.engine, engine.flush = worker, engine, server.flush
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, ended.set)
    worker.start()
    serving = asyncio.create_task(server.serve())
    await asyncio.wait({serving, asyncio.create_task(ended.wait())}, return_when=asyncio.FIRST_COMPLETED)
    if serving.done():
        log.error("the socket failed: %s", serving.exception())
        return 1
    worker.stop()
    await asyncio.to_thread(worker.join, 5)
    await asyncio.sleep(0.05)  # let the last messages out
    serving.cancel()
    config.paths.socket.unlink(missing_ok=True)
    log.info("stopped %s", logs.facts(prompt_tokens=engine.prompt_tokens, generated_tokens=engine.generated_tokens))
    return 1 if failed else 0


def slots(sequences: int) -> int:
    """Sequences that the KV cache tells apart: those that run, as many that are remembered, and enough output rows for guesses."""
    return min(256, max(2 * sequences + 2, 20))


if __name__ == "__main__":
    code = main()
    logging.shutdown()
    os._exit(code)  # a thread may be in native code still; nothing it does matters any more
