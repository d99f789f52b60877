"""Tries every way out of the container it runs in; prints a line for each and ends with 1 if one was open.

A way counts as open when the kernel takes a packet for it (a route exists and sending raises nothing) or somebody answers.
"""

import errno
import os
import socket
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

HOSTS4 = ["1.1.1.1", "8.8.8.8", "192.168.0.1", "10.0.0.1", *[a for a in sys.argv[1:] if ":" not in a]]
HOSTS6 = ["2606:4700:4700::1111", *[a for a in sys.argv[1:] if ":" in a]]
NAME = socket.gethostname()
PATIENCE = 6.0  # seconds; looking for a next hop takes the kernel three
TRIES = 3  # of a packet for which there is neither an answer nor a verdict
NAMES = ["huggingface.co", "example.com"]
CLOSED = {errno.ENETUNREACH, errno.EHOSTUNREACH, errno.EPERM, errno.EACCES, errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT, errno.ENETDOWN}


def say(line: str) -> None:
    sys.stdout.write(line + "\n")


def resolve(name: str) -> str | None:
    return str(socket.getaddrinfo(name, 443)[0][4][0])


def tcp(address: str, port: int) -> str | None:
    with socket.socket(_family(address)) as link:
        link.settimeout(PATIENCE)
        try:
            link.connect((address, port))
        except ConnectionRefusedError:
            return "somebody refused"
    return "connected"


def udp(address: str, port: int) -> str | None:
    question = b"\x12\x34\1\0\0\1\0\0\0\0\0\0\7example\3com\0\0\1\0\1"
    with socket.socket(_family(address), socket.SOCK_DGRAM) as link:
        link.connect((address, port))
        return _exchange(link, question)


def ping(address: str) -> str | None:
    six = ":" in address
    with socket.socket(_family(address), socket.SOCK_DGRAM, socket.IPPROTO_ICMPV6 if six else socket.IPPROTO_ICMP) as link:
        link.connect((address, 0))
        return _exchange(link, bytes([128 if six else 8, 0, 0, 0, 0, 1, 0, 1]) + b"cloister")


def _exchange(link: socket.socket, data: bytes) -> str:
    """Send and wait: where nobody on the link takes the packet, the kernel says so after three seconds.

    It sends only so many such messages at a time, and drops the rest: without a verdict it is tried again.
    """
    six = link.family == socket.AF_INET6
    link.setsockopt(socket.IPPROTO_IPV6 if six else socket.IPPROTO_IP, 25 if six else 11, 1)  # IPV6_RECVERR, IP_RECVERR
    link.settimeout(PATIENCE)
    for _ in range(TRIES):
        link.send(data)
        try:
            link.recv(2048)
        except ConnectionRefusedError:
            return "somebody refused"
        except TimeoutError:
            continue
        return "answered"
    return "sent"


def raw(address: str) -> str | None:
    six = ":" in address
    with socket.socket(_family(address), socket.SOCK_RAW, socket.IPPROTO_RAW if not six else socket.IPPROTO_UDP) as link:
        link.sendto(b"E" + bytes(39), (address, 0))
        return "sent"


def frame(_: str) -> str | None:
    with socket.socket(socket.AF_PACKET, socket.SOCK_RAW) as link:
        link.bind((next(name for _, name in socket.if_nameindex() if name != "lo"), 0))
        link.send(b"\xff" * 12 + b"\x08\x00" + bytes(46))
        return "sent"


def _family(address: str) -> socket.AddressFamily:
    return socket.AF_INET6 if ":" in address else socket.AF_INET


def main() -> int:
    tries = [("name", resolve, name) for name in NAMES]
    tries += [(f"tcp {port}", lambda a, p=port: tcp(a, p), host) for host in HOSTS4 + HOSTS6 for port in (443, 53)]
    tries += [(f"udp {port}", lambda a, p=port: udp(a, p), host) for host in HOSTS4 + HOSTS6 for port in (53, 443)]
    tries += [("ping", ping, host) for host in HOSTS4 + HOSTS6]
    tries += [("raw", raw, host) for host in HOSTS4 + HOSTS6] + [("frame", frame, "ff:ff:ff:ff:ff:ff")]
    began, leaks, reasons = time.monotonic(), 0, set()

    def attempt(one: tuple[str, Callable[[str], str | None], str]) -> str | OSError | None:
        try:
            return one[1](one[2])
        except OSError as error:
            return error

    with ThreadPoolExecutor(len(tries)) as pool:
        outcomes = list(pool.map(attempt, tries))
    for (what, _, host), outcome in zip(tries, outcomes, strict=True):
        if isinstance(outcome, OSError) and (isinstance(outcome, socket.gaierror) or outcome.errno in CLOSED):
            reasons.add(outcome.strerror)
        else:  # also a connection that nobody answered: its packets went somewhere
            say(f"{NAME}: {what} {host}: OPEN, {outcome}")
            leaks += 1
    closed = f"{len(tries) - leaks} of {len(tries)} ways closed ({', '.join(sorted(map(str, reasons)))})"
    say(f"{NAME} as uid {os.getuid()}: {closed}, {time.monotonic() - began:.1f} s")
    return 1 if leaks else 0


if __name__ == "__main__":
    sys.exit(main())
