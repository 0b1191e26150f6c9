"""`--plugin`: loaded before settings are read, and part of what a run and a cache are."""

import json

import pytest
import yaml
from small_caches import write_cache

from distill3r_core import plugins

TRAIN = ("train", "--preset", "tiny", "--device", "cpu", "-q")


@pytest.fixture
def project(tmp_path):
    write_cache(tmp_path / "caches" / "teacher")
    (tmp_path / "mine.py").write_text("# a plugin that registers nothing\n")
    return tmp_path


def test_a_run_is_resumed_with_the_same_plugin_only(cli_inprocess, project):
    start = (*TRAIN, "--max-steps", "1", "-o", "run")
    status, _, error = cli_inprocess(*start, "--plugin", "mine.py", cwd=project)
    assert status == 0, error
    record = json.loads((project / "run" / "run.json").read_text())
    (written,) = record["identity"]["plugins"].items()
    assert written[0] == "mine.py"
    assert len(written[1]) == 32
    again = (*start, "--resume")
    assert cli_inprocess(*again, "--plugin", "mine.py", cwd=project)[0] == 0

    status, _, error = cli_inprocess(*again, cwd=project)
    assert status == 2
    assert f"plugins.mine.py: {written[1]} → (absent)" in error

    (project / "mine.py").write_text("# another one\n")
    status, _, error = cli_inprocess(*again, "--plugin", "mine.py", cwd=project)
    assert status == 2
    assert f"plugins.mine.py: {written[1]} → " in error


def test_the_settings_of_a_run_name_its_plugins(cli_inprocess, project):
    (project / "distill3r.yaml").write_text("plugins: [mine.py]\ntrain: {max_steps: 1}\n")
    assert cli_inprocess(*TRAIN, "-o", "run", cwd=project)[0] == 0
    written = yaml.safe_load((project / "run" / "config.yaml").read_text())
    assert written["plugins"] == [str(project / "mine.py")]
    (project / "distill3r.yaml").unlink()
    status, _, error = cli_inprocess(
        "train", "--resume", "-o", "run", "--config", "run/config.yaml", cwd=project
    )
    assert status == 0, error


def test_plugins_end_with_their_command(cli_inprocess, project):
    (project / "mine.py").write_text(
        "from distill3r_core.extend import TEACHERS\nTEACHERS.add('toy', TEACHERS['synthetic'])\n"
    )
    for _ in range(2):
        status, out, _ = cli_inprocess(
            "cache", "--teacher", "toy", "--plugin", "mine.py", "--print-config", cwd=project
        )
        assert status == 0
        assert yaml.safe_load(out)["cache"]["teacher"] == "toy"
        assert plugins.hashes() == {}
    status, _, error = cli_inprocess("cache", "--teacher", "toy", "--print-config", cwd=project)
    assert status == 2
    assert "unknown teacher 'toy'" in error


def test_a_plugin_that_cannot_be_loaded_is_named_before_anything_is_done(cli_inprocess, project):
    (project / "broken.py").write_text("x = 1\nraise ValueError('no good')\n")
    status, _, error = cli_inprocess(*TRAIN, "--plugin", "broken.py", cwd=project)
    assert status == 2
    assert "cannot load the plugin broken.py, line 2: ValueError: no good" in error
    status, _, error = cli_inprocess(*TRAIN, "--plugin", "nowhere.py", cwd=project)
    assert status == 3
    assert "no plugin nowhere.py" in error
    assert not (project / "runs").exists()


def test_a_plugin_before_a_sibling_command_is_refused(cli_inprocess, project):
    status, _, error = cli_inprocess("cache", "--plugin", "mine.py", "info", cwd=project)
    assert status == 2
    assert "--plugin before 'info' would be dropped" in error
