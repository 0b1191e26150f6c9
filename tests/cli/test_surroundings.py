"""What surrounds the program costs no work: full and closed streams, variables, little memory."""

import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from infer_project import make_photos
from small_caches import write_cache

from distill3r_core.errors import ConfigError
from distill3r_core.results import read_record
from distill3r_core.system.environment import check_environment

COMMAND = [sys.executable, "-m", "distill3r_cli", "cache", "info"]


@pytest.fixture(scope="module")
def cache(tmp_path_factory) -> Path:
    return write_cache(tmp_path_factory.mktemp("cache"))


def _shell(line: str, cache: Path, **variables: str) -> subprocess.CompletedProcess[str]:
    command = " ".join([*COMMAND, str(cache)])
    return subprocess.run(
        ["bash", "-c", f"{command} {line}"],
        capture_output=True, text=True, check=False, timeout=120, env={**os.environ, **variables},
    )  # fmt: skip


def test_a_full_or_closed_stderr_ends_no_work(cache):
    plain = _shell("", cache, COLUMNS="wide")
    assert plain.returncode == 0, plain.stderr
    assert "COLUMNS in the environment is 'wide'" in plain.stderr
    for line in ("2>/dev/full", "2>&- <&-"):
        done = _shell(line, cache, COLUMNS="wide")
        assert (done.returncode, done.stdout) == (0, plain.stdout), line
    assert _shell("--no-such-option 2>/dev/full", cache).returncode == 2


_WORK = {
    "infer": ("infer photos --device cpu -o made", "made/scene.ply"),
    "train": (
        "train --cache {cache} --preset tiny --device cpu --max-steps 1 -o made",
        "made/checkpoints/last/model.safetensors",
    ),
}


@pytest.mark.parametrize("streams", ["2>/dev/full", "2>&- <&-"])
@pytest.mark.parametrize("name", _WORK)
def test_long_work_goes_on_without_stderr(project, cache, name, streams):
    make_photos(project / "photos", "a.png", "b.png")
    line, made = _WORK[name]
    program = f"exec '{sys.executable}' -m distill3r_cli {line.format(cache=cache)} {streams}"
    done = subprocess.run(
        ["bash", "-c", program], capture_output=True, text=True, check=False, timeout=300,
        cwd=project,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout
    assert (project / made).stat().st_size > 1000
    assert not list((project / "made").rglob("*.partial*"))


def test_of_two_infer_with_other_settings_at_one_folder_one_is_refused(project):
    make_photos(project / "photos", "a.png", "b.png", "c.png")
    command = [sys.executable, "-m", "distill3r_cli", "infer", "photos", "-o", "made"]
    both = {
        views: subprocess.Popen(
            [*command, "--device", "cpu", "--max-views", views],
            cwd=project, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )
        for views in ("2", "3")
    }  # fmt: skip
    said = {views: process.communicate(timeout=300)[1] for views, process in both.items()}
    status = {views: process.returncode for views, process in both.items()}
    assert sorted(status.values()) == [0, 2], said
    (refused,) = (views for views in status if status[views] == 2)
    assert "made" in said[refused]
    (winner,) = status.keys() - {refused}
    record = read_record(project / "made")
    assert record is not None
    assert record["result"]["views"] == int(winner)
    assert all((project / "made" / name).stat().st_size for name in record["files"])
    assert not list((project / "made").rglob("*.partial*"))


@pytest.mark.parametrize(
    ("name", "value"),
    [("RANK", "abc"), ("WORLD_SIZE", "0"), ("LOCAL_RANK", "-1")],
)
def test_wrong_values_of_a_launcher_are_named(name, value):
    with pytest.raises(ConfigError, match=f"{name} in the environment is .*{value}"):
        check_environment({name: value})


def test_a_rank_is_below_the_number_of_processes():
    with pytest.raises(ConfigError, match="RANK in the environment is 3, and WORLD_SIZE 2"):
        check_environment({"RANK": "3", "WORLD_SIZE": "2"})
    assert check_environment({"RANK": "1", "WORLD_SIZE": "2"}) == check_environment({"RANK": "3"})


@pytest.mark.parametrize("value", ["abc", "0", "-2", "1.5", "2,x", "99999999999"])
def test_wrong_numbers_of_threads_are_named(value):
    for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS"):
        (warning,) = check_environment({name: value})
        assert warning.startswith(f"warning: {name} in the environment is '{value}'")


def test_right_values_of_the_environment_are_accepted(tmp_path):
    right = {"OMP_NUM_THREADS": "4,2", "MKL_NUM_THREADS": " 3 ", "COLUMNS": "80", "LINES": ""}
    ranks = {"RANK": "1", "WORLD_SIZE": "2", "LOCAL_RANK": "1"}
    assert check_environment({**right, **ranks, "DISTILL3R_HOME": str(tmp_path)}) == []
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match="DISTILL3R_HOME"):
        check_environment({"DISTILL3R_HOME": str(tmp_path / "file")})


def test_a_wrong_rank_ends_a_command_with_a_message(cli_inprocess, cache, monkeypatch):
    monkeypatch.setenv("RANK", "abc")
    status, _, err = cli_inprocess("cache", "info", cache, cwd=cache)
    assert status == 2
    assert "RANK in the environment is 'abc'" in err


_ABORTS = """
import os, sys
from distill3r_cli.limited import fork_under_limit
fork_under_limit(["cache"])
sys.exit(7) if sys.argv[1] == "exit" else os.abort()
"""


def _limited(kilobytes: int, *command: str | Path) -> subprocess.CompletedProcess[str]:
    line = f'ulimit -c 0; ulimit -v {kilobytes}; exec "$@"'
    return subprocess.run(
        ["bash", "-c", line, "bash", *command],
        capture_output=True, text=True, check=False, timeout=120,
    )  # fmt: skip


@pytest.mark.parametrize(("end", "status"), [("abort", 4), ("exit", 7)])
def test_a_library_that_aborts_under_a_limit_is_exit_4(end, status):
    done = _limited(4 << 20, sys.executable, "-c", _ABORTS, end)
    assert done.returncode == status, done.stderr
    assert ("the limit of address space is 4194304 kB" in done.stderr) == (status == 4)


_FULL = """
import mmap, os, resource, signal, sys, time
from distill3r_cli.limited import fork_under_limit
reports = fork_under_limit(["infer"])
pages = int(open("/proc/self/statm").read().split()[0])
left = resource.getrlimit(resource.RLIMIT_AS)[0] // mmap.PAGESIZE - pages
held = mmap.mmap(-1, left * mmap.PAGESIZE)  # not a page is left
if sys.argv[1] == "saves":
    signal.signal(signal.SIGTERM, lambda *_: (os.write(1, b"saved"), os._exit(130)))
if sys.argv[1] == "deaf":
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
if sys.argv[1] in ("for a while", "asleep"):
    time.sleep(2 if sys.argv[1] == "for a while" else 12)
    held.close()
    reports.done()
    os._exit(7)
while True:  # as CPython does where it cannot allocate what it needs to unwind an error
    pass
"""


def test_a_process_that_spins_without_a_page_of_memory_left_is_ended():
    # Told to end first, then killed; not one that sleeps or waits.
    cases = {"for ever": 4, "saves": 4, "deaf": 4, "for a while": 7, "asleep": 7}
    with ThreadPoolExecutor(len(cases)) as together:
        all_done = together.map(
            lambda case: _limited(1 << 20, sys.executable, "-c", _FULL, case), cases
        )
    for (case, status), done in zip(cases.items(), all_done, strict=True):
        assert done.returncode == status, (case, done.stderr)
        assert ("no memory left to go on" in done.stderr) == (status == 4), case
        assert (done.stdout == "saved") == (case == "saves")


_FAILS = """
import sys
from distill3r_cli import __main__, run
def work(*_, **__):
    print("half of the work")
    raise MemoryError if sys.argv.pop() == "memory" else KeyError("of a bug")
if sys.argv[1] == "cannot report":
    run.run = work
else:
    run.app = work
__main__.main()
"""


def test_a_bug_under_a_limit_is_not_told_as_one_of_memory():
    done = _limited(4 << 20, sys.executable, "-c", _FAILS, "doctor", "--debug", "bug")
    assert done.returncode == 1, done.stderr
    assert "Traceback" in done.stderr and "KeyError: 'of a bug'" in done.stderr
    assert "limit of address space" not in done.stderr


@pytest.mark.parametrize("words", [("doctor", "--debug"), ("cannot report",)])
def test_memory_that_ends_in_the_midst_of_work_is_not_told_as_one_of_loading(words):
    done = _limited(4 << 20, sys.executable, "-c", _FAILS, *words, "memory")
    assert done.returncode == 4, done.stderr
    assert "Python has run out of memory: the limit of address space" in done.stderr
    assert "library" not in done.stderr and "load" not in done.stderr
    assert ("Traceback" in done.stderr) == ("--debug" in words)
    assert "half of the work" in done.stdout


_NO_THREAD = """
import sys, threading
from distill3r_cli import run
def work(*_, **__):
    threading.stack_size(2 << 30)  # more than is left: a real refusal
    threading.Thread(target=print).start()
run.app = work
sys.exit(run.run(["doctor"]))
"""


def test_a_thread_that_the_system_refuses_is_a_limit_that_is_named():
    done = _limited(1 << 20, sys.executable, "-c", _NO_THREAD)
    assert done.returncode == 4, done.stderr
    assert "further thread" in done.stderr and "ulimit -u" in done.stderr
    assert "1048576" in done.stderr and "bug" not in done.stderr


@pytest.mark.parametrize("kilobytes", [1 << 20, 3_000_000])
def test_a_limit_too_small_to_load_torch_is_exit_4_and_named(kilobytes, tmp_path):
    # The first is refused when torch is mapped, the second when one of its libraries starts.
    program = (sys.executable, "-m", "distill3r_cli")
    done = _limited(kilobytes, *program, "train", "--cache", str(tmp_path))
    assert done.returncode == 4, done.stderr
    assert f"{kilobytes} kB" in done.stderr and "ulimit -v unlimited" in done.stderr


@pytest.mark.parametrize("kilobytes", [500_000, 800_000, 1 << 20, 1_500_000])
def test_doctor_names_a_limit_that_is_too_small_instead_of_blaming_packages(kilobytes, tmp_path):
    # Depending on the limit torch is not mapped, or OpenBLAS exits.
    done = _limited(kilobytes, sys.executable, "-m", "distill3r_cli", "doctor", str(tmp_path))
    assert done.returncode == 4, done.stderr
    assert f"{kilobytes} kB" in done.stderr and "ulimit -v unlimited" in done.stderr
    assert "NOT READY" not in done.stdout and "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("end", "status"),
    [
        ("sys.exit(1)", 4),
        ("reports.done(); sys.exit(1)", 1),
        ("reports.done(); os._exit(130)", 130),
    ],
)
def test_an_exit_that_nobody_reported_is_that_of_the_limit(end, status):
    """OpenBLAS leaves by `exit(1)` where memory is refused; the program's own 1 stays a 1."""
    program = "import os, sys; from distill3r_cli.limited import fork_under_limit"
    code = f"{program}; reports = fork_under_limit(['doctor']); {end}"
    done = _limited(4 << 20, sys.executable, "-c", code)
    assert done.returncode == status, done.stderr
    assert ("the limit of address space is 4194304 kB" in done.stderr) == (status == 4)
