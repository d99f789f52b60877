"""Clients of an API whose key is in CLOISTER_KEY, each use printing a list in JSON:

`python -m tests.stack.callers once URL BODY`                 one request, a POST unless the body is null: its status, its answer
`... endless URL CLIENTS TOKENS`                              streams one after the other until standard input ends; what became of each
`... conversations URL CLIENTS TOKENS CONVERSATIONS`          of four turns: for each turn the tokens of its prompt, and those from a cache
"""

from __future__ import annotations

import http.client
import json
import os
import secrets
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from typing import Any
from urllib.parse import urlsplit

TURNS = 4
PATIENCE = 120.0
HEADERS = {"Authorization": f"Bearer {os.environ.get('CLOISTER_KEY', '')}", "Content-Type": "application/json"}


@dataclass
class Request:
    """What became of one: times are seconds since the epoch; `told`, an error event came; `whole`, the answer's end did."""

    began: float
    ended: float = 0.0
    status: int = 0
    whole: bool = False
    told: bool = False
    size: int = 0
    broken: str = ""

    @property
    def failed(self) -> bool:
        return not self.whole


def sent(url: str, body: Any) -> http.client.HTTPResponse:
    address = urlsplit(url)
    connection = http.client.HTTPConnection(address.hostname or "", address.port, timeout=PATIENCE)
    data = None if body is None else json.dumps(body, ensure_ascii=False).encode()
    connection.request("GET" if body is None else "POST", address.path, data, HEADERS)
    return connection.getresponse()


def chat(url: str, body: Any) -> http.client.HTTPResponse:
    return sent(f"{url}/v1/chat/completions", body)


def streamed(url: str, content: str, tokens: int) -> Request:
    """One request whose answer comes in pieces; it never raises."""
    this, data = Request(time.time()), b""
    try:
        asked = {"messages": [{"role": "user", "content": content}], "stream": True, "max_tokens": tokens, "ignore_eos": True}
        response = chat(url, asked)
        this.status = response.status
        while piece := response.read1(65536):
            data += piece
    except (OSError, http.client.HTTPException) as error:
        this.broken = f"{type(error).__name__}: {error}"
    this.ended, this.size = time.time(), len(data)
    this.whole, this.told = data.endswith(b"data: [DONE]\n\n") and b'{"error"' not in data, b'data: {"error"' in data
    return this


def endless(url: str, clients: int, tokens: int) -> list[Request]:
    done: list[Request] = []
    over = threading.Event()

    def client(number: int) -> None:
        turn = 0
        while not over.is_set():
            turn += 1
            done.append(streamed(url, f"{number}/{turn}: 请从一数到一百。", tokens))
            if done[-1].status != 200:
                time.sleep(0.2)

    threads = [threading.Thread(target=client, args=(number,)) for number in range(clients)]
    for thread in threads:
        thread.start()
    sys.stdin.read()
    over.set()
    for thread in threads:
        thread.join()
    return done


def conversation(url: str, number: int, tokens: int) -> list[tuple[int, int]]:
    """Tokens of each turn's prompt, and those that came from a cache."""
    messages: list[dict[str, str]] = []
    usages, seed = [], secrets.token_hex(4)  # nobody has held this one before
    for turn in range(TURNS):
        messages.append(
            {
                "role": "user",
                "content": f"{seed} 第 {turn} 问：小明有 {number} 个苹果，又买了 {turn} 个。" + "一共有几个？" * 20,
            }
        )
        answer = json.load(chat(url, {"messages": messages, "max_tokens": tokens, "temperature": 0}))
        usage = answer["usage"]
        usages.append((usage["prompt_tokens"], (usage.get("prompt_tokens_details") or {}).get("cached_tokens", 0)))
        messages.append({"role": "assistant", "content": answer["choices"][0]["message"]["content"] or "…"})
    return usages


def main() -> None:
    use, url, *more = sys.argv[1:]
    found: list[Any]
    if use == "once":
        response = sent(url, json.loads(more[0]))
        found = [[response.status, json.load(response)]]
    elif use == "endless":
        found = [asdict(request) for request in endless(url, int(more[0]), int(more[1]))]
    else:
        with ThreadPoolExecutor(int(more[0])) as pool:
            found = list(pool.map(lambda number: conversation(url, number, int(more[1])), range(int(more[2]))))
    print(json.dumps(found))


if __name__ == "__main__":
    main()
