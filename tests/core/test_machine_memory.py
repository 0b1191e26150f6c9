"""What a process may still take is what the tightest group around it leaves."""

import resource
import subprocess
import sys

import psutil
import pytest

from distill3r_core.system import machine_memory
from distill3r_core.system.machine_memory import available_memory

GIB = 2**30
FILES = {
    1: ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"),
    2: ("memory.max", "memory.current", "inactive_file"),
}


@pytest.fixture
def groups(tmp_path, monkeypatch):
    """Make this process believe that it is in the group `/job/step`, of a version."""

    def make(version, limits):
        root = tmp_path / "cgroup"
        mount, line = (root / "memory", "4:memory:") if version == 1 else (root, "0::")
        (tmp_path / "self").write_text(f"1:cpu,cpuacct:/\n{line}/job/step\n")
        for place, (limit, used, droppable) in limits.items():
            folder = mount / place
            folder.mkdir(parents=True, exist_ok=True)
            texts = (f"{limit}\n", f"{used}\n", f"anon 5\n{FILES[version][2]} {droppable}\n")
            for name, text in zip((*FILES[version][:2], "memory.stat"), texts, strict=True):
                (folder / name).write_text(text)
        monkeypatch.setattr(machine_memory, "_CONTROL_GROUPS", root)
        monkeypatch.setattr(machine_memory, "_MEMBERSHIP", tmp_path / "self")

    return make


@pytest.mark.parametrize("version", [1, 2])
@pytest.mark.parametrize("tightest", ["", "job", "job/step"])
def test_the_tightest_group_on_the_way_up_counts(groups, version, tightest):
    wide = (500 * GIB, GIB, 0)
    groups(version, {"": wide, "job": wide, "job/step": wide, tightest: (5000, 1000, 0)})
    assert available_memory() == 4000


@pytest.mark.parametrize("version", [1, 2])
def test_files_that_were_read_do_not_count_as_taken(groups, version):
    groups(version, {"job": (5000, 4900, 3000)})
    assert available_memory() == 3100


def test_without_a_limit_it_is_what_the_machine_has(groups):
    groups(2, {"job/step": ("max", 5000, 0)})
    assert available_memory() == pytest.approx(psutil.virtual_memory().available, abs=GIB)
    groups(1, {"job/step": (2**63 - 4096, 5000, 0)})
    assert available_memory() == pytest.approx(psutil.virtual_memory().available, abs=GIB)


def test_a_group_that_is_full_leaves_nothing(groups):
    groups(2, {"job": (5000, 6000, 0)})
    assert available_memory() == 0


def test_a_machine_without_control_groups_has_what_it_has(monkeypatch, tmp_path):
    monkeypatch.setattr(machine_memory, "_MEMBERSHIP", tmp_path / "nothing")
    assert 0 < available_memory() <= psutil.virtual_memory().total


@pytest.mark.parametrize("which", [resource.RLIMIT_AS, resource.RLIMIT_DATA])
def test_a_limit_of_the_process_counts(which):
    limit = 4 * GIB

    def confine():
        resource.setrlimit(which, (limit, limit))

    module = "distill3r_core.system.machine_memory"
    show = f"from {module} import available_memory; print(available_memory())"
    found = subprocess.run(
        [sys.executable, "-c", show], preexec_fn=confine, capture_output=True, check=True
    )
    assert limit / 2 < int(found.stdout) < limit
