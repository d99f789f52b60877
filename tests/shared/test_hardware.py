"""Counting what a container really gives, on copies of /proc and /sys as kernels write them."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from services.shared import hardware


def machine(
    root: Path, *, cores: int | None = None, cgroup: str = "0::/", files: dict[str, str] | None = None, available: int = 8_000_000
) -> Path:
    """A file tree with /proc and /sys of a machine; `cores`: CPU n belongs to core n % cores."""
    given = {"proc/self/cgroup": cgroup + "\n", "proc/meminfo": f"MemTotal: 9000000 kB\nMemAvailable: {available} kB\n", **(files or {})}
    if cores:
        for cpu in os.sched_getaffinity(0):
            given[f"sys/devices/system/cpu/cpu{cpu}/topology/physical_package_id"] = "0\n"
            given[f"sys/devices/system/cpu/cpu{cpu}/topology/core_id"] = f"{cpu % cores}\n"
    for name, text in given.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    return root


def test_without_limits_all_cpus_of_the_affinity_count(tmp_path: Path) -> None:
    threads = hardware.threads(root=machine(tmp_path))
    assert threads.count == len(os.sched_getaffinity(0)) and "CPU affinity" in threads.reason


def test_hyperthreads_do_not_count(tmp_path: Path) -> None:
    threads = hardware.threads(root=machine(tmp_path, cores=1))
    assert threads.count == 1 and "physical cores: 1" in threads.reason


@pytest.mark.parametrize(("line", "quota"), [("150000 100000", 1.5), ("50000 100000", 0.5), ("max 100000", None)])
def test_cgroup_v2_quota(tmp_path: Path, line: str, quota: float | None) -> None:
    root = machine(tmp_path, cgroup="0::/a/b", files={"sys/fs/cgroup/a/b/cpu.max": line + "\n"})
    assert hardware.cpu_quota(root) == quota
    assert hardware.threads(root=root).count == (1 if quota else len(os.sched_getaffinity(0)))


def test_the_tightest_quota_on_the_path_counts(tmp_path: Path) -> None:
    files = {
        "sys/fs/cgroup/a/cpu.max": "30000 100000\n",
        "sys/fs/cgroup/a/b/cpu.max": "200000 100000\n",
        "sys/fs/cgroup/cpu.max": "garbage\n",
    }
    root = machine(tmp_path, cgroup="0::/a/b", files=files)
    assert hardware.cpu_quota(root) == 0.3
    assert "a CPU quota of 0.3" in hardware.threads(root=root).reason


def test_cgroup_v1_quota(tmp_path: Path) -> None:
    files = {"sys/fs/cgroup/cpu/docker/x/cpu.cfs_quota_us": "100000\n", "sys/fs/cgroup/cpu/docker/x/cpu.cfs_period_us": "100000\n"}
    root = machine(tmp_path, cgroup="4:cpu,cpuacct:/docker/x\n3:memory:/docker/x", files=files)
    assert hardware.cpu_quota(root) == 1.0


def test_cgroup_v1_without_quota(tmp_path: Path) -> None:
    files = {"sys/fs/cgroup/cpu/cpu.cfs_quota_us": "-1\n", "sys/fs/cgroup/cpu/cpu.cfs_period_us": "100000\n"}
    assert hardware.cpu_quota(machine(tmp_path, cgroup="4:cpu:/", files=files)) is None


def test_a_wanted_count_is_taken(tmp_path: Path) -> None:
    assert hardware.threads(7, root=machine(tmp_path)) == hardware.Threads(7, "set by [engine] threads")


def test_affinity_is_honoured_in_a_real_process() -> None:
    cpu = min(os.sched_getaffinity(0))
    code = "from services.shared import hardware; print(hardware.threads().count)"
    done = subprocess.run(["taskset", "-c", str(cpu), sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "1"


def test_memory_is_what_the_cgroup_leaves(tmp_path: Path) -> None:
    base = "sys/fs/cgroup/a/"
    files = {base + "memory.max": "1000000\n", base + "memory.current": "900000\n", base + "memory.stat": "anon 1\ninactive_file 300000\n"}
    assert hardware.memory_available(machine(tmp_path / "v2", cgroup="0::/a", files=files)) == 400_000
    assert hardware.memory_available(machine(tmp_path / "none")) == 8_000_000 * 1024
    base = "sys/fs/cgroup/memory/a/"
    files = {
        base + "memory.limit_in_bytes": "1000000\n",
        base + "memory.usage_in_bytes": "900000\n",
        base + "memory.stat": "total_inactive_file 1\n",
    }
    assert hardware.memory_available(machine(tmp_path / "v1", cgroup="3:memory:/a", files=files)) == 100_001


def test_all_memory_is_the_tightest_limit(tmp_path: Path) -> None:
    files = {"sys/fs/cgroup/a/memory.max": "3000000\n", "sys/fs/cgroup/a/b/memory.max": "max\n"}
    assert hardware.memory(machine(tmp_path / "v2", cgroup="0::/a/b", files=files)) == 3_000_000
    files = {"sys/fs/cgroup/memory/a/memory.limit_in_bytes": "1000000\n"}
    assert hardware.memory(machine(tmp_path / "v1", cgroup="3:memory:/a", files=files)) == 1_000_000
    assert hardware.memory(machine(tmp_path / "none")) == 9_000_000 * 1024


def test_a_machine_is_what_its_parts_say(tmp_path: Path) -> None:
    root = machine(tmp_path, cores=1, cgroup="0::/a", files={"sys/fs/cgroup/a/cpu.max": "150000 100000\n"})
    assert hardware.machine(root) == hardware.Machine(len(os.sched_getaffinity(0)), 1, 1.5, 9_000_000 * 1024)


def test_disk_of_a_folder_that_is_not_there_yet(tmp_path: Path) -> None:
    assert hardware.disk_free(tmp_path / "a/b/c") == pytest.approx(shutil.disk_usage(tmp_path).free, rel=0.05)


def test_sizes_for_people() -> None:
    assert [hardware.human(n) for n in (12, 3_600, 4_500_000, 3_600_000_000, 2e12)] == ["12 B", "4 kB", "4.5 MB", "3.6 GB", "2.0 TB"]
