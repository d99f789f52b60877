"""What the CPU can do, which code of llama.cpp was chosen for it, and how many threads compute and why."""

from __future__ import annotations

import re
from pathlib import Path

from scripts.diagnosis.finding import Finding, Notes
from scripts.diagnosis.scene import Scene

# What llama.cpp has code for, as /proc/cpuinfo writes it, x86 and Arm.
USEFUL = ("sse4_2", "avx", "f16c", "fma", "avx2", "avx_vnni", "avx512f", "avx512bw", "avx512_vnni", "avx512_bf16", "amx_int8", "amx_tile")
USEFUL_ARM = ("asimd", "fphp", "asimdhp", "asimddp", "i8mm", "bf16", "sve", "sve2", "sme")
FAST = ({"avx2", "fma"}, {"asimddp"})  # either of them makes a CPU that was made in the last ten years
OLD = ("x64", "sse42", "none")  # variants of llama.cpp that compute without AVX
HELD_UP = 0.02  # share of the computing time for which a quota may stop the threads


def examine(scene: Scene) -> list[Finding]:
    notes = Notes("cpu")
    name, flags = processor(scene.root)
    useful = [flag for flag in (*USEFUL, *USEFUL_ARM) if flag in flags]
    if not flags:
        notes.skip("/proc/cpuinfo does not tell what this CPU can do")
    elif any(fast <= flags for fast in FAST):
        notes.ok(f"{name}: {' '.join(useful)}")
    else:
        notes.warn(
            f"{name}: neither AVX2 nor Arm's dot products, so answers are several times slower ({' '.join(useful) or 'no useful flags'})",
            "in a virtual machine, pass the host's CPU through (QEMU: -cpu host); else take a small model at q4_0",
        )
    _variant(scene, flags, notes)
    _threads(scene, notes)
    return notes.all


def processor(root: Path = Path("/")) -> tuple[str, set[str]]:
    """The CPU's name and its flags."""
    try:
        text = (root / "proc/cpuinfo").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return "a CPU", set()
    name = re.search(r"^model name\s*: (.+)$", text, re.MULTILINE)
    flags = re.search(r"^(?:flags|Features)\s*: (.+)$", text, re.MULTILINE)
    return (name[1].strip() if name else "a CPU"), set(flags[1].split()) if flags else set()


def _variant(scene: Scene, flags: set[str], notes: Notes) -> None:
    """What the running engine says, or what the library would choose."""
    tried = scene.part("tokenizer") if scene.facts.at("manifest") else None
    if tried and tried.text("crash") == "SIGILL":
        notes.bad(
            "llama.cpp in .venv was compiled for another CPU: it dies of an illegal instruction",
            "remove .venv and run scripts/up, which compiles it for this one",
        )
        return
    chosen = scene.status.text("engine", "variant") or (tried.text("variant") if tried else "")
    if not chosen:
        return
    if chosen in OLD and "avx2" in flags:
        notes.bad(f"llama.cpp computes with its variant {chosen}, though this CPU has AVX2", "build the images again: scripts/up --docker")
    elif chosen in OLD:
        notes.warn(f"llama.cpp computes with its variant {chosen}, the slowest", "as above: a CPU with AVX2")
    else:
        notes.ok("llama.cpp is compiled for this very CPU" if chosen == "native" else f"llama.cpp computes with its variant {chosen}")


def _threads(scene: Scene, notes: Notes) -> None:
    facts, engine = scene.facts, scene.status.at("engine")
    machine = facts.at("machine")
    cpus, cores, quota = machine.number("cpus"), machine.number("cores"), machine.number("quota")
    count = int(engine.number("threads") or facts.number("threads") or 0)
    if not cpus or not count:
        notes.skip("how many CPUs there are could not be found out")
        return
    of = f"{count} threads; {engine.text('threads_reason') or facts.text('threads_reason')}"
    most = min(number for number in (cpus, cores, quota and max(1, int(quota))) if number)
    if count > most:
        limit = f"a CPU quota of {quota:g}" if quota and most == max(1, int(quota)) else f"{int(most)} physical cores"
        notes.bad(f"{count} threads compute on {limit}: they wait for each other, which makes answers slow", "CLOISTER_ENGINE__THREADS=0")
    elif quota is not None and quota < (cores or cpus):
        notes.warn(of, "answers get faster with more CPUs for the container or service (Docker: CLOISTER_API_CPUS)")
    elif count < most:
        notes.warn(f"{of}, while {int(most)} could compute", "CLOISTER_ENGINE__THREADS=0, unless the others are for something else")
    else:
        notes.ok(of)
    now = int(engine.number("threads_now") or count)
    if now < count:
        notes.warn(f"{now} of {count} threads compute now, because other programs take the CPUs", "end what else computes on this machine")
    held, worked = engine.number("throttled_seconds") or 0.0, engine.number("step_seconds") or 0.0
    if held > HELD_UP * worked and held > 1:
        notes.warn(
            f"a CPU quota has held threads up for {held:.0f} s, while the engine computed for {worked:.0f} s",
            "give the container more CPUs (CLOISTER_API_CPUS), or set fewer threads",
        )
