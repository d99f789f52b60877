"""The images: how large, what is in them, whose they are; and the linters' word on their files."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

import pytest

from tests.stack.conftest import ROOT, Stack
from tests.stack.world import TOKEN

LIMITS = {"api": 200, "init": 250, "ui": 450, "gateway": 60, "door": 60}  # MB over the base image


def inspect(stack: Stack, image: str) -> dict[str, object]:
    found: dict[str, object] = json.loads(stack.run("docker", "image", "inspect", image).stdout)[0]
    return found


@pytest.mark.parametrize("service", LIMITS)
def test_an_image_stays_small(stack: Stack, service: str) -> None:
    base = int(str(inspect(stack, stack.env["BASE_IMAGE"])["Size"]))
    size = (int(str(inspect(stack, stack.image(service))["Size"])) - base) / 1e6
    print(f"{service}: {size:.0f} MB over the base image")
    assert size <= LIMITS[service]


@pytest.mark.parametrize("service", LIMITS)
def test_an_image_is_labelled(stack: Stack, service: str) -> None:
    labels = inspect(stack, stack.image(service))["Config"]["Labels"]  # type: ignore[index]
    assert {"org.opencontainers.image.title", "org.opencontainers.image.licenses", "org.opencontainers.image.version"} <= set(labels)


@pytest.mark.parametrize("service", ["init", "api", "ui", "gateway", "door"])
def test_a_container_is_locked_down(stack: Stack, service: str) -> None:
    found = stack.inspect(service)
    host = found["HostConfig"]
    assert host["ReadonlyRootfs"] and host["CapDrop"] == ["ALL"] and "no-new-privileges:true" in host["SecurityOpt"]
    assert host["PidsLimit"] > 0 and host["Memory"] > 0 and not host["Privileged"]
    # Docker writes the names with or without the prefix, by version.
    added = {name.removeprefix("CAP_") for name in host["CapAdd"] or ()}
    assert added == ({"NET_ADMIN", "SETUID", "SETGID"} if service == "door" else set())
    assert service == "door" or found["Config"]["User"] == "10001:10001"
    assert all(not mount["RW"] for mount in found["Mounts"] if mount["Destination"].endswith("/volume")) or service == "init"


@pytest.mark.parametrize("service", ["api", "ui", "gateway", "door"])
def test_every_process_is_unprivileged_and_without_capabilities(stack: Stack, service: str) -> None:
    script = "cat /proc/[0-9]*/status | grep -E '^(Name|Pid|PPid|Uid|CapEff|CapPrm):'"
    seen = []
    for process in stack.compose("exec", "-T", "--user", "65534", service, "sh", "-c", script).stdout.split("Name:")[1:]:
        fields = dict(line.split(":\t", 1) for line in process.splitlines()[1:])
        if fields["PPid"] == "0" and fields["Pid"] != "1":
            continue  # put in from outside: this look itself, and the engine's look at the container's health
        assert fields["Uid"].split()[0] != "0" and int(fields["CapEff"], 16) == int(fields["CapPrm"], 16) == 0, process
        seen.append(fields["Pid"])
    assert "1" in seen


def test_a_token_reaches_init_and_shows_nowhere(stack: Stack) -> None:
    """The hub asked for it, so init had it; what an administrator dumps or forwards doesn't have it."""
    assert stack.run("cat", stack.env["HF_TOKEN_PATH"]).stdout == TOKEN
    dumps = [stack.compose("config").stdout, stack.compose("logs").stdout]
    for service in ("init", "api", "ui", "gateway", "door"):
        dumps.append(json.dumps(stack.inspect(service)))
        dumps.append(stack.run("docker", "history", "--no-trunc", stack.image(service)).stdout)
    for service in ("api", "ui", "gateway", "door"):
        dumps.append(stack.compose("exec", "-T", service, "env").stdout)
    assert all(dumps) and not [dump for dump in dumps if TOKEN in dump]


@pytest.mark.parametrize(("named", "inside"), [("", ""), ("var/screen.toml", "/run/secrets/screen")])
def test_compose_shows_the_screening_list_to_the_api(engine: str, named: str, inside: str) -> None:
    """By its path as it is written natively; without one there is none, and no file is needed."""
    environ = {**{k: v for k, v in os.environ.items() if not k.startswith("CLOISTER_")}, "CLOISTER_API__SCREEN": named}
    command = ["docker", "compose", "--env-file", "/dev/null", "config", "--format", "json"]
    done = subprocess.run(command, cwd=ROOT, env=environ, capture_output=True, text=True, check=True)
    resolved = json.loads(done.stdout)
    assert resolved["services"]["api"]["environment"]["CLOISTER_API__SCREEN"] == inside
    assert "screen" in [entry["source"] for entry in resolved["services"]["api"]["secrets"]]
    file = Path(resolved["secrets"]["screen"]["file"])
    assert file == (ROOT / named if named else ROOT / "docker/no-secrets/screen") and (named or file.read_bytes() == b"")


def test_hadolint_has_nothing_to_say() -> None:
    done = subprocess.run(
        ["hadolint", "--config", ROOT / "docker/hadolint.yaml", ROOT / "docker/Dockerfile"],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr


def test_compose_lint_has_nothing_to_say() -> None:
    done = subprocess.run(
        ["compose-lint", "--config", ROOT / "docker/compose-lint.yml", ROOT / "compose.yaml"],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
