"""Downloads against a hub that misbehaves: cut, slow, corrupt, rate-limited, failing, without ranges, gated, through a proxy."""

from __future__ import annotations

import http.server
import shutil
import signal
import subprocess
import threading
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests import checkpoints
from tests.hub import Hub
from tests.init.conftest import REPO, Init

SHARD = "model-00001-of-00002.safetensors"
OTHER = "model-00002-of-00002.safetensors"


def size(small: Path, name: str = SHARD) -> int:
    return (small / name).stat().st_size


def test_what_comes_is_what_the_list_allows_at_one_commit(init: Init, hub: Hub, small: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(small, tmp_path / "repo")
    (folder / "pytorch_model.bin").write_bytes(b"a pickle")
    (folder / "consolidated.safetensors").write_bytes(b"the same weights in another form")
    (folder / "README.md").write_text("read me")
    (folder / "onnx").mkdir()
    (folder / "onnx/model.safetensors").write_bytes(b"not this")
    commit = hub.add(REPO, folder)
    init.ready("--model", REPO)
    assert {request.file for request in hub.requests if request.file} == {path.name for path in small.iterdir()}
    resolved = [request.path for request in hub.requests if "/resolve/" in request.path]
    assert resolved and all(f"/resolve/{commit}/" in path for path in resolved)
    assert not [request for request in hub.requests if request.path.startswith("/api/") and "/revision/main" not in request.path]


def test_a_killed_download_goes_on_by_range(init: Init, hub: Hub, repo: str, small: Path) -> None:
    hub.fault(f"GET /cdn/.*{SHARD}", rate=1_000_000)
    with init.start("--model", repo) as process:
        while not any(path.stat().st_size > 1_000_000 for path in init.volume.glob("sources/*/parts/*")):
            assert process.poll() is None
            time.sleep(0.02)
        process.send_signal(signal.SIGKILL)
    (part,) = init.volume.glob("sources/*/parts/*")
    there = part.stat().st_size
    assert 1_000_000 < there < size(small)
    assert not list(init.volume.glob("sources/*/*/*.safetensors")), "nothing half-written has its name"
    log = init.ready("--model", repo)
    assert hub.gets(SHARD)[-1].range == f"bytes={there}-" and hub.gets(SHARD)[-1].status == 206
    assert hub.gets(SHARD)[-1].sent == size(small) - there
    assert hub.sent(SHARD) < size(small) + 1_000_000
    assert "convert done" in log


def test_a_broken_connection_goes_on_by_range(init: Init, hub: Hub, repo: str, small: Path) -> None:
    for bytes_ in (100_000, 200_000, 300_000):
        hub.fault(f"GET /cdn/.*{SHARD}", cut=bytes_)
    log = init.ready("--model", repo)
    assert hub.sent(SHARD) == size(small)
    assert [request.range for request in hub.gets(SHARD)] == [None, "bytes=100000-", "bytes=300000-", "bytes=600000-"]
    assert "the connection to the hub failed" in log and "trying again in 1 s" in log


def test_a_connection_that_gets_no_further_is_given_up(init: Init, hub: Hub, repo: str, small: Path) -> None:
    hub.fault(f"GET /cdn/.*{SHARD}", cut=100_000)
    broken = hub.fault(f"GET /cdn/.*{SHARD}", cut=0, times=None)
    sentence = init.refused("--model", repo)
    assert sentence.startswith(f"{hub.endpoint} can't be reached for {repo}:{SHARD}: the connection to the hub failed (")
    assert len(hub.gets(SHARD)) == 5, "one with progress, and four more"
    hub.faults.remove(broken)
    init.ready("--model", repo, "--quant", "bf16")
    assert hub.sent(SHARD) == size(small)


def test_a_server_without_ranges_sends_it_again(init: Init, hub: Hub, repo: str, small: Path) -> None:
    hub.fault(f"GET /cdn/.*{SHARD}", cut=100_000)
    hub.fault(f"GET /cdn/.*{SHARD}", ranges=False)
    init.ready("--model", repo)
    assert hub.sent(SHARD) == size(small) + 100_000


def test_a_flipped_byte_is_found_named_and_fetched_again(init: Init, hub: Hub, repo: str, small: Path) -> None:
    hub.fault(f"GET /cdn/.*{SHARD}", flip=1234567)
    hub.fault("GET /.*/resolve/.*/tokenizer.json", flip=999)
    log = init.ready("--model", repo)
    assert f"{SHARD} is damaged: its SHA-256 is " in log and "tokenizer.json is damaged: it is not the git blob" in log
    assert log.count("fetching it again") == 2
    assert hub.sent(SHARD) == 2 * size(small) and hub.sent(OTHER) == size(small, OTHER)


def test_a_byte_that_stays_flipped_is_an_error(init: Init, hub: Hub, repo: str, small: Path) -> None:
    fault = hub.fault(f"GET /cdn/.*{SHARD}", flip=1234567, times=None)
    sentence = init.refused("--model", repo)
    assert sentence.startswith(f"{SHARD} is damaged: its SHA-256 is ") and "it came wrong twice" in sentence
    assert hub.sent(SHARD) == 2 * size(small)
    assert init.progress["state"] == "failed" and init.progress["step"] == "verify" and init.progress["error"] == sentence
    hub.faults.remove(fault)
    init.ready("--model", repo)
    assert hub.sent(SHARD) == 3 * size(small) and hub.sent(OTHER) == size(small, OTHER)


def test_a_rate_limit_is_waited_for(init: Init, hub: Hub, repo: str) -> None:
    for path in ("GET /api/models", f"GET /cdn/.*{SHARD}", "GET /.*/resolve/.*/tokenizer.json"):
        hub.fault(path, status=429, headers={"Retry-After": "2"})
        hub.fault(path, status=503)
    log = init.ready("--model", repo, "--quant", "bf16")
    assert log.count("the hub answered 429 Too Many Requests; trying again in 2 s") == 3
    assert log.count("the hub answered 503 Service Unavailable; trying again in 2 s") == 3


def test_a_rate_limit_of_an_hour_is_not_waited_for(init: Init, hub: Hub, repo: str) -> None:
    hub.fault("GET /api/models", status=429, headers={"Retry-After": "3600"}, times=None)
    began = time.monotonic()
    assert "keeps failing for someone/small-llama: the hub answered 429 Too Many Requests" in init.refused("--model", repo)
    assert time.monotonic() - began < 30 and init.written() == []


def test_a_hub_that_sends_too_little_or_too_much(init: Init, hub: Hub, small: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(small, tmp_path / "repo")
    (folder / "added_tokens.json").write_text("{}")
    hub.add(REPO, folder)
    total = (folder / "tokenizer.json").stat().st_size
    hub.fault("GET /.*/resolve/.*/tokenizer.json", status=200)  # 20 bytes that are something else
    assert f"ends tokenizer.json after 20 of {total} bytes; check the mirror or proxy" in init.refused("--model", REPO)
    shutil.rmtree(init.volume)
    hub.fault("GET /.*/resolve/.*/added_tokens.json", status=200)
    assert "sends more than the 2 bytes of added_tokens.json that it announced" in init.refused("--model", REPO)


@pytest.mark.parametrize("xet", [False, True])
def test_a_mirror_with_or_without_xet(small: Path, tmp_path: Path, xet: bool) -> None:
    with Hub(xet=xet) as hub:
        hub.add(REPO, small)
        init = Init(tmp_path, hub.endpoint)
        init.ready("--model", REPO, "--quant", "bf16", HF_HUB_DISABLE_XET="0")
        assert not [request for request in hub.requests if "xet" in request.path]


def test_a_silent_server_is_left_and_asked_again(init: Init, hub: Hub, repo: str, small: Path) -> None:
    hub.fault("GET /api/models", silence=20)
    hub.fault(f"GET /cdn/.*{SHARD}", silence=20)
    log = init.ready("--model", repo, "--quant", "bf16", HF_HUB_DOWNLOAD_TIMEOUT=2)
    assert log.count("the hub did not answer in time; trying again in 1 s") == 2
    assert hub.sent(SHARD) == size(small)


def test_a_hub_with_a_private_certificate_authority(small: Path, tmp_path: Path) -> None:
    pem = tmp_path / "hub.pem"
    names = "subjectAltName=DNS:localhost,IP:127.0.0.1"
    command = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-keyout", pem, "-out", tmp_path / "ca.pem"]
    subprocess.run([*command, "-subj", "/CN=hub", "-addext", names], check=True, capture_output=True)
    pem.write_bytes(pem.read_bytes() + (tmp_path / "ca.pem").read_bytes())
    with Hub(tls=pem) as hub:
        hub.add(REPO, small)
        init = Init(tmp_path / "home", hub.endpoint)
        sentence = init.refused("--model", REPO)
        assert "CERTIFICATE_VERIFY_FAILED" in sentence and "set SSL_CERT_FILE to your certificate authority's file" in sentence
        init.ready("--model", REPO, "--quant", "bf16", SSL_CERT_FILE=tmp_path / "ca.pem")


def test_the_token_goes_to_the_hub_and_nowhere_else(init: Init, hub: Hub, repo: str) -> None:
    hub.repositories[repo].gated = True
    init.ready("--model", repo, HF_TOKEN="hf_right")
    assert {request.authorization for request in hub.requests if "/cdn/" not in request.path} == {"Bearer hf_right"}
    assert {request.authorization for request in hub.requests if "/cdn/" in request.path} == {None}


def test_no_telemetry(init: Init, hub: Hub, repo: str) -> None:
    init.ready("--model", repo)
    assert {request.path.split("/")[1] for request in hub.requests} == {"api", "someone", "cdn"}
    assert {request.path for request in hub.requests if request.path.startswith("/api/")} == {
        f"/api/models/{repo}/revision/main?blobs=true"
    }


class Proxy(http.server.BaseHTTPRequestHandler):
    """Forwards GET requests in absolute form, as a company's proxy gets them."""

    seen: list[str]

    def do_GET(self) -> None:
        self.seen.append(self.path)
        headers = {name: value for name, value in self.headers.items() if name.lower() in ("range", "accept-encoding")}
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}), NoRedirect)
        with opener.open(urllib.request.Request(self.path, headers=headers), timeout=30) as answer:
            self.send_response(answer.status)
            for name, value in answer.headers.items():
                if name.lower() not in ("connection", "date", "server"):
                    self.send_header(name, value)
            self.end_headers()
            shutil.copyfileobj(answer, self.wfile)

    def log_message(self, *_: object) -> None:
        pass


class NoRedirect(urllib.request.HTTPErrorProcessor):
    def http_response(self, request: urllib.request.Request, response: object) -> object:  # type: ignore[override]
        return response


@pytest.fixture
def proxy() -> Iterator[tuple[str, list[str]]]:
    seen: list[str] = []
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), type("Seeing", (Proxy,), {"seen": seen}))
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_address[1]}", seen
    server.shutdown()
    server.server_close()


def test_a_proxy_is_used(init: Init, hub: Hub, repo: str, proxy: tuple[str, list[str]]) -> None:
    address, seen = proxy
    init.ready("--model", repo, "--quant", "bf16", HTTP_PROXY=address, http_proxy=address, NO_PROXY="", no_proxy="")
    assert [request.path for request in hub.requests] == [url.split("/", 3)[-1].join(["/", ""]) for url in seen]


def test_a_new_commit_between_two_runs_is_taken(init: Init, hub: Hub, repo: str, small: Path, tmp_path: Path) -> None:
    fault = hub.fault(f"GET /cdn/.*{OTHER}", status=404, times=None)
    init.refused("--model", repo)
    folder = shutil.copytree(small, tmp_path / "changed")
    (folder / "generation_config.json").unlink()
    commit = hub.add(repo, folder)
    hub.faults.remove(fault)
    init.ready("--model", repo)
    assert init.current.source.commit == commit and "generation_config.json" not in {file.path for file in init.current.source.files}
    assert not list(init.volume.glob("sources/*/*/generation_config.json"))
    assert hub.sent(SHARD) == size(small), "what both have is not fetched again"


def test_a_single_file_checkpoint(init: Init, hub: Hub, tmp_path: Path) -> None:
    (recipe,) = [recipe for recipe in checkpoints.RECIPES if recipe.name == "SmolLM2-135M-Instruct"]
    hub.add(REPO, checkpoints.write(recipe, tmp_path))
    init.ready("--model", REPO, "--quant", "f16")
    assert "model.safetensors" in {file.path for file in init.current.source.files}
