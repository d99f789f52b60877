#!/usr/bin/env python3
"""Grade an OpenAI-compatible endpoint on the demo model's world: grade.py URL [-n 100] [--seed 9] [--key K]

Asks n fresh conversations (a seed that training never used), greedily, and compares the bold results, or the whole
answer where there is none, with the computed ones. Prints the share right per kind of question.
"""

from __future__ import annotations

import argparse
import json
import random
import re
import urllib.request
from collections import Counter
from concurrent.futures import ThreadPoolExecutor

import tasks

KINDS = {
    "cage": tasks.t_cage,
    "sum": tasks.t_sum,
    "dice": tasks.t_dice,
    "logic": tasks.t_logic,
    "code": tasks.t_code,
    "other": tasks.t_other,
}


def key(answer: str) -> list[str] | str:
    """What an answer is compared by."""
    return re.findall(r"\*\*(.+?)\*\*", answer) or answer.strip()


def main() -> None:
    ap = argparse.ArgumentParser(description="Grade an OpenAI-compatible endpoint on the demo model's world.")
    ap.add_argument("url")
    ap.add_argument("-n", type=int, default=100)
    ap.add_argument("--seed", type=int, default=9)
    ap.add_argument("--key", default="none")
    ap.add_argument("--model", default="default")
    ap.add_argument("--users", type=int, default=4)
    ap.add_argument("--show", type=int, default=0, help="print that many wrong answers")
    a = ap.parse_args()
    rng = random.Random(1_000_000 + a.seed)
    todo = []
    for _ in range(a.n):
        name = rng.choices(list(KINDS), [0.5, 0.2, 0.08, 0.1, 0.06, 0.06])[0]
        zh = rng.random() < 0.6
        turns = [KINDS[name](rng, zh)]
        todo.append((name, turns[0]))

    def ask(item: tuple[str, tasks.Turn]) -> tuple[str, bool, str, str, str]:
        name, (q, _, want) = item
        body = {"model": a.model, "messages": [{"role": "user", "content": q}], "temperature": 0, "max_tokens": 600}
        req = urllib.request.Request(
            a.url + "/v1/chat/completions",
            json.dumps(body).encode(),
            {"Content-Type": "application/json", "Authorization": f"Bearer {a.key}"},
        )
        message = json.load(urllib.request.urlopen(req, timeout=300))["choices"][0]["message"]
        got = (message.get("content") or "").split("</think>")[-1]
        return name, key(got) == key(want), q, got, want

    right: Counter[str] = Counter()
    seen: Counter[str] = Counter()
    wrong = []
    with ThreadPoolExecutor(a.users) as pool:
        for name, ok, q, got, want in pool.map(ask, todo):
            seen[name] += 1
            right[name] += ok
            if not ok:
                wrong.append((q, got, want))
    for name in seen:
        print(f"{name:6} {right[name]:4}/{seen[name]}")
    for w in wrong[: a.show]:
        print("---", *w, sep="\n")
    print(f"all    {sum(right.values()) / sum(seen.values()):.3f}")


if __name__ == "__main__":
    main()
