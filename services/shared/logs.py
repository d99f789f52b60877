"""One log line format for all services: time, level, service, message with key=value facts.

Law: text of users and answers never reaches a log. What is logged: ids, counts, times, reasons.
"""

from __future__ import annotations

import logging
import sys
import time


class LineFormatter(logging.Formatter):
    """`2026-11-24T06:50:00Z info  engine  loaded model=demo tokens_per_step=256`"""

    converter = staticmethod(time.gmtime)

    def __init__(self, service: str) -> None:
        super().__init__(f"%(asctime)s %(level)s {service:6} %(message)s", "%Y-%m-%dT%H:%M:%SZ")

    def format(self, record: logging.LogRecord) -> str:
        record.level = f"{record.levelname.lower():7}"
        return super().format(record)


def start(service: str, level: str) -> logging.Logger:
    """Send this process's log lines to standard error and return the service's logger."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(LineFormatter(service))
    logging.basicConfig(level=level.upper(), handlers=[handler], force=True)
    for noisy in ("httpx", "httpcore", "httpx2", "httpcore2", "filelock", "asyncio"):
        logging.getLogger(noisy).setLevel(logging.WARNING)
    return logging.getLogger(service)


def facts(**values: object) -> str:
    """`key=value` pairs for the tail of a log line; None is left out."""
    return " ".join(f"{key}={value}" for key, value in values.items() if value is not None)
