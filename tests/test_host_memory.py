from __future__ import annotations

import os
from pathlib import Path

import pytest

from sharpcli.host_memory import available_memory

KIB, MIB, GIB = 2**10, 2**20, 2**30


def machine(root: Path, files: dict[str, str]) -> Path:
    """Write the files of a Linux machine with 10 GiB available, and others."""
    for name, text in {"proc/meminfo": f"MemTotal: 99 kB\nMemAvailable:   {10 * GIB // KIB} kB\n", **files}.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return root


def group(folder: str, limit: int | str, used: int, cache: int = 0) -> dict[str, str]:
    return {
        f"sys/fs/cgroup/{folder}/memory.max": f"{limit}\n",
        f"sys/fs/cgroup/{folder}/memory.current": f"{used}\n",
        f"sys/fs/cgroup/{folder}/memory.stat": f"anon 17\ninactive_file {cache}\n",
    }


def test_without_groups_it_is_what_the_system_has(tmp_path: Path):
    assert available_memory(machine(tmp_path, {})) == 10 * GIB


def test_a_container_has_what_its_limit_leaves_and_caches_are_free(tmp_path: Path):
    root = machine(tmp_path, {"proc/self/cgroup": "0::/\n", **group("", 3 * GIB, 2 * GIB, GIB)})
    assert available_memory(root) == 2 * GIB


def test_the_tightest_group_around_the_process_counts(tmp_path: Path):
    """As in a batch job: the step has no limit of its own, the job has one."""
    files = {"proc/self/cgroup": "0::/system.slice/job_7/step_0\n", **group("system.slice/job_7/step_0", "max", GIB)}
    root = machine(tmp_path, {**files, **group("system.slice/job_7", 4 * GIB, 3 * GIB), **group("other", 1, 1)})
    assert available_memory(root) == GIB


def test_a_group_beyond_its_limit_leaves_nothing(tmp_path: Path):
    assert available_memory(machine(tmp_path, {"proc/self/cgroup": "0::/a\n", **group("a", GIB, 2 * GIB)})) == 0


def test_version_1_of_control_groups(tmp_path: Path):
    base = "sys/fs/cgroup/memory/docker"
    files = {
        "proc/self/cgroup": "5:cpu,cpuacct:/docker\n4:memory:/docker\n",
        f"{base}/memory.limit_in_bytes": str(2 * GIB),
        f"{base}/memory.usage_in_bytes": str(GIB),
        f"{base}/memory.stat": f"total_inactive_file {500 * MIB}",
    }
    assert available_memory(machine(tmp_path, files)) == GIB + 500 * MIB


@pytest.mark.parametrize("text", ["", "MemAvailable:\n", "MemAvailable: much kB\n"])
def test_a_system_that_does_not_say_it(tmp_path: Path, text: str):
    (tmp_path / "proc").mkdir()
    (tmp_path / "proc/meminfo").write_text(text)
    expected = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    assert 0 < available_memory(tmp_path) <= expected


def test_this_machine_says_something():
    assert available_memory() > 0
