"""How much memory a process may still take: the least of the host's and of what its control groups have left."""

from __future__ import annotations

import psutil
import pytest

from airflow_provider_xethub.xet.process import memory

PLENTY = 64 << 30


@pytest.fixture(autouse=True)
def large_host(monkeypatch):
    monkeypatch.setattr(psutil, "virtual_memory", lambda: type("Memory", (), {"available": PLENTY})())


def write(root, files):
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    return root


def second(folder, limit, usage, inactive=0):
    stat = f"anon 1\nfile 2\ninactive_file {inactive}\n"
    return {f"{folder}/memory.max": limit, f"{folder}/memory.current": usage, f"{folder}/memory.stat": stat}


def first(folder, limit, usage, inactive=0):
    stat = f"cache 1\ninactive_file 5\ntotal_inactive_file {inactive}\n"
    names = ("memory.limit_in_bytes", "memory.usage_in_bytes", "memory.stat")
    return dict(zip((f"{folder}/{name}" for name in names), (limit, usage, stat), strict=True))


def test_the_resident_size_is_known_on_linux_and_elsewhere(monkeypatch, tmp_path):
    here = memory.resident()
    assert 10_000_000 < here < 4_000_000_000
    monkeypatch.setattr(memory, "_STATM", tmp_path / "missing")
    assert abs(memory.resident() - here) < 50_000_000


def test_what_this_machine_says_is_understood():
    assert 0 <= memory.available() <= PLENTY


def test_without_control_groups_the_host_decides(tmp_path):
    assert memory.available(tmp_path) == PLENTY


def test_in_version_2_the_narrowest_group_decides(tmp_path):
    base = "sys/fs/cgroup"
    files = {"proc/self/cgroup": "0::/pods/one/task\n"}
    files |= second(f"{base}/pods/one/task", "max\n", "100\n")
    files |= second(f"{base}/pods/one", "2000000000\n", "1500000000\n", 300_000_000)
    files |= second(f"{base}/pods", "9000000000\n", "1500000000\n")
    assert memory.available(write(tmp_path, files)) == 800_000_000


def test_in_a_container_with_its_own_namespace_the_mounted_root_decides(tmp_path):
    files = {"proc/self/cgroup": "0::/\n"} | second("sys/fs/cgroup", "700000000\n", "200000000\n")
    assert memory.available(write(tmp_path, files)) == 500_000_000


def test_in_version_1_the_memory_controller_decides(tmp_path):
    files = {"proc/self/cgroup": "5:cpu,cpuacct:/docker/abc\n4:memory:/docker/abc\n1:name=systemd:/\n0::/docker/abc\n"}
    # Docker without a namespace of its own mounts the container's group as the root.
    files |= first("sys/fs/cgroup/memory", "1000000000\n", "900000000\n", 50_000_000)
    assert memory.available(write(tmp_path, files)) == 150_000_000


def test_a_group_of_version_1_without_a_limit_leaves_it_to_the_host(tmp_path):
    files = {"proc/self/cgroup": "4:memory:/\n"} | first("sys/fs/cgroup/memory", "9223372036854771712\n", "900000000\n")
    assert memory.available(write(tmp_path, files)) == PLENTY


def test_a_group_that_is_over_its_limit_leaves_nothing(tmp_path):
    files = {"proc/self/cgroup": "0::/\n"} | second("sys/fs/cgroup", "100\n", "200\n")
    assert memory.available(write(tmp_path, files)) == 0


@pytest.mark.parametrize("damage", ["memory.max", "memory.current", "memory.stat"])
def test_a_file_that_cannot_be_read_is_no_limit(tmp_path, damage):
    files = {"proc/self/cgroup": "0::/\n"} | second("sys/fs/cgroup", "100\n", "20\n")
    write(tmp_path, files | {f"sys/fs/cgroup/{damage}": "much"})
    assert memory.available(tmp_path) == PLENTY
