"""A client that reads an answer in a thread of its own, while the test does something else."""

from __future__ import annotations

import threading
from typing import Any

import httpx

CHAT = "/v1/chat/completions"
ASKED: dict[str, Any] = {"model": "scripted", "messages": [{"role": "user", "content": "q"}], "stream": True}


class Reader(threading.Thread):
    """Reads one answer to its end; `status` is 0 and `broken` set where there is none."""

    def __init__(self, url: str, path: str = CHAT, body: dict[str, Any] = ASKED) -> None:
        super().__init__(daemon=True)
        self.status, self.said, self.broken = 0, "", False
        self._url, self._body = url + path, body
        self.start()

    def run(self) -> None:
        try:
            with httpx.stream("POST", self._url, json=self._body, timeout=60) as response:
                self.status = response.status_code
                for piece in response.iter_text():
                    self.said += piece
        except httpx.TransportError:
            self.broken = True

    def whole(self) -> bool:
        """Whether it came to its proper end."""
        self.join(120)
        return not self.broken and self.status == 200 and self.said.endswith("data: [DONE]\n\n")
