"""`distill3r doctor` tells what is there, what is not, and what follows from it."""

import json
import subprocess
import sys
from importlib import metadata

import pytest

from distill3r_core.stages.doctor import checks as doctor_checks
from distill3r_core.teachers.registry import TEACHERS


def test_a_working_machine_is_ready_and_says_so_last(cli, tmp_path):
    done = cli("doctor", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stdout.rstrip().splitlines()[-1].startswith("OK: ready for demo")
    assert not list(tmp_path.iterdir())  # the trial store is gone


def ready_for(cli_inprocess, folder) -> list[str]:
    status, out, err = cli_inprocess("doctor", "--json", cwd=folder)
    assert status == 0, err
    return json.loads(out)["result"]["ready_for"]


def test_infer_is_ready_only_where_a_model_is(cli_inprocess, tmp_path, monkeypatch):
    monkeypatch.setenv("DISTILL3R_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "hub"))
    assert not {"infer", "eval"} & set(ready_for(cli_inprocess, tmp_path))
    status, out, err = cli_inprocess("doctor", cwd=tmp_path)
    assert (status, "infer" in out.splitlines()[-1]) == (0, False)
    assert "infer and eval need a model" in " ".join(err.split())
    run = tmp_path / "runs/small-001/checkpoints/last"
    run.mkdir(parents=True)
    assert "infer" not in ready_for(cli_inprocess, tmp_path)  # a run before its first checkpoint
    (run / "model.safetensors").write_bytes(b"weights")
    assert {"infer", "eval"} <= set(ready_for(cli_inprocess, tmp_path))


def test_the_weights_of_a_teacher_are_a_model(cli_inprocess, tmp_path, monkeypatch):
    home = tmp_path / "home"
    monkeypatch.setenv("DISTILL3R_HOME", str(home))
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "hub"))
    weights = TEACHERS["fast3r"].weights
    (home / "fast3r").mkdir(parents=True)
    for file in weights.files:
        (home / "fast3r" / file).write_bytes(b"weights")
    assert {"infer", "eval", "cache (fast3r)"} <= set(ready_for(cli_inprocess, tmp_path))


def test_a_report_fits_80_columns_and_folds_what_is_optional(cli, tmp_path):
    places = {"DISTILL3R_HOME": str(tmp_path / "home"), "HF_HUB_CACHE": str(tmp_path / "hub")}
    out = cli("doctor", cwd=tmp_path, env={"COLUMNS": "80", **places}).stdout
    assert max(map(len, out.splitlines())) <= 80
    assert out.count("models download") == 1
    assert out.count("missing") <= 1 + len(doctor_checks.EXTRAS)


def test_json_is_one_object_with_every_check(cli_inprocess, tmp_path):
    status, out, _ = cli_inprocess("doctor", "--json", cwd=tmp_path)
    report = json.loads(out)
    assert status == 0
    assert report["command"] == "doctor"
    assert report["result"]["ok"] is True
    names = {check["name"] for check in report["result"]["checks"]}
    expected = {
        "Python",
        "packages",
        "torch",
        "device",
        "bf16",
        "attention kernels",
        "cache store",
        "disk",
    }
    assert expected <= names
    assert set(report["result"]) >= {"ready_for", "extras", "weights"}


def test_a_required_thing_that_fails_makes_exit_status_1(cli_inprocess, tmp_path, monkeypatch):
    monkeypatch.setattr(doctor_checks, "MIN_DISK", 1 << 70)
    status, out, _ = cli_inprocess("doctor", cwd=tmp_path)
    assert status == 1
    assert out.rstrip().splitlines()[-1] == "NOT READY: disk failed"
    status, out, _ = cli_inprocess("doctor", "--json", cwd=tmp_path)
    assert status == 1
    assert json.loads(out)["result"]["ok"] is False


@pytest.mark.parametrize("place", ["notes.txt", "notes.txt/deeper"])
def test_a_file_where_results_would_go_is_a_finding(cli_inprocess, tmp_path, place):
    (tmp_path / "notes.txt").write_text("words")
    status, out, _ = cli_inprocess("doctor", place, cwd=tmp_path)
    assert status == 1
    assert "is a file: no results can go there" in " ".join(out.split())


def test_a_missing_package_is_a_finding_with_its_command(monkeypatch):
    real = metadata.version

    def version(name: str) -> str:
        if name == "lmdb":
            raise metadata.PackageNotFoundError(name)
        return real(name)

    monkeypatch.setattr(metadata, "version", version)
    (lacking,) = [check for check in doctor_checks.packages() if check.state != "ok"]
    assert (lacking.name, lacking.state) == ("lmdb", "failed")
    assert lacking.remedy.endswith("-m pip install distill3r")


def test_a_gpu_that_torch_does_not_see_is_named(monkeypatch, tmp_path):
    driver = tmp_path / "version"
    driver.write_text("NVRM")
    monkeypatch.setattr(doctor_checks, "_NVIDIA_DRIVER", driver)
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    assert "does not see the NVIDIA GPU" in doctor_checks.torch_build().detail


def test_an_old_package_is_a_finding(monkeypatch):
    real = metadata.version
    monkeypatch.setattr(metadata, "version", lambda name: "0.9" if name == "rich" else real(name))
    (old,) = [check for check in doctor_checks.packages() if check.state != "ok"]
    assert old.detail == "rich 0.9 is older than 13.8"


def test_a_package_that_does_not_load_is_a_finding(monkeypatch):
    def refuse(name: str) -> None:
        raise ImportError(f"lib{name}.so: cannot open shared object file")

    monkeypatch.setattr(doctor_checks.importlib, "import_module", refuse)
    broken = [check for check in doctor_checks.packages() if check.state != "ok"]
    assert "torch" in {check.name for check in broken}
    assert all("does not load" in check.detail for check in broken)


@pytest.mark.parametrize(
    ("module", "package", "facts"),
    [
        ("torch", "torch", {"platform", "python", "cpu", "cores", "memory_bytes", "device"}),
        ("lmdb", "lmdb", {"platform", "python", "cpu", "cores", "memory_bytes", "device"}),
        ("psutil", "psutil", {"platform", "python"}),
        ("safetensors", "safetensors", {"platform", "python", "cpu", "cores", "memory_bytes"}),
        ("h5py", None, {"platform", "python", "cpu", "cores", "memory_bytes", "torch", "threads"}),
    ],
)
def test_the_machine_is_described_whatever_does_not_load(tmp_path, module, package, facts):
    program = (
        f"import sys; sys.modules[{module!r}] = None\n"  # as where it is not installed
        "from distill3r_cli.run import run; sys.exit(run(['doctor', '--json']))"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=False, cwd=tmp_path
    )
    found = json.loads(done.stdout)
    states = {check["name"]: check["state"] for check in found["result"]["checks"]}
    assert done.returncode == (package is not None), done.stderr
    assert states.get(package, "failed") == "failed"
    assert facts <= set(found["machine"])


def test_without_torch_its_findings_are_json_as_well(tmp_path):
    program = (
        "import sys; sys.modules['torch'] = None\n"  # as where it is not installed
        "from distill3r_cli.run import run; sys.exit(run(['doctor', '--json']))"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=False, cwd=tmp_path
    )
    assert done.returncode == 1, done.stderr
    found = json.loads(done.stdout)
    states = {check["name"]: check["state"] for check in found["result"]["checks"]}
    assert states["torch"] == "failed"
    assert found["machine"]["python"]


def test_every_extra_of_the_package_is_looked_at():
    provided = set(metadata.metadata("distill3r").get_all("Provides-Extra") or ())
    assert set(doctor_checks.EXTRAS) == provided - {"all", "dev"}
    assert {check.name for check in doctor_checks.extras()} == set(doctor_checks.EXTRAS)


@pytest.mark.parametrize("extra", list(doctor_checks.EXTRAS))
def test_an_extra_that_is_missing_is_no_failure(monkeypatch, extra):
    def nothing(name: str) -> str:
        raise metadata.PackageNotFoundError(name)

    monkeypatch.setattr(metadata, "version", nothing)
    check = next(check for check in doctor_checks.extras() if check.name == extra)
    assert check.state == "missing"
    assert check.remedy.endswith(f"-m pip install 'distill3r[{extra}]'")


def test_results_may_go_where_nothing_is_yet(tmp_path):
    check = doctor_checks.lmdb_store(tmp_path / "not" / "yet")
    assert check.state == "ok"
    assert not list(tmp_path.iterdir())


def test_weights_that_are_here_are_found_and_the_others_named(tmp_path, monkeypatch):
    monkeypatch.setenv("DISTILL3R_HOME", str(tmp_path))
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "hub"))
    before = {check.name: check for check in doctor_checks.weights()}
    assert before["dune-vits-448"].state == "missing"
    assert before["dune-vits-448"].remedy == "distill3r models download dune-vits-448"
    assert "non-commercial" in before["dune-vits-448"].detail
    file = tmp_path / "dune" / "dune_vitsmall14_448.pth"
    file.parent.mkdir()
    file.write_bytes(b"weights")
    after = {check.name: check for check in doctor_checks.weights()}
    assert after["dune-vits-448"].state == "ok"
    assert str(file) in after["dune-vits-448"].detail
    assert after["fast3r"].state == "missing"
