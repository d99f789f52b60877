"""The logs of a whole run with the real engine: every request can be followed through them, and nobody's text is in any of them."""

from __future__ import annotations

import json
import re
import time

import httpx

from tests.conftest import Cloister

WORDS = ("Zebrafink", "Quastenflosser", "玄武岩", "Blattlaus", "Axolotl")
QUESTION = f"{WORDS[0]}: chickens and rabbits share a cage: 35 heads and 94 legs. How many {WORDS[1]} of each are there? {WORDS[2]}"


def ask(cloister: Cloister, request_id: str | None = None, **fields: object) -> httpx.Response:
    body = {"messages": [{"role": "system", "content": WORDS[3]}, {"role": "user", "content": QUESTION}], "max_tokens": 150, **fields}
    headers = {"X-Request-Id": request_id} if request_id else {}
    return httpx.post(f"{cloister.api_url}/v1/chat/completions", json=body, headers=headers, timeout=120)


def logs(cloister: Cloister) -> dict[str, str]:
    return {file.name: file.read_text(errors="replace") for file in (cloister.home / "log").iterdir() if file.is_file()}


def test_nobodys_text_is_in_any_log(cloister: Cloister) -> None:
    said: list[str] = []
    whole = ask(cloister).json()["choices"][0]["message"]
    said += [whole["content"], whole.get("reasoning_content") or ""]
    for line in ask(cloister, stream=True, logprobs=None).text.splitlines():
        if line.startswith("data: {"):
            for choice in json.loads(line[6:])["choices"]:
                said.append(choice["delta"].get("content") or choice["delta"].get("reasoning_content") or "")
    body = {"messages": [{"role": "user", "content": QUESTION}], "stream": True, "ignore_eos": True, "max_tokens": 900}
    with httpx.stream("POST", f"{cloister.api_url}/v1/chat/completions", json=body, timeout=120) as response:
        next(line for line in response.iter_lines() if "content" in line)  # and away
    wrong: list[dict[str, object]] = [{"temperature": WORDS[4]}, {"stop": [WORDS[4]] * 99}, {WORDS[4]: WORDS[4]}, {"model": WORDS[4]}]
    wrong += [{"messages": [{"role": WORDS[4], "content": WORDS[4]}]}, {"messages": [{"role": "user", "content": QUESTION * 900}]}]
    assert [ask(cloister, **fields).status_code for fields in wrong] == [400, 400, 200, 404, 400, 400]
    ask(cloister, request_id=f"{WORDS[4]} is no id")
    cloister.script("chat", QUESTION)
    httpx.post(f"{cloister.api_url}/v1/chat/completions", content=f'{{"{WORDS[4]}', timeout=60)
    time.sleep(0.5)  # what is written last is written
    found = logs(cloister)
    assert {"api.log", "engine.log", "ui.log"} <= set(found) and found["api.log"].count("request method=POST") >= 10
    lines = {line.strip() for text in said for line in text.splitlines() if len(line.strip()) >= 12}
    assert lines, "the answers have nothing to look for"
    for name, text in found.items():
        assert not [word for word in (*WORDS, "chickens", "rabbits", *(json.dumps(w)[1:-1] for w in WORDS[2:3])) if word in text], name
        assert not [line for line in lines if line in text], name


def test_a_request_can_be_followed_from_the_client_to_the_engine(cloister: Cloister) -> None:
    answer = ask(cloister, request_id="follow-me.1", max_tokens=5)
    assert answer.headers["x-request-id"] == "follow-me.1"
    made = ask(cloister, max_tokens=5).headers["x-request-id"]
    assert re.fullmatch(r"req-[0-9a-f]{32}", made)
    deadline = time.monotonic() + 60
    for wanted in ("follow-me.1", made):
        while not (line := re.search(rf"request method=POST .* id={wanted} engine=(r\d+)\b", logs(cloister)["api.log"])):
            assert time.monotonic() < deadline
            time.sleep(0.05)
        while f"finished request={line[1]} reason=length" not in logs(cloister)["engine.log"]:
            assert time.monotonic() < deadline
            time.sleep(0.05)
        assert logs(cloister)["api.log"].count(wanted) == 1, "the pair is told once"


def test_metrics_of_the_real_engine(cloister: Cloister) -> None:
    ask(cloister, max_tokens=5)
    text = httpx.get(f"{cloister.api_url}/metrics", timeout=30).text
    seen = dict(re.findall(r"^(cloister_[a-z_]+) ([0-9.e+]+)$", text, re.MULTILINE))
    assert float(seen["cloister_engine_up"]) == 1 and float(seen["cloister_generated_tokens_total"]) >= 5
    assert 0 < float(seen["cloister_cells_used"]) <= float(seen["cloister_cells"])
    assert 0 < float(seen["cloister_decode_seconds_total"]) <= float(seen["cloister_step_seconds_total"])
    assert {"cloister_evictions_total", "cloister_preemptions_total", "cloister_throttled_seconds_total"} <= set(seen)
    assert re.search(r'^cloister_memory_bytes\{process="engine"\} [1-9]', text, re.MULTILINE)
