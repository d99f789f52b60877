"""`python -m services.relay`: pass requests on until SIGTERM.

RELAY_UPSTREAM  the balancer, such as http://balancer:8080
RELAY_CLUSTER   where the balancer tells of its replicas, such as http://balancer:8081; empty: /v1/status and /metrics tell of one of them
RELAY_LISTEN    where it listens: 0.0.0.0:8080
"""

from __future__ import annotations

import contextlib
import os
import sys
from typing import Any

import uvicorn

from services.relay.app import Relay
from services.shared import logs

GRACE = 290  # seconds that answers under way get at the end; the container gets 300
IDLE = 150  # seconds that a connection stays open for the next request: the gateway, which reuses them, lets go of them after 120
HEAD = 128 << 10  # bytes of a request's head, as the balancer has it


def main() -> int:
    """Exit codes: 0 stopped (or ended by the signal itself), 1 the address is taken, 2 a setting is wrong."""
    upstream = os.environ.get("RELAY_UPSTREAM", "")
    host, _, port = os.environ.get("RELAY_LISTEN", "0.0.0.0:8080").rpartition(":")
    if not upstream.startswith("http://") or not port.isdecimal():
        sys.stderr.write("relay: RELAY_UPSTREAM must look like http://balancer:8080, RELAY_LISTEN like 0.0.0.0:8080\n")
        return 2
    logs.start("relay", "info")
    quiet: dict[str, Any] = {"log_config": None, "log_level": "warning", "access_log": False}
    plain: dict[str, Any] = {"server_header": False, "date_header": False, "proxy_headers": False, "lifespan": "off", "ws": "none"}
    waits: dict[str, Any] = {"timeout_graceful_shutdown": GRACE, "timeout_keep_alive": IDLE, "h11_max_incomplete_event_size": HEAD}
    server = uvicorn.Server(
        uvicorn.Config(
            Relay(upstream, os.environ.get("RELAY_CLUSTER", "")), host=host, port=int(port), http="h11", **quiet, **plain, **waits
        )
    )
    with contextlib.suppress(SystemExit):  # uvicorn's own, after it has said why it can't start
        server.run()
    return 0 if server.started else 1


if __name__ == "__main__":
    sys.exit(main())
