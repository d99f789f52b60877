"""The whole appliance on the demo model, started by scripts/up: the main job, and what happens when parts of it die."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

import httpx
import openai
import pytest

from tests.conftest import ROOT, Cloister, environment, start

CAGE = {
    "zh": "鸡兔同笼,共有 35 个头,94 条腿,请问鸡和兔各有多少只?",
    "en": "Chickens and rabbits share a cage: 35 heads and 94 legs. How many of each are there?",
}
ARTICLE = {
    "甲乙两人轮流掷骰子,谁先掷出6谁赢,甲先掷,求甲获胜的概率。": "6/11",
    "写一个 Python 函数判断回文字符串。": "return text == text[::-1]",
    "如果所有猫都会飞,而咪咪是一只猫,那么咪咪会飞吗?": "**咪咪会飞**",
    "What is 17 × 6?": "**102**",
}


def client(cloister: Cloister, retries: int = 0) -> openai.OpenAI:
    return openai.OpenAI(base_url=cloister.api_url + "/v1", api_key="none", max_retries=retries)


def ask(cloister: Cloister, question: str) -> openai.types.chat.ChatCompletionMessage:
    done = client(cloister).chat.completions.create(model="demo", messages=[{"role": "user", "content": question}], temperature=0)
    assert done.choices[0].finish_reason == "stop"
    return done.choices[0].message


@pytest.mark.parametrize("language", ["zh", "en"])
def test_chickens_and_rabbits_with_the_thinking_apart(cloister: Cloister, language: str) -> None:
    message = ask(cloister, CAGE[language])
    assert "**23**" in str(message.content) and "**12**" in str(message.content)
    thought = message.to_dict()["reasoning_content"]
    assert "2 × 23 + 4 × 12" in str(thought)
    assert "think>" not in str(message.content) + str(thought)


@pytest.mark.parametrize("question", ARTICLE)
def test_the_articles_examples(cloister: Cloister, question: str) -> None:
    assert ARTICLE[question] in str(ask(cloister, question).content)


def test_a_follow_up_finds_the_conversation_in_the_cache(cloister: Cloister) -> None:
    first = CAGE["zh"].replace("35", "30").replace("94", "84")
    turns = [{"role": "user", "content": first}, {"role": "assistant", "content": str(ask(cloister, first).content)}]
    turns.append({"role": "user", "content": "那如果是 40 个头,100 条腿呢?"})
    done = client(cloister).chat.completions.create(model="default", messages=turns, temperature=0)  # type: ignore[arg-type]
    assert "**30**" in str(done.choices[0].message.content) and "**10**" in str(done.choices[0].message.content)
    assert done.usage and done.usage.prompt_tokens_details and (done.usage.prompt_tokens_details.cached_tokens or 0) >= 20


def test_the_next_turn_is_read_ahead_while_nobody_asks(cloister: Cloister) -> None:
    """R1's template drops the thought, so what was computed after it is of no use; the answer is read again, in time."""

    def cells() -> int:
        return int(httpx.get(f"{cloister.api_url}/v1/status").json()["engine"]["cells_used"])

    question = {"role": "user", "content": CAGE["zh"].replace("35", "20").replace("94", "56")}
    seen = [cells()]
    while len(seen) < 4 or len(set(seen[-4:])) > 1:  # what an earlier conversation left to read is read
        time.sleep(0.5)
        seen.append(cells())
    held = seen[-1]
    first = client(cloister).chat.completions.create(model="demo", messages=[question], temperature=0)  # type: ignore[list-item]
    assert first.usage and first.usage.completion_tokens_details
    thought = first.usage.completion_tokens_details.reasoning_tokens or 0
    answered = first.usage.completion_tokens - thought
    deadline = time.monotonic() + 60
    while cells() < held + first.usage.total_tokens - 20 + answered - 5:  # 20: a beginning that others have as well
        assert time.monotonic() < deadline, "the answer was not read again"
        time.sleep(0.2)
    turns = [question, {"role": "assistant", "content": str(first.choices[0].message.content)}, {"role": "user", "content": "17 × 6 = ?"}]
    second = client(cloister).chat.completions.create(model="demo", messages=turns, temperature=0)  # type: ignore[arg-type]
    assert "**102**" in str(second.choices[0].message.content)
    assert second.usage and second.usage.prompt_tokens_details
    assert (second.usage.prompt_tokens_details.cached_tokens or 0) >= second.usage.prompt_tokens - 20


def test_the_graded_world_is_answered_right(cloister: Cloister) -> None:
    command = [sys.executable, "grade.py", cloister.api_url, "-n", "60", "--seed", "77", "--users", "8", "--model", "demo"]
    done = subprocess.run(command, cwd=ROOT / "tests/demo", capture_output=True, text=True, check=True, timeout=200)
    assert float(done.stdout.split()[-1]) >= 0.95, done.stdout


def test_status_tells_model_provenance_and_threads(cloister: Cloister) -> None:
    status = httpx.get(cloister.api_url + "/v1/status").json()
    assert status["state"] == "ready" and status["model"]["name"] == "demo" and status["model"]["source"]["kind"] == "demo"
    manifest = json.loads((cloister.home / "volume/current/manifest.json").read_text())
    assert status["model"]["sha256"] == manifest["model"]["sha256"] and len(manifest["model"]["sha256"]) == 64
    assert status["engine"]["threads"] >= 1 and "limited by" in status["engine"]["threads_reason"]


def test_a_prompt_that_does_not_fit_is_refused_with_both_numbers(cloister: Cloister) -> None:
    with pytest.raises(openai.BadRequestError) as error:
        ask(cloister, "鸡兔同笼 " * 3000)
    assert error.value.code == "context_length_exceeded"
    counts = [int(word) for word in str(error.value.body["message"]).replace(",", " ").split() if word.isdigit()]  # type: ignore[index]
    assert counts[1] == 4096 and counts[0] > 4096


async def _stream(url: str) -> str:
    """Read one long stream; returns what ended it: an error event's code, or `done`."""
    body = {"messages": [{"role": "user", "content": CAGE["en"]}], "stream": True, "ignore_eos": True, "max_tokens": 3500}
    async with httpx.AsyncClient(timeout=60) as http, http.stream("POST", url + "/v1/chat/completions", json=body) as response:
        assert response.status_code == 200
        async for line in response.aiter_lines():
            if line.startswith("data: {") and "error" in (data := json.loads(line[6:])):
                return str(data["error"]["code"])
    return "done"


def test_the_engine_killed_during_eight_streams(cloister: Cloister) -> None:
    async def scene() -> tuple[list[str], int, str | None, float]:
        streams = [asyncio.create_task(_stream(cloister.api_url)) for _ in range(8)]
        while (await asyncio.to_thread(httpx.get, cloister.api_url + "/v1/status")).json()["engine"]["running"] < 8:
            await asyncio.sleep(0.02)
        os.kill(cloister.pid("engine"), signal.SIGKILL)
        ends = await asyncio.gather(*streams)
        async with httpx.AsyncClient(timeout=30) as http:
            body = {"messages": [{"role": "user", "content": CAGE["zh"]}], "temperature": 0}
            refused = await http.post(cloister.api_url + "/v1/chat/completions", json=body)
            while (await http.get(cloister.api_url + "/readyz")).status_code != 200:
                await asyncio.sleep(0.05)
            back = time.monotonic()
            async with http.stream("POST", cloister.api_url + "/v1/chat/completions", json={**body, "stream": True}) as answer:
                async for line in answer.aiter_lines():
                    if '"reasoning_content"' in line:
                        break
            return ends, refused.status_code, refused.headers.get("retry-after"), time.monotonic() - back

    ends, status, retry_after, seconds = asyncio.run(asyncio.wait_for(scene(), 90))
    assert ends == ["engine_failed"] * 8
    assert status == 503 and retry_after is not None and int(retry_after) >= 1
    assert seconds < 5
    assert "**12**" in str(client(cloister, retries=5).chat.completions.create(
        model="demo", messages=[{"role": "user", "content": CAGE["zh"]}], temperature=0).choices[0].message.content)  # fmt: skip


def test_a_killed_api_or_page_comes_back_by_itself(cloister: Cloister) -> None:
    for program, url in (("api", cloister.api_url + "/readyz"), ("ui", cloister.page_url)):
        os.kill(cloister.pid(program), signal.SIGKILL)
        began = time.monotonic()
        while time.monotonic() - began < 60:
            try:
                if urllib.request.urlopen(url, timeout=5).status == 200:
                    break
            except (urllib.error.URLError, ConnectionError, TimeoutError):
                time.sleep(0.1)
        else:
            pytest.fail(f"{program} did not come back within 60 s")


def test_up_on_a_running_appliance_changes_nothing(cloister: Cloister) -> None:
    before = [cloister.pid(program) for program in ("engine", "api", "ui")]
    done = cloister.script("up", "--native", "--detach")
    assert "already running" in done.stderr and cloister.page_url in done.stdout
    assert [cloister.pid(program) for program in ("engine", "api", "ui")] == before


def test_no_text_of_anybody_is_in_the_logs(cloister: Cloister) -> None:
    ask(cloister, CAGE["zh"])
    logs = "".join(p.read_text(errors="replace") for p in (cloister.home / "log").iterdir())
    assert "request" in logs
    for text in ("鸡", "兔", "Chickens", "rabbit", "heads", "咪咪", "palindrome", "回文"):
        assert text not in logs, text


def test_only_loopback_is_listened_on(cloister: Cloister) -> None:
    ports = {int(url.rpartition(":")[2]) for url in (cloister.api_url, cloister.page_url)}
    listening = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:] if line.split()[3] == "0A"]
    found = {int(local.split(":")[1], 16): local.split(":")[0] for _, local, *_ in listening}
    assert {port: found[port] for port in ports} == dict.fromkeys(ports, "0100007F")


def failing_up(home: Path, *options: str, env: dict[str, str] | None = None, **settings: object) -> subprocess.CompletedProcess[str]:
    """scripts/up that is expected to end by itself with an error."""
    command = [ROOT / "scripts/up", "--native", "--detach", *options]
    return subprocess.run(command, env=env or environment(home, **settings), capture_output=True, text=True, timeout=120, check=False)


def test_a_taken_port_is_named(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        done = failing_up(tmp_path, UI__PORT=port)
    assert done.returncode == 1
    assert f"port {port} of [ui] is taken by another program" in done.stderr and "CLOISTER_UI__PORT" in done.stderr
    assert not (tmp_path / "volume").exists()


def test_an_unknown_setting_stops_the_start(tmp_path: Path) -> None:
    done = failing_up(tmp_path, ENGINE__CONTEXTS=1)
    assert done.returncode == 2 and "did you mean CLOISTER_ENGINE__CONTEXT?" in done.stderr
    assert list(tmp_path.iterdir()) == []


def test_a_model_that_can_not_be_prepared_ends_the_start_and_leaves_nothing_running(tmp_path: Path) -> None:
    done = failing_up(tmp_path, "--model", "no-such-model", UI__PORT=17860, API__PORT=18000)
    assert done.returncode == 2 and "no-such-model" in done.stderr and "deepseek-r1-distill-qwen-1.5b" in done.stderr
    assert not (tmp_path / "run/supervisord.pid").exists()


def test_an_unknown_option_is_named(tmp_path: Path) -> None:
    done = failing_up(tmp_path, "--modle", "demo")
    assert done.returncode == 1 and "unknown option --modle" in done.stderr


def test_no_compiler_is_said_with_the_way_out(tmp_path: Path) -> None:
    """In a copy of the scripts with an empty wheel cache and a PATH without any compiler."""
    checkout, tools = tmp_path / "checkout", tmp_path / "bin"
    subprocess.run(["git", "clone", "-q", "--no-hardlinks", ROOT, checkout], check=True)
    tools.mkdir()
    needed = "bash awk sed grep uname sha256sum cut dirname mkdir flock id rm cat python3 tail tr mktemp sleep env"
    for name in needed.split():
        found = subprocess.run(["bash", "-c", f"type -P {name}"], capture_output=True, text=True, check=True).stdout.strip()
        (tools / name).symlink_to(found)
    env = environment(tmp_path) | {"PATH": str(tools), "XDG_CACHE_HOME": str(tmp_path / "cache"), "PYTHON": sys.executable}
    env.pop("CXX", None)
    done = subprocess.run([checkout / "scripts/up"], env=env, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 1
    assert "there is no C++ compiler. On Debian: apt install g++" in done.stderr, done.stderr


def test_down_stops_everything_and_the_next_start_is_quick(tmp_path: Path) -> None:
    running = start(tmp_path, MODEL__NAME="demo", MODEL__QUANT="q8_0")
    engine = running.pid("engine")
    assert "stopped" in running.script("down").stderr
    assert not Path(f"/proc/{engine}").exists() and not (tmp_path / "run/engine.sock").exists()
    assert "nothing runs" in running.script("down").stderr
    again = start(tmp_path, MODEL__NAME="demo", MODEL__QUANT="q8_0")
    assert httpx.get(again.api_url + "/v1/status").json()["model"]["quant"] == "q8_0"
    again.script("up", "--native", "--detach", "--model", "demo", timeout=300)
    again.script("down")
