"""One image for every x86-64: on a processor without AVX, which qemu plays, it loads and answers."""

from __future__ import annotations

import platform
import shutil

import pytest

from tests.stack.conftest import Stack

# The floor is x86-64-v2 (SSE4.2), by numpy's own wheels.
OLD = "Nehalem"
PROGRAM = """
import llama_cpp
from services.shared import backend
print("variant", backend.load(llama_cpp))
model = llama_cpp.Llama("/opt/cloister/var/volume/current/model.gguf", n_ctx=128, n_batch=32, n_threads=1, verbose=False)
print("answer", repr(model("1+1=", max_tokens=4)["choices"][0]["text"]))
"""


@pytest.mark.skipif(platform.machine() != "x86_64", reason="qemu plays an old x86-64 here")
def test_an_old_cpu_gets_an_answer_and_no_illegal_instruction(stack: Stack) -> None:
    qemu = shutil.which("qemu-x86_64-static")
    assert qemu, "scripts/test installs qemu-user-static"
    volumes = ["--volume", f"{qemu}:/qemu:ro", "--volume", f"{stack.env['CLOISTER_PROJECT']}_model:/opt/cloister/var/volume:ro"]
    old = ["/qemu", "-cpu", OLD, "/usr/bin/python3"]
    site = stack.compose(
        "exec", "-T", "api", "python3", "-c", "import numpy, pathlib; print(pathlib.Path(numpy.__file__).parents[1])"
    ).stdout.strip()
    # The virtual environment is found by its own interpreter's path, which qemu does not hand on.
    command = ["docker", "run", "--rm", "--network", "none", *volumes, "--env", f"PYTHONPATH={site}"]
    done = stack.run(*command, "--entrypoint", old[0], stack.image("api"), *old[1:], "-c", PROGRAM, check=False, timeout=900)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "variant sse42" in done.stdout and "answer" in done.stdout
