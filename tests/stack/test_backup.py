"""scripts/backup and scripts/restore beside the running stack: the gateway's TLS authority, which browsers trust, comes back."""

from __future__ import annotations

import subprocess
from pathlib import Path

from tests.stack import bundles
from tests.stack.conftest import Stack

VOLUME = "/opt/cloister/var/gateway"  # an empty volume takes over the owner of where it is mounted


def test_the_authority_comes_back_into_its_volume(stack: Stack, tmp_path: Path) -> None:
    top = bundles.later(tmp_path / "top")  # a checkout of its own: this one's secrets are left alone
    project, image = stack.env["CLOISTER_PROJECT"], stack.image("gateway")

    def gateway(program: str) -> str:
        mounted = ["--volume", f"{project}_gateway:{VOLUME}", "--workdir", VOLUME]
        return stack.run("docker", "run", "--rm", "--network", "none", *mounted, "--entrypoint", "sh", image, "-c", program).stdout

    def run(script: str, *arguments: str | Path) -> str:
        command = ["sh", f"scripts/{script}", *arguments]
        done = subprocess.run(command, cwd=top, env=stack.env, text=True, capture_output=True, check=False)
        assert done.returncode == 0, done.stderr
        return done.stderr

    place = "caddy/pki/authorities/local"
    gateway(f"mkdir -p {place} && echo certificate >{place}/root.crt && echo secret >{place}/root.key && chmod 600 {place}/root.key")
    before = gateway("find . -type f | sort | xargs ls -ln")
    assert "root.key" in before
    subprocess.run(["scripts/keys"], cwd=top, env=stack.env, check=True, capture_output=True)
    keys = (top / "var/secrets/api_keys").read_text()
    assert "the gateway's TLS authority" in run("backup", tmp_path / "b.tar")
    gateway("rm -rf caddy")
    (top / "var/secrets/api_keys").write_text("")
    assert "no place here" not in run("restore", tmp_path / "b.tar")
    assert (top / "var/secrets/api_keys").read_text() == keys
    assert gateway(f"cat {place}/root.crt {place}/root.key") == "certificate\nsecret\n"
    lines = [line.split() for line in gateway("find . -type f | sort | xargs ls -ln").splitlines()]
    kept = [line.split() for line in before.splitlines()]
    gateway("rm -rf caddy")  # no authority: the gateway's own tests let it make one
    assert [(line[0], line[2], line[-1]) for line in lines] == [(line[0], line[2], line[-1]) for line in kept], "modes or owners changed"
