"""Reads the environment and starts the page, or with the argument `chat` the terminal: the only place here that does.

The page serves until SIGTERM or Ctrl-C; answers that are under way then are cut after a moment.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Mapping

from services.shared import logs, settings
from services.shared.secret import SecretError

# Gradio reads these at import: nothing is to be reported or fetched.
OFFLINE = {"GRADIO_ANALYTICS_ENABLED": "False", "GRADIO_SSR_MODE": "False", "HF_HUB_OFFLINE": "1", "HF_HUB_DISABLE_TELEMETRY": "1"}


def main(environ: Mapping[str, str], arguments: list[str]) -> int:
    """The exit code."""
    try:
        config = settings.load(environ)
    except settings.SettingsError as error:
        sys.stderr.write(f"cloister: {error}\n")
        return 2
    if arguments[:1] == ["chat"]:
        from services.ui import terminal

        return terminal.main(arguments[1:], config, environ)
    logger = logs.start("ui", config.log.level)
    os.environ.update(OFFLINE)

    from services.ui import server

    # uvicorn sends the signal on to us when it has shut down; then there is nothing left to do.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    logger.info("starting %s", logs.facts(host=config.ui.host, port=config.ui.port, api=config.ui.api))
    try:
        return server.serve(config)
    except SecretError as error:
        logger.error("%s", error)
        return 2


if __name__ == "__main__":
    try:
        sys.exit(main(os.environ, sys.argv[1:]))
    except KeyboardInterrupt:
        sys.exit(130)
