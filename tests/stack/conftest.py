"""The stack tests' ground: a Docker engine, the images, the outside world, and the whole stack running on them."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from services.init.demo import expand
from tests.conftest import ROOT, free_port
from tests.stack import bundles as making
from tests.stack import offline
from tests.stack.waiting import wait
from tests.stack.world import TOKEN, World, world

HERE = Path(__file__).parent
REPO = "someone/demo"
QUESTION = "鸡兔同笼，共有 35 个头，94 条腿，请问鸡和兔各有多少只？"
SERVICES = ("api", "ui", "gateway")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Everything here may take long, and takes the machine for itself: images are built, containers die."""
    for item in items:
        if HERE in item.path.parents:
            item.add_marker(pytest.mark.timeout(2400))
            item.add_marker(pytest.mark.alone)


@dataclass(frozen=True)
class Stack:
    """A Compose project of its own: its addresses, and the environment for docker compose and the scripts."""

    env: dict[str, str]
    page_url: str
    api_url: str

    def run(self, *command: str | Path, check: bool = True, timeout: float = 600, **more: Any) -> subprocess.CompletedProcess[str]:
        done = subprocess.run(command, cwd=ROOT, env=self.env, text=True, capture_output=True, timeout=timeout, check=False, **more)
        assert not check or done.returncode == 0, f"{command}: {done.returncode}\n{done.stdout}\n{done.stderr}"
        return done

    def compose(self, *command: str, **more: Any) -> subprocess.CompletedProcess[str]:
        return self.run("docker", "compose", *command, **more)

    def container(self, service: str) -> str:
        """The id of a service's container."""
        return self.compose("ps", "--all", "--quiet", service).stdout.strip()

    def inspect(self, service: str) -> dict[str, Any]:
        found: list[dict[str, Any]] = json.loads(self.run("docker", "inspect", self.container(service)).stdout)
        return found[0]

    def image(self, service: str) -> str:
        return f"cloister-{service}:{self.env['CLOISTER_TAG']}"

    def ready(self, within: float = 300) -> None:
        """Wait until a model answers behind the gateway's port."""
        wait(lambda: get(f"{self.api_url}/readyz")[0] == 200, within, lambda: self.compose("logs", "--tail", "40").stdout)


def get(url: str, *, body: Any = None, headers: dict[str, str] | None = None, timeout: float = 120) -> tuple[int, bytes]:
    """Status and body; status 0 when nobody answers."""
    data = json.dumps(body).encode() if body is not None else None
    request = urllib.request.Request(url, data, {"Content-Type": "application/json", **(headers or {})})
    try:
        with urllib.request.urlopen(request, timeout=timeout) as response:
            return response.status, response.read()
    except urllib.error.HTTPError as error:
        return error.code, error.read()
    except OSError:
        return 0, b""


def ask(url: str, question: str = QUESTION, **fields: Any) -> dict[str, Any]:
    """The message that the model answers, thinking apart."""
    status, body = get(f"{url}/v1/chat/completions", body={"messages": [{"role": "user", "content": question}], **fields})
    assert status == 200, body
    message: dict[str, Any] = json.loads(body)["choices"][0]["message"]
    return message


def succeeds(*command: str | Path, timeout: float = 120) -> bool:
    return subprocess.run(command, capture_output=True, timeout=timeout, check=False).returncode == 0


@pytest.fixture(scope="session")
def engine() -> str:
    """A Docker engine with Compose; the image to build from. What is missing is brought up where CI runs, else it is a skip."""
    bare, ours = "debian:bookworm-slim", "cloister-base:bookworm"
    wanted = os.environ.get("BASE_IMAGE")
    if not (shutil.which("docker") and succeeds("docker", "compose", "version") and succeeds("docker", "info")):
        if os.environ.get("CI") != "true":
            pytest.skip("no Docker engine answers; with CI=true it is brought up, and without one that is a failure")
    elif wanted or succeeds("docker", "image", "inspect", ours):
        return wanted or ours
    elif succeeds("docker", "image", "inspect", bare) or succeeds("docker", "pull", bare, timeout=300):
        return bare
    done = subprocess.run([HERE / "engine", "up"], text=True, capture_output=True, timeout=900, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return wanted or ours


@pytest.fixture(scope="session")
def outside(engine: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """The outside world, with the demo model on its hub."""
    if os.geteuid() != 0:
        assert os.environ.get("CI") != "true", "the outside world needs root"
        pytest.skip("the outside world is a network namespace: that needs root")
    folder = tmp_path_factory.mktemp("world")
    expand.expand(folder / "demo")
    with world(folder, {REPO: folder / "demo"}) as there:
        yield there


def project(name: str, base_image: str, token: Path, endpoint: str) -> Stack:
    """A Compose project with ports of its own, whose model comes from that hub with the token in that file; not started."""
    page, api = free_port(), free_port()
    clean = {k: v for k, v in os.environ.items() if not k.startswith(("CLOISTER_", "HF_", "SSL_")) and not k.lower().endswith("_proxy")}
    settings = {
        "BASE_IMAGE": base_image,
        "CLOISTER_PROJECT": name,
        "CLOISTER_TAG": "test",
        "CLOISTER_UI__PORT": str(page),
        "CLOISTER_API__PORT": str(api),
        "CLOISTER_MODEL__NAME": REPO,
        "CLOISTER_MODEL__FALLBACK": "none",
        "HF_ENDPOINT": endpoint,
        "HF_TOKEN_PATH": str(token),
    }
    return Stack(clean | settings, f"http://127.0.0.1:{page}", f"http://127.0.0.1:{api}")


@pytest.fixture(scope="session")
def token(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The file with the token that the outside world's hub asks for."""
    file = tmp_path_factory.mktemp("secret") / "hf_token"
    file.write_text(TOKEN)
    return file


@pytest.fixture(scope="session")
def stack(engine: str, outside: World, token: Path) -> Iterator[Stack]:
    """The stack, started by scripts/up with a model of the outside world's hub; every test leaves it running."""
    running = project("cloister-test", engine, token, outside.endpoint)
    running.compose("down", "--volumes", "--timeout", "5")
    running.run(ROOT / "scripts/up", "--docker", "--detach", timeout=2400)
    yield running
    running.compose("down", "--volumes", "--timeout", "5")


@pytest.fixture(scope="session")
def bundles(stack: Stack, tmp_path_factory: pytest.TempPathFactory) -> Iterator[making.Bundles]:
    """Bundles of what the stack runs, made once."""
    folder = tmp_path_factory.mktemp("bundles")
    yield making.make(folder, stack.env)
    shutil.rmtree(folder)


@pytest.fixture(scope="session")
def machine(outside: World, tmp_path_factory: pytest.TempPathFactory) -> Iterator[offline.Machine]:
    """A machine with an engine and without a network."""
    with offline.machine(tmp_path_factory.mktemp("off")) as there:
        yield there


@pytest.fixture(scope="session")
def installed(bundles: making.Bundles, machine: offline.Machine) -> making.Installed:
    """The bundle installed on it from its parts, at the second go: the first one was cut."""
    return making.install(bundles, machine)
