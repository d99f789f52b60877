"""What this machine, or this container, really gives a process: threads, memory, disk.

llama.cpp counts the host's cores and never looks at cgroup quotas or affinity; a container limited to 4 CPUs on a large
host then runs many times slower (ollama#17916). So the counting is done here. Knows nothing of models.
"""

from __future__ import annotations

import contextlib
import os
import resource
import shutil
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Threads:
    """How many compute threads to use, and the sentence that says why. `room`: this process may use more CPUs than that, so others
    need not take theirs from the threads."""

    count: int
    reason: str
    room: bool = False


def threads(wanted: int = 0, *, root: Path = Path("/")) -> Threads:
    """The threads to compute with: min(affinity, CPU quota rounded down, physical cores), at least 1; `wanted` > 0 is taken as it is.

    `root` is where /proc and /sys are looked for.
    """
    cpus, quota = len(os.sched_getaffinity(0)), cpu_quota(root)
    if wanted > 0:
        return Threads(wanted, "set by [engine] threads", quota is None and wanted < cpus)
    limits: list[tuple[int, str]] = [(cpus, "CPU affinity")]
    if cores := physical_cores(root):
        limits.append((cores, "physical cores"))
    if quota is not None:
        limits.append((max(1, int(quota)), f"a CPU quota of {quota:g}"))
    count, cause = min(limits, key=lambda limit: limit[0])
    others = ", ".join(f"{name}: {value}" for value, name in limits)
    return Threads(count, f"limited by {cause} ({others})", quota is None and count < cpus)


@dataclass(frozen=True)
class Machine:
    """What this process may use at most: CPUs, physical cores among them (None where /sys does not tell), CPUs that a quota allows
    (None without one), and memory in bytes."""

    cpus: int
    cores: int | None
    quota: float | None
    memory: int


def machine(root: Path = Path("/")) -> Machine:
    """The machine, or the container, as this process sees it."""
    return Machine(len(os.sched_getaffinity(0)), physical_cores(root), cpu_quota(root), memory(root))


def physical_cores(root: Path = Path("/")) -> int | None:
    """Distinct (package, core) pairs among the CPUs this process may use, or None where /sys does not tell."""
    pairs = set()
    for cpu in os.sched_getaffinity(0):
        topology = root / f"sys/devices/system/cpu/cpu{cpu}/topology"
        try:
            pairs.add(((topology / "physical_package_id").read_text(), (topology / "core_id").read_text()))
        except OSError:
            return None
    return len(pairs) or None


def cpu_quota(root: Path = Path("/")) -> float | None:
    """CPUs that the cgroup allows (v2 cpu.max on the whole path, or v1 cfs_quota/period), or None without a quota."""
    found = []
    for directory in _cgroup_path(root, "cpu"):
        try:
            if (directory / "cpu.max").exists():
                quota, period = (directory / "cpu.max").read_text().split()
            else:
                quota = (directory / "cpu.cfs_quota_us").read_text().strip()
                period = (directory / "cpu.cfs_period_us").read_text().strip()
        except (OSError, ValueError):
            continue
        if quota not in ("max", "-1"):
            found.append(int(quota) / int(period))
    return min(found, default=None)


def throttled(root: Path = Path("/")) -> float:
    """Seconds that threads of this cgroup, and of those above it, were held up by a CPU quota, since it was made; 0 without one."""
    seconds = 0.0
    for directory in _cgroup_path(root, "cpu"):
        try:
            stat = dict(line.split() for line in (directory / "cpu.stat").read_text().splitlines())
            seconds += int(stat.get("throttled_usec", 0)) / 1e6 + int(stat.get("throttled_time", 0)) / 1e9  # v2, v1
        except (OSError, ValueError):
            continue
    return seconds


def resident() -> int:
    """Resident set size of this process in bytes."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()


def memory(root: Path = Path("/")) -> int:
    """Bytes this process could use if there were no other: the machine's memory, or the tightest limit of its cgroups."""
    limits = [_meminfo(root, "MemTotal")]
    for directory in _cgroup_path(root, "memory"):
        for name in ("memory.max", "memory.limit_in_bytes"):
            with contextlib.suppress(OSError, ValueError):  # "max" is no number
                limits.append(int((directory / name).read_text()))
    return min(limits)


def memory_available(root: Path = Path("/")) -> int:
    """Bytes this process can still use without swapping: the smaller of MemAvailable and what the cgroup leaves.

    A cgroup's reclaimable page cache (inactive_file) counts as free.
    """
    available = _meminfo(root, "MemAvailable")
    for directory in _cgroup_path(root, "memory"):
        for limit_name, used_name in (("memory.max", "memory.current"), ("memory.limit_in_bytes", "memory.usage_in_bytes")):
            try:
                limit, used = (directory / limit_name).read_text().strip(), int((directory / used_name).read_text())
                stat = dict(line.split() for line in (directory / "memory.stat").read_text().splitlines())
            except (OSError, ValueError):
                continue
            if limit != "max":
                reclaimable = int(stat.get("inactive_file", stat.get("total_inactive_file", 0)))
                available = min(available, max(0, int(limit) - used + reclaimable))
    return available


def disk_free(path: Path) -> int:
    """Bytes free for this user on the file system that holds `path`, or will hold it once created."""
    while not path.exists():
        path = path.parent
    return shutil.disk_usage(path).free


def _meminfo(root: Path, name: str) -> int:
    """A line of /proc/meminfo in bytes; 0 where it is missing."""
    for line in (root / "proc/meminfo").read_text().splitlines():
        if line.startswith(f"{name}:"):
            return int(line.split()[1]) * 1024
    return 0


def _cgroup_path(root: Path, controller: str) -> list[Path]:
    """This process's cgroup directories, from its own up to the root, for v2 and for one v1 controller."""
    try:
        lines = (root / "proc/self/cgroup").read_text().splitlines()
    except OSError:
        return []
    found = []
    for line in lines:
        _, controllers, name = line.split(":", 2)
        if controllers == "":
            base = root / "sys/fs/cgroup"
        elif controller in controllers.split(","):
            base = root / "sys/fs/cgroup" / controller
        else:
            continue
        directory = base / name.lstrip("/")
        while directory != base and base in directory.parents:
            found.append(directory)
            directory = directory.parent
        found.append(base)
    return found


def human(size: float) -> str:
    """Bytes for people: `3.6 GB` (decimal units, as on disk labels)."""
    for unit in ("B", "kB", "MB", "GB"):
        if size < 1000:
            return f"{size:.0f} {unit}" if unit in ("B", "kB") else f"{size:.1f} {unit}"
        size /= 1000
    return f"{size:.1f} TB"
