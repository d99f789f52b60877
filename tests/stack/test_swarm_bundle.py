"""A bundle on a swarm of two machines without a network: ./install on each of them, and no image goes from one to the other."""

from __future__ import annotations

import re
import shutil
import subprocess
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.stack import dockerd
from tests.stack.bundles import ASK, SHELLS, Bundles, release, signed
from tests.stack.conftest import QUESTION
from tests.stack.nodes import Node, nodes
from tests.stack.waiting import wait

NAMES = ("clsb1", "clsb2")
SERVERS = "import urllib.request as u; print(u.urlopen('http://127.0.0.1:2020/stats;csv', timeout=5).read().decode())"


@dataclass(frozen=True)
class Place:
    """A machine and the folder that the bundle was unpacked to there."""

    node: Node
    folder: Path

    def run(self, *command: str, fails: bool = False) -> str:
        """What a command in the folder says, with the environment that somebody has who has just logged in."""
        enter = dockerd.entering(self.node.name)
        environment = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "DOCKER_HOST": self.node.host}
        done = subprocess.run(
            [*enter, *command], cwd=self.folder, env=environment, text=True, capture_output=True, timeout=900, check=False
        )
        assert (done.returncode != 0) == fails, done.stdout + done.stderr
        return done.stdout + done.stderr

    def runs(self, service: str) -> str:
        """The id of the service's running container here, empty without one."""
        return self.node.docker("ps", "--quiet", "--filter", f"label=com.docker.swarm.service.name=cloister_{service}").strip()

    def release(self) -> str:
        """The one whose image the API here runs."""
        image = self.node.docker("inspect", "--format", "{{.Image}}", self.runs("api")).strip()
        tags = self.node.docker("image", "inspect", "--format", '{{join .RepoTags " "}}', image).split()
        return next(tag.partition(":")[2] for tag in tags if tag.startswith("cloister-api:"))


@pytest.fixture(scope="module")
def places(bundles: Bundles, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Place, Place]]:
    home = tmp_path_factory.mktemp("swarm-bundle")
    first = bundles.unpack(bundles.file, home / "first")
    second = home / "second"
    subprocess.run(["cp", "-al", first, second], check=True)
    with nodes(home / "nodes", NAMES) as (one, two):
        for node in (one, two):
            node.inside("ip", "route", "delete", "default")
        yield Place(one, first), Place(two, second)
    shutil.rmtree(home)


@pytest.fixture(scope="module")
def installed(places: tuple[Place, Place], bundles: Bundles) -> tuple[str, str]:
    """What ./install says on both machines."""
    first, second = places
    signer = ["--fingerprint", bundles.fingerprint]
    with ThreadPoolExecutor() as both:
        one = both.submit(first.run, *SHELLS[0], "./install", *signer, "--swarm", first.node.address, "--plain")
        two = both.submit(second.run, *SHELLS[1], "./install", *signer, "--node")
        return one.result(), two.result()


def api_key(installed: tuple[str, str]) -> str:
    return installed[0].split("API key of first, shown only now:")[1].split()[0]


@pytest.fixture(scope="module")
def newer(places: tuple[Place, Place], bundles: Bundles) -> Path:
    return bundles.unpack(bundles.newer, places[0].folder.parent / "newer")


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (["--swarm", "10.0.0.1", "--node"], "take one of them"),
        (["--swarm", "10.0.0.1", "--native"], "a swarm is one of Docker engines"),
        (["--node", "--upgrade", "/x"], "--upgrade sees by itself how Cloister runs in /x"),
        (["--node", "--bind", "0.0.0.0"], "leave --bind away"),
        (["--plain"], "--plain goes with --swarm alone"),
        (["--swarm", "node1"], "--swarm needs the address by which the other machines reach this one"),
        (["--swarm"], "--swarm needs a value"),
    ],
)
def test_what_does_not_go_together_is_refused(places: tuple[Place, Place], options: list[str], sentence: str) -> None:
    for shell in SHELLS:
        assert sentence in places[0].run(*shell, "./install", *options, fails=True)


def test_a_bundle_for_one_machine_is_refused(places: tuple[Place, Place], bundles: Bundles, newer: Path) -> None:
    place = Place(places[0].node, Path(shutil.copytree(newer, newer.parent / "single")))
    about = (place.folder / "RELEASE").read_text()
    (place.folder / "RELEASE").write_text(re.sub(r"^swarm=.*\n", "", about, flags=re.MULTILINE))
    signed(place.folder, bundles.key)
    assert "make one by scripts/bundle --swarm" in place.run("sh", "./install", "--node", fails=True)


def test_an_install_that_was_cut_is_taken_back(places: tuple[Place, Place]) -> None:
    """What it had begun: the swarm, a volume and a secret of the stack, keys. Something else of that name ends the next one early."""
    place, label = places[0], "com.docker.stack.namespace=cloister"
    place.node.docker("swarm", "init", "--advertise-addr", place.node.address)
    place.node.docker("volume", "create", "--label", label, "cloister_model")
    place.node.docker("service", "create", "--detach", "--no-resolve-image", "--label", label, "--name", "cloister_api", "nobody:1")
    place.node.docker("volume", "create", "--label", "com.docker.compose.project=cloister", "theirs")
    (place.folder / "var").mkdir()
    (place.folder / ".installing").write_text("project cloister\nswarm begun\n")
    said = place.run("sh", "./install", "--swarm", place.node.address, fails=True)
    assert "taking back what was done" in said and "a Cloister named cloister is here already" in said
    assert place.node.docker("info", "--format", "{{.Swarm.LocalNodeState}}") == "inactive\n"
    assert place.node.docker("volume", "ls", "--quiet") == "theirs\n"
    assert not (place.folder / "var").exists() and not (place.folder / ".installing").exists()
    place.node.docker("volume", "rm", "theirs")


def test_both_machines_answer_and_no_image_was_sent(places: tuple[Place, Place], installed: tuple[str, str]) -> None:
    (first, second), (one, two) = places, installed
    assert "23" in one and f"http://{first.node.address}:8000" in one
    assert "scripts/swarm join ssh://" in two and "scripts/swarm take" in two
    assert second.node.docker("ps", "--all", "--quiet") == "", "nothing was started there"
    said = first.run("scripts/swarm", "join", second.node.host)
    assert "images to" not in said and "is in" in said

    def up() -> bool:
        balancer = first.runs("balancer")
        said = first.node.docker("exec", balancer, "python3", "-c", SERVERS, check=False)
        rows = [line.split(",") for line in said.splitlines() if line.startswith("any,a")]
        return sum(row[17] == "UP" for row in rows) == 2

    wait(up, 300, lambda: first.run("scripts/swarm", "status"))
    assert second.runs("api")
    answer = first.node.inside("python3", "-c", ASK, api_key(installed), QUESTION)
    assert "23" in answer and "12" in answer


def test_another_release_comes_and_goes_while_it_is_asked(
    places: tuple[Place, Place], installed: tuple[str, str], bundles: Bundles, newer: Path
) -> None:
    """Every machine has what is new before the first one replaces anything."""
    first, second = places
    key, old, new = api_key(installed), release(first.folder), release(newer)
    assert "is of a swarm already" in Place(second.node, newer).run(*SHELLS[1], "./install", "--node")
    ended = threading.Event()

    def asks() -> list[str]:
        heard = []
        while not ended.is_set():
            heard.append(first.node.inside("python3", "-c", ASK, key, QUESTION))
        return heard

    with ThreadPoolExecutor() as beside:
        asking = beside.submit(asks)
        try:
            said = Place(first.node, newer).run(*SHELLS[0], "./install", "--upgrade", str(first.folder))
            assert f"{old} -> {new}" in said and "images to" not in said
            assert {place.release() for place in places} == {new} == {release(first.folder)}
            first.run(*SHELLS[1], "scripts/rollback")
            assert {place.release() for place in places} == {old} == {release(first.folder)}
        finally:
            ended.set()
        answers = asking.result()
    assert len(answers) > 2 and all("23" in answer and "12" in answer for answer in answers)


def test_a_second_one_of_the_same_name_is_not_made(places: tuple[Place, Place], installed: tuple[str, str]) -> None:
    first, second = places
    (first.folder / ".env").rename(first.folder.parent / "env")
    assert "a Cloister named cloister is here already" in first.run("sh", "./install", "--swarm", first.node.address, fails=True)
    (first.folder.parent / "env").rename(first.folder / ".env")
    assert "this machine is a worker of a swarm" in second.run("sh", "./install", "--swarm", second.node.address, fails=True)


def test_who_has_not_joined_is_not_taken_in(places: tuple[Place, Place], installed: tuple[str, str]) -> None:
    assert "no machine nobody has joined" in places[0].run("scripts/swarm", "take", "nobody", fails=True)
