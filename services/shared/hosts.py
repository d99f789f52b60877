"""By which names a browser may know this machine's API and page, and which pages are their own: the rules that both of them have.

A page of any site can make its visitor's browser send requests to 127.0.0.1, also under a name of its own that it lets point there (DNS
rebinding): then it is of the same origin as what it asks, and may read the answers. Such a name is no address, not localhost, not one of
the compose network, and not one that somebody has set. Knows nothing of HTTP but what its headers look like, nor of keys and passwords.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable
from urllib.parse import urlsplit

OWN = ("localhost", "api", "ui", "gateway", "door")  # the last four are names of compose.yaml, known inside its network only


class Hosts:
    """`addresses`: where it listens or is published; `names`: further names, as [api] hosts has them."""

    def __init__(self, addresses: Iterable[str], names: Iterable[str]) -> None:
        self._names = {name.lower() for entry in names for name in entry.split()}
        self._known = {*OWN, *self._names, *(address.lower() for address in addresses)}

    def know(self, name: str) -> bool:
        """May it be called by this name, which is in small letters?"""
        if name in self._known:
            return True
        try:
            ipaddress.ip_address(name)
        except ValueError:
            return False
        return True

    def show(self, origin: str, host: str) -> bool:
        """Is an Origin header's page one that is shown here, at this Host, under whatever scheme a proxy gives it?"""
        try:
            there = urlsplit(origin)
            return there.scheme in ("http", "https") and (there.netloc == host or there.hostname in self._names)
        except ValueError:
            return False


def hostname(host: str) -> str:
    """The name of a Host header, without port and brackets; "" for what is none."""
    try:
        return urlsplit(f"//{host}").hostname or ""
    except ValueError:
        return ""
