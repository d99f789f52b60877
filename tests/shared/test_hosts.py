"""Which names are known, and whose pages are our own."""

from __future__ import annotations

import pytest

from services.shared.hosts import Hosts, hostname

HOSTS = Hosts(["0.0.0.0", "Box.lan"], ["ai.example two.example", "THREE.example"])


@pytest.mark.parametrize(
    ("host", "name"),
    [
        ("localhost:8000", "localhost"), ("LOCALHOST", "localhost"), ("[::1]:8000", "::1"), ("10.0.0.7", "10.0.0.7"), ("", ""),
        ("a@b.example:1", "b.example"), ("[::1", ""), ("evil.example:80:80", "evil.example"),
    ],
)  # fmt: skip
def test_names_of_host_headers(host: str, name: str) -> None:
    assert hostname(host) == name


@pytest.mark.parametrize(
    "name", ["localhost", "127.0.0.1", "::1", "10.0.0.7", "box.lan", "ai.example", "two.example", "three.example", "ui"]
)
def test_names_that_are_known(name: str) -> None:
    assert HOSTS.know(name)


@pytest.mark.parametrize(
    "name", ["", "evil.example", "127.0.0.1.evil.example", "localhost.evil.example", "1.2.3", "example", "ai.example."]
)
def test_names_that_are_not(name: str) -> None:
    assert not HOSTS.know(name)


@pytest.mark.parametrize(
    ("origin", "host", "ours"),
    [
        ("http://127.0.0.1:7860", "127.0.0.1:7860", True),
        ("https://box.lan", "box.lan", True),  # a proxy gives it TLS
        ("https://ai.example", "127.0.0.1:7860", True),
        ("http://127.0.0.1:1", "127.0.0.1:7860", False),
        ("http://box.lan", "127.0.0.1:7860", False),
        ("https://evil.example", "127.0.0.1:7860", False),
        ("null", "127.0.0.1:7860", False),
        ("file://", "127.0.0.1:7860", False),
        ("http://[", "127.0.0.1:7860", False),
    ],
)
def test_pages_that_are_ours(origin: str, host: str, ours: bool) -> None:
    assert HOSTS.show(origin, host) == ours
