"""Turns the gateway's few settings into what docker/Caddyfile leaves open, and becomes Caddy.

GATEWAY_TLS_NAMES  host names and addresses to serve with TLS by Caddy's own authority; empty: plain HTTP
GATEWAY_SUBPATH    the path below which another proxy shows page and API, such as /cloister; empty: none
GATEWAY_PROXIED    true: a proxy in front says who the client is and by which scheme and host it came (X-Forwarded-*)
GATEWAY_SEVERAL    true: several pages run, as on a swarm; a browser stays with the one that knows it
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Mapping

PAGE = "to ui:7860"
# A page keeps its visits in its own memory. A cookie names the one that a browser came to; it is for that alone.
PAGES = """dynamic a ui 7860 {
		refresh 2s
	}
	lb_policy cookie cloister_page"""


def fill(environ: Mapping[str, str]) -> dict[str, str]:
    """The variables of the Caddyfile.

    Raises:
        ValueError: a setting is not what it must be; the message is the sentence for the person who starts Cloister.
    """
    names = environ.get("GATEWAY_TLS_NAMES", "").replace(",", " ").split()
    path = environ.get("GATEWAY_SUBPATH", "").rstrip("/")
    for name in names:
        if not re.fullmatch(r"[A-Za-z0-9.-]+|\[[0-9a-fA-F:]+\]", name):
            raise ValueError(f"CLOISTER_TLS: {name!r} is neither a host name nor an address")
    if path and not re.fullmatch(r"(/[A-Za-z0-9._~-]+)+", path):
        raise ValueError(f"CLOISTER_SUBPATH must look like /cloister; found {path!r}")
    proxied = environ.get("GATEWAY_PROXIED") or "false"
    if proxied not in ("true", "false"):
        raise ValueError(f"CLOISTER_PROXIED must be true or false; found {proxied!r}")

    several = environ.get("GATEWAY_SEVERAL") or "false"
    if several not in ("true", "false"):
        raise ValueError(f"GATEWAY_SEVERAL must be true or false; found {several!r}")

    addresses = [name for name in names if re.fullmatch(r"[0-9.]+|\[.*\]", name)]
    if len(addresses) > 1:  # who comes by address sends no name, so there is no telling which certificate is meant
        raise ValueError(f"CLOISTER_TLS can hold one address beside any number of host names; found {', '.join(addresses)}")
    nameless = (addresses or names or [""])[0]

    def sites(port: int) -> str:
        return ", ".join(f"https://{name}:{port}" for name in names) or f"http://:{port}"

    return {
        "GATEWAY_PAGE": sites(7860),
        "GATEWAY_API": sites(8000),
        "GATEWAY_TLS": "tls internal" if names else "",
        "GATEWAY_OPTIONS": f"default_sni {nameless.strip('[]')}" if names else "",
        "GATEWAY_PATH": f"uri strip_prefix {path}" if path else "",
        "GATEWAY_UI": PAGES if several == "true" else PAGE,
        # On a swarm what is behind is replaced while others answer: a request on an old connection could be lost to one that just stops.
        "GATEWAY_CONNECTIONS": "keepalive off" if several == "true" else "",
        "GATEWAY_TRUST": "trusted_proxies private_ranges" if proxied == "true" else "",
    }


def main() -> None:
    try:
        found = fill(os.environ)
    except ValueError as error:
        sys.exit(f"gateway: {error}")
    os.execvpe("caddy", ["caddy", "run", "--config", "docker/Caddyfile", "--adapter", "caddyfile"], {**os.environ, **found})


if __name__ == "__main__":
    main()
