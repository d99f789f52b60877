"""`python -m services.api`: serve the API until SIGTERM."""

from __future__ import annotations

import contextlib
import os
import sys

from services.api.app import create_app
from services.api.server import create_server
from services.shared import logs, settings
from services.shared.secret import SecretError
from services.shared.settings import SettingsError


def main() -> int:
    """Exit codes: 0 stopped (or ended by the signal itself, once all is closed), 1 the address is taken, 2 a setting is wrong."""
    try:
        config = settings.load(os.environ)
        app = create_app(config)
    except (SettingsError, SecretError) as error:
        print(f"cloister api: {error}", file=sys.stderr)  # noqa: T201
        return 2
    log = logs.start("api", config.log.level)
    log.info("serving %s", logs.facts(address=f"http://{config.api.host}:{config.api.port}"))
    a = config.api
    server = create_server(app, a.host, a.port, app.state.appliance, drain=a.drain, grace=a.grace)
    with contextlib.suppress(SystemExit):  # uvicorn's own, after it has said why it can't start
        server.run()
    return 0 if server.started else 1


if __name__ == "__main__":
    sys.exit(main())
