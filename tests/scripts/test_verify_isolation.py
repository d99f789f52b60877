"""What scripts/verify-isolation leaves for the page, with a `docker` whose containers are directories here.

That the containers themselves are closed is for tests/stack, on a real engine.
"""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from services.shared import isolation
from services.shared.isolation import Container
from tests.conftest import ROOT

# `compose exec` of python3 says and returns what the test wrote for that service; of sh, it runs it in that service's directory.
DOCKER = """#!/usr/bin/env bash
[[ $1 == compose && $2 == exec ]] || exit 0
shift 3
[[ $1 == --user ]] && shift 2
cd "$STAND/$1" 2>/dev/null || exit 1
shift
if [[ $1 == python3 ]]; then cat >/dev/null; cat said; exit "$(cat code)"; fi
exec "$@"
"""


def verify(stand: Path, **said: tuple[str, int]) -> subprocess.CompletedProcess[str]:
    for service, (text, code) in said.items():
        (stand / service / "var/run").mkdir(parents=True)
        (stand / service / "said").write_text(text)
        (stand / service / "code").write_text(str(code))
    docker = stand / "bin/docker"
    docker.parent.mkdir()
    docker.write_text(DOCKER)
    docker.chmod(0o755)
    env = os.environ | {"STAND": str(stand), "PATH": f"{docker.parent}:{os.environ['PATH']}"}
    return subprocess.run([ROOT / "scripts/verify-isolation"], env=env, capture_output=True, text=True, check=False, timeout=60)


CLOSED = "abc as uid 0: 25 of 25 ways closed (Network is unreachable), 6.0 s\n"


def test_a_closed_stack(tmp_path: Path) -> None:
    done = verify(tmp_path, api=(CLOSED, 0), ui=(CLOSED, 0), gateway=(CLOSED, 0))
    assert (done.returncode, done.stdout) == (0, 3 * CLOSED), done.stderr
    assert "nothing gets out" in done.stderr
    check = isolation.read(tmp_path / "api/var/run" / isolation.NAME)
    assert check and check.containers == tuple(Container(name, 25, 25) for name in ("api", "ui", "gateway"))
    assert check.at.endswith("Z") and len(check.at) == 20


@pytest.mark.parametrize("told", [True, False])
def test_a_way_out_and_a_container_that_is_away(tmp_path: Path, told: bool) -> None:
    leak = "abc: tcp 443 1.1.1.1: OPEN, connected\nabc as uid 0: 24 of 25 ways closed (Network is unreachable), 6.0 s\n"
    done = verify(tmp_path, **{"api" if told else "ui": (leak, 1), "gateway": (CLOSED, 0)})
    assert done.returncode == 1 and "A WAY OUT IS OPEN" in done.stderr and done.stdout == leak + CLOSED
    check = isolation.read(tmp_path / "api/var/run" / isolation.NAME)
    if told:
        assert check and check.containers == (Container("api", 25, 24), Container("ui", 0, 0), Container("gateway", 25, 25))
    else:
        assert check is None and "the page can't be told" in done.stderr
