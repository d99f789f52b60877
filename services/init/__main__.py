"""`python -m services.init [--model NAME] [--quant Q] [--verify]`: prepare the model of the settings, and end.

Exit codes: 0 ready, 1 it could not be prepared, 2 the settings are wrong, 130 and 143 stopped by Ctrl-C and SIGTERM.
"""

from __future__ import annotations

import argparse
import contextlib
import errno
import logging
import os
import signal
import sys
from collections.abc import Iterator
from types import FrameType
from typing import NoReturn

from services.init import pipeline
from services.init.errors import InitError, SettingsProblem
from services.init.reporter import Reporter
from services.shared import logs, settings
from services.shared.settings import Settings

HUB = {  # the hub library's own switches; a value that is set already stays
    "HF_HUB_DISABLE_XET": "1",  # plain HTTP: resumes by Range, and every mirror has it
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "HF_HUB_DISABLE_UPDATE_CHECK": "1",
    "HF_HUB_VERBOSITY": "error",
}


class Stopped(BaseException):
    """A signal asks to end; not an Exception, so that nothing takes it for a failure."""


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m services.init", description=__doc__.split("\n")[0] if __doc__ else None)
    parser.add_argument("--model", metavar="NAME", help="instead of [model] name")
    parser.add_argument("--quant", help=f"instead of [model] quant: {', '.join(settings.QUANTS)}")
    parser.add_argument("--verify", action="store_true", help="read every file of a prepared model again, and of its kept source")
    given = parser.parse_args(arguments)
    flags = {"CLOISTER_MODEL__NAME": given.model, "CLOISTER_MODEL__QUANT": given.quant}
    for name, value in HUB.items():
        os.environ.setdefault(name, value)
    if os.environ.get("SSL_CERT_FILE") == "":  # compose.yaml can't leave a variable out
        del os.environ["SSL_CERT_FILE"]
    try:
        wanted = settings.load({**os.environ, **{name: value for name, value in flags.items() if value is not None}})
    except settings.SettingsError as error:
        sys.stderr.write(f"init: {error}\n")
        return 2
    log = logs.start("init", wanted.log.level)
    signal.signal(signal.SIGTERM, _stop)
    signal.signal(signal.SIGINT, _stop)
    return _run(wanted, log, verify=given.verify)


def _stop(number: int, _frame: FrameType | None) -> NoReturn:
    signal.signal(number, signal.SIG_DFL)  # a second one ends it at once
    raise Stopped(number)


def _run(wanted: Settings, log: logging.Logger, *, verify: bool) -> int:
    terminal = sys.stderr.isatty()
    report = Reporter(wanted.paths.progress, log, terminal=terminal)
    try:
        with _bars_and_lines(terminal):
            pipeline.run(wanted, report, log, verify=verify)
        return 0
    except SettingsProblem as error:
        return _failed(report, log, str(error), 2)
    except InitError as error:
        return _failed(report, log, str(error), 1)
    except OSError as error:
        what = f": {error.filename}" if error.filename else ""
        hint = "; free some space and start again, it goes on where it was" if error.errno == errno.ENOSPC else ""
        return _failed(report, log, f"{error.strerror or error}{what}{hint}", 1)
    except Stopped as stopped:
        number = int(stopped.args[0])
        code = _failed(report, log, f"stopped by {signal.Signals(number).name}; the next start goes on where this one was", 128 + number)
        # Native code may still be computing on its thread; nothing it writes has a name that counts.
        logging.shutdown()
        os._exit(code)


def _failed(report: Reporter, log: logging.Logger, sentence: str, code: int) -> int:
    log.error(sentence)
    report.failed(sentence)
    return code


@contextlib.contextmanager
def _bars_and_lines(terminal: bool) -> Iterator[None]:
    """On a terminal, log lines are written above the bar instead of through it."""
    if not terminal:
        yield
        return
    from tqdm.contrib.logging import logging_redirect_tqdm

    with logging_redirect_tqdm():
        yield


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
