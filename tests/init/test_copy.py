"""A model copied from the node that prepared it, over the real Caddy with docker/Caddyfile.depot: the same bytes, the hub asked once."""

from __future__ import annotations

import contextlib
import http.client
import logging
import os
import shutil
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Self

import pytest

from services.init.copy import copy
from services.init.errors import NotEnough
from services.init.peer import Peer
from services.init.reporter import Reporter
from services.init.volume import Volume
from services.shared import hardware
from tests.conftest import ROOT, free_port
from tests.hub import Hub
from tests.init.conftest import Init, sha256

pytestmark = pytest.mark.skipif(shutil.which("caddy") is None and os.environ.get("CI") != "true", reason="no caddy here")
NOWHERE = "http://127.0.0.1:9"


class Depot:
    """Caddy as on the first node, showing what `init` has. Between it and the others a cable, which carries `only` so many bytes of each
    connection, and then hangs or is cut; `carried` counts all."""

    def __init__(self, init: Init, root: Path) -> None:
        root.mkdir()
        (root / "volume").symlink_to(init.volume)
        (root / "progress").symlink_to(init.home / "run")
        self.only: int | None = None
        self.hangs = False
        self.carried = 0
        self._root, self._port = root, free_port()
        self._cable = socket.create_server(("127.0.0.1", 0))
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._cable.getsockname()[1]}"

    def __enter__(self) -> Self:
        threading.Thread(target=self._connect, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._cable.close()
        self.stop()

    def start(self) -> None:
        here = {"DEPOT_PORT": self._port, "DEPOT_ROOT": self._root, "DEPOT_HEALTH": free_port(), "XDG_DATA_HOME": self._root / "caddy"}
        command = ["caddy", "run", "--config", ROOT / "docker/Caddyfile.depot", "--adapter", "caddyfile"]
        self._process = subprocess.Popen(command, env=os.environ | {k: str(v) for k, v in here.items()}, stderr=subprocess.DEVNULL)
        until(lambda: self.status("/") == 404)

    def stop(self) -> None:
        if self._process:
            self._process.kill()
            self._process.wait(30)
        self._process = None

    def status(self, path: str, method: str = "GET") -> int | None:
        """What Caddy answers; None when it does not."""
        connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=30)
        with contextlib.closing(connection), contextlib.suppress(OSError):
            connection.request(method, path)
            return connection.getresponse().status
        return None

    def _connect(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = self._cable.accept()
                threading.Thread(target=self._carry, args=(client,), daemon=True).start()

    def _carry(self, client: socket.socket) -> None:
        with client, contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", self._port)) as server:
            threading.Thread(target=_pass_on, args=(client, server), daemon=True).start()
            carried = 0
            while data := server.recv(65536):
                if self.only is not None and carried + len(data) > self.only:
                    while self.hangs:
                        time.sleep(0.05)
                    client.shutdown(socket.SHUT_RDWR)  # another thread waits for it, and closing alone would not end that
                    return
                client.sendall(data)
                carried += len(data)
                self.carried += len(data)


def _pass_on(client: socket.socket, server: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while data := client.recv(65536):
            server.sendall(data)


def until(condition: Callable[[], bool], seconds: float = 60) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.02)


def with_demo(init: Init, demo_volume: Path) -> Init:
    """Give it a prepared demo, as making it takes a while; the manifest last, as init does."""
    shutil.copytree(demo_volume / "models", init.volume / "models", ignore=shutil.ignore_patterns("manifest.json"))
    (init.volume / "current").symlink_to((demo_volume / "current").readlink())
    shutil.copy(demo_volume / "current/manifest.json", init.volume / "current/manifest.json")
    (init.home / "run").mkdir(exist_ok=True)
    shutil.copy(demo_volume.parent / "run/progress.json", init.home / "run")
    return init


@pytest.fixture
def first(demo_volume: Path, tmp_path: Path) -> Init:
    """The first node, with the demo model."""
    return with_demo(Init(tmp_path / "first", NOWHERE), demo_volume)


@pytest.fixture
def depot(first: Init, tmp_path: Path) -> Iterator[Depot]:
    with Depot(first, tmp_path / "var") as depot:
        depot.start()
        yield depot


@pytest.fixture
def second(depot: Depot, tmp_path: Path) -> Init:
    return other(depot, tmp_path / "second")


def other(depot: Depot, home: Path) -> Init:
    """Another node, which knows no hub."""
    init = Init(home, NOWHERE)
    init.variables["CLOISTER_MODEL__PEER"] = depot.url
    return init


def same(one: Init, another: Init) -> bool:
    """Whether both have the same model in use, down to the bytes, and nothing is left on its way."""
    names = ("manifest.json", "model.gguf")
    here, there = ((init.volume / "current").resolve() for init in (one, another))
    assert not (another.volume / "work").exists() or not list((another.volume / "work").iterdir())
    assert another.progress["state"] == "ready" and sha256(there / "model.gguf") == another.current.model.sha256
    return all((here / name).read_bytes() == (there / name).read_bytes() for name in names)


def nothing_is_visible(init: Init) -> bool:
    return not (init.volume / "current").is_symlink() and not list(init.volume.glob("models/*/*/*"))


def test_it_waits_for_the_first_node(demo_volume: Path, tmp_path: Path) -> None:
    first = Init(tmp_path / "first", NOWHERE)
    first.volume.mkdir(parents=True)
    with Depot(first, tmp_path / "var") as depot:
        node = other(depot, tmp_path / "second")

        def waits(reason: str) -> bool:
            return (node.home / "run/progress.json").exists() and reason in (node.progress["detail"] or "")

        with node.start() as process:
            until(lambda: waits("it can't be reached"))
            depot.start()
            until(lambda: waits("it has no model yet"))
            assert "could not prepare" not in node.progress["detail"] and nothing_is_visible(node)
            assert "unknown model" in first.refused("--model", "r2-distill", code=2)
            until(lambda: waits("it could not prepare the model: [model] name: unknown model 'r2-distill'"))
            assert node.progress["state"] == "running"
            with_demo(first, demo_volume)
            _, log = process.communicate(timeout=60)
        assert process.returncode == 0, log
        assert same(first, node)


def test_others_follow_the_first_node_and_only_that_one_asks_the_hub(
    init: Init, hub: Hub, repo: str, demo_volume: Path, tmp_path: Path
) -> None:
    with_demo(init, demo_volume)
    with Depot(init, tmp_path / "var") as depot:
        depot.start()
        init.variables["HF_ENDPOINT"] = NOWHERE
        init.ready("--model", repo, MODEL__FALLBACK="demo")
        node = other(depot, tmp_path / "second")
        node.ready()
        assert same(init, node) and node.current.name == "demo", "what stands in on the first node stands in everywhere"
        assert node.progress["notice"] == init.progress["notice"] is not None

        init.variables["HF_ENDPOINT"] = node.variables["HF_ENDPOINT"] = hub.endpoint
        init.ready("--model", repo)
        asked = len(hub.requests)
        log = node.ready()
        assert len(hub.requests) == asked > 0
        assert f"of {node.current.name} q4_k_m from {depot.url}" in log and "verify done" in log
        assert same(init, node) and node.current.source.repo == repo and node.progress["notice"] is None
        assert str((node.volume / "previous").readlink()) == "models/demo/q4_k_m"

        carried = depot.carried
        assert f"ready {node.current.name} q4_k_m {node.current.model.sha256[:12]} in" in node.ready()
        init.ready("--model", "demo")
        node.ready()
        assert same(init, node) and node.current.name == "demo"
        assert depot.carried - carried < 1 << 20, "what is there already is not sent again"
        Init(node.home, NOWHERE).ready("--model", repo)  # as the first node, when that one is lost
        assert node.current.source.repo == repo


def test_a_cut_cable_costs_no_byte_twice(first: Init, depot: Depot, second: Init) -> None:
    size = first.current.model.size
    depot.only = size // 3
    log = second.ready()
    assert same(first, second)
    assert "it can't be reached" in log
    assert size <= depot.carried < size + (1 << 20)


def test_killed_in_the_middle_it_goes_on_there(first: Init, depot: Depot, second: Init) -> None:
    size = first.current.model.size
    depot.only, depot.hangs = size // 2, True
    part = second.volume / "work/demo" / first.current.quant / "model.gguf.part"
    with second.start() as process:
        until(lambda: part.exists() and part.stat().st_size > size // 3)
        process.send_signal(signal.SIGKILL)
        process.communicate(timeout=30)
    assert nothing_is_visible(second)
    depot.only, depot.hangs = None, False
    depot.stop()
    with second.start() as process:
        until(lambda: "can't be reached" in (second.progress["detail"] or ""))
        depot.start()
        _, log = process.communicate(timeout=60)
    assert process.returncode == 0, log
    assert same(first, second)
    assert depot.carried < size * 3 // 2


def test_damage_is_found_and_tried_once_more(first: Init, depot: Depot, second: Init) -> None:
    model = (first.volume / "current").resolve() / "model.gguf"
    good = model.read_bytes()
    model.write_bytes(good[:5000] + bytes([good[5000] ^ 1]) + good[5001:])
    sentence = second.refused()
    assert "is damaged: its SHA-256 is" in sentence and "it came wrong twice" in sentence
    assert second.progress["error"] in sentence and nothing_is_visible(second)
    assert 2 * len(good) <= depot.carried < 2 * len(good) + (1 << 20)
    model.write_bytes(good[:-100])
    assert f"it has {len(good) - 100} bytes instead of {len(good)}" in second.refused()
    assert nothing_is_visible(second)
    model.write_bytes(good)
    second.ready()
    assert same(first, second)


def test_damage_on_its_own_disk_is_fetched_anew(first: Init, depot: Depot, second: Init) -> None:
    size = first.current.model.size
    depot.only, depot.hangs = size // 2, True
    part = second.volume / "work/demo" / first.current.quant / "model.gguf.part"
    with second.start() as process:
        until(lambda: part.exists() and part.stat().st_size > size // 3)
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=30)
    assert process.returncode == 143
    depot.only, depot.hangs = None, False
    with part.open("r+b") as file:
        file.write(b"GGML")
    assert "fetching it again" in second.ready()
    assert same(first, second)
    (second.volume / "current/model.gguf").write_bytes(b"x" * size)
    second.ready()
    assert not same_bytes(first, second), "a start does not read gigabytes"
    second.ready("--verify")
    assert same(first, second)


def same_bytes(one: Init, another: Init) -> bool:
    return (one.volume / "current/model.gguf").read_bytes() == (another.volume / "current/model.gguf").read_bytes()


def test_a_name_that_leaves_the_volume_is_refused(first: Init, depot: Depot, second: Init) -> None:
    directory = (first.volume / "current").resolve()
    text = (directory / "manifest.json").read_text()
    for name in ("../../up", "a/b", ".hidden"):
        (directory / "manifest.json").write_text(text.replace('"name": "demo"', f'"name": "{name}"'))
        assert "can't be its place here" in second.refused()
    (directory / "manifest.json").write_text("<html>")
    assert "not a manifest" in second.refused()
    assert nothing_is_visible(second)
    second.variables["CLOISTER_MODEL__PEER"] = "depot:8080"
    assert "peer must look like" in second.refused(code=2)


def test_no_room_is_said_before_the_download(first: Init, depot: Depot, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    log = logging.getLogger("test")
    monkeypatch.setattr(hardware, "disk_free", lambda _: 110_000_000)
    report = Reporter(tmp_path / "progress.json", log, terminal=False)
    with pytest.raises(NotEnough, match=r"not enough disk for Cloister demo .* 110.0 MB are free"):
        copy(Peer(depot.url, log), Volume(tmp_path / "volume"), report, log)
    assert depot.carried < 1 << 20


def test_the_depot_gives_the_model_and_nothing_else(first: Init, depot: Depot) -> None:
    quant = first.current.quant
    (first.volume / "sources").mkdir(exist_ok=True)
    (first.volume / "sources/hub.json").write_text("{}")
    model = f"/volume/models/demo/{quant}/model.gguf"
    assert [depot.status(path) for path in ("/volume/current/manifest.json", model, "/progress/progress.json")] == [200] * 3
    closed = ["/", "/volume", "/volume/", "/volume/models/", "/volume/sources/hub.json", "/volume/current/model.gguf", "/etc/passwd"]
    closed += ["/volume/models/../sources/hub.json", "/volume/models/%2e%2e/x/model.gguf", f"/volume/models/demo/{quant}/manifest.json"]
    assert {path: depot.status(path) for path in closed} == dict.fromkeys(closed, 404)
    assert [depot.status(model, method) for method in ("POST", "PUT", "DELETE")] == [404] * 3
