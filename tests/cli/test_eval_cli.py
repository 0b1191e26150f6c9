"""`distill3r eval` as a user types it."""

import json

import pytest
from posed_rooms import write_rendered_room

FIGURES = {"acc", "comp", "scale"}


@pytest.fixture(scope="module")
def rooms(tmp_path_factory):
    """An RGB-D tree of one room."""
    root = tmp_path_factory.mktemp("data") / "rooms"
    write_rendered_room(root / "one", 5, views=4, size=(56, 84))
    return root


def test_the_truth_scores_zero_from_the_command_line(cli, rooms, tmp_path):
    done = cli(
        "eval", "--data", rooms, "--predict", "truth", "--size", "28x42", "--json", cwd=tmp_path
    )
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout)["result"]
    assert result.keys() >= {
        "protocol", "grid", "metrics", "units", "baselines", "published", "sequences",
    }  # fmt: skip
    assert result["protocol"] == "table2"
    assert result["grid"] == "28x42"
    assert result["metrics"]["acc"] == pytest.approx(0, abs=1e-4)
    assert result["metrics"]["scale"] == pytest.approx(1, abs=1e-6)
    assert result["metrics"].keys() >= FIGURES
    assert result["baselines"]["constant_depth"].keys() >= FIGURES
    assert result["baselines"]["nearest_frame"] is None
    assert (tmp_path / "results/eval/truth-rooms-table2/result.json").is_file()


def test_a_person_reads_a_table_with_the_baselines(cli_inprocess, rooms, tmp_path):
    arguments = ("eval", "--data", rooms, "--predict", "constant", "--size", "28x42")
    status, out, _ = cli_inprocess(*arguments, cwd=tmp_path)
    assert status == 0
    assert "Acc (cm)" in out
    assert "constant depth" in out
    status, _, err = cli_inprocess(*arguments, cwd=tmp_path)
    assert status == 0
    assert "scored before" in err


def test_the_grid_that_nobody_named_is_said_and_recorded(cli_inprocess, rooms, tmp_path):
    arguments = ("eval", "--data", rooms, "--predict", "constant")
    status, out, err = cli_inprocess(*arguments, cwd=tmp_path)
    assert status == 0
    assert "grid 224x518" in out
    assert "on the protocol's grid, 224x518" in err
    assert "--size" in err
    record = json.loads((tmp_path / "results/eval/constant-rooms-table2/result.json").read_text())
    assert record["grid"] == "224x518"


def test_without_a_run_the_way_to_one_is_named(cli_inprocess, rooms, tmp_path):
    status, _, err = cli_inprocess("eval", "--data", rooms, cwd=tmp_path)
    assert status == 3
    assert "distill3r train" in err


@pytest.mark.parametrize(
    ("arguments", "status", "words"),
    [
        (("--predict", "guess"), 2, "predict"),
        (("--protocol", "tabel2", "--predict", "truth"), 2, "table2"),
        (("--predict", "truth", "--layout", "rgdb"), 2, "rgbd"),
        (("--predict", "truth", "--device", "cuda:99"), 3, "cuda:99"),
        (("--predict", "truth", "--set", "size=big"), 2, "size"),
        (("--predict", "truth", "--set", "sise=28x42"), 2, "sise"),
    ],
)
def test_what_does_not_fit_is_refused(cli_inprocess, rooms, tmp_path, arguments, status, words):
    found, _, err = cli_inprocess("eval", "--data", rooms, *arguments, cwd=tmp_path)
    assert found == status
    assert words in err


def test_data_that_is_not_there_is_missing(cli_inprocess, tmp_path):
    status, _, err = cli_inprocess("eval", "--data", "nowhere", "--predict", "truth", cwd=tmp_path)
    assert status == 3
    assert "nowhere" in err


def test_broken_frames_make_the_status_5(cli_inprocess, data_dir, tmp_path):
    status, out, _ = cli_inprocess(
        "eval", "--data", data_dir / "bad_7scenes", "--predict", "truth", "--size", "28x42",
        "--protocol", "held-out", "--json", cwd=tmp_path,
    )  # fmt: skip
    assert status == 5
    report = json.loads(out)
    assert report["result"]["views"] == 3  # frames 0, 12 and 15 are whole
    named = {one["item"].rpartition("frame-0000")[2][:2] for one in report["result"]["failed"]}
    # Frame 3 has no image at all.
    assert named == {"01", "02", "04", "05", "06", "07", "08", "09", "10", "11", "13", "14"}
    assert all(one["reason"] for one in report["result"]["failed"])


def test_broken_frames_that_a_protocol_does_not_take_leave_the_status_0(
    cli_inprocess, data_dir, tmp_path
):
    status, out, _ = cli_inprocess(
        "eval", "--data", data_dir / "bad_7scenes", "--predict", "truth", "--size", "28x42",
        "--json", cwd=tmp_path,
    )  # fmt: skip
    # Of the frames whose number 20 divides there is one, and it is whole.
    assert status == 0
    assert json.loads(out)["result"]["views"] == 1
