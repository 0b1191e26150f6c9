"""`distill3r bench` as a user types it."""

import json

import pytest


def test_a_benchmark_is_run_and_reported(cli, tmp_path):
    (tmp_path / "distill3r.yaml").write_text("bench: {preset: tiny, size: 28x42, budget: 60}\n")
    done = cli("bench", "--views", "2..4..2", "--json", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    rows = found["result"]["rows"]
    assert [(row["model"], row["views"]) for row in rows] == [("student", 2), ("student", 4)]
    assert all(row["status"] in ("measured", "skipped, estimated") for row in rows)
    assert found["result"]["ratios"] == []
    assert found["settings"]["preset"] == "tiny"
    assert {path.rpartition("/")[2] for path in found["files"]} == {
        "bench.png", "run.json",
    }  # fmt: skip
    assert (tmp_path / "results/bench/tiny-001/bench.png").is_file()


def test_no_budget_gives_estimates_and_status_0(cli_inprocess, tmp_path):
    status, out, _ = cli_inprocess(
        "bench", "--views", "12..128", "--budget", "0.01", "--device", "cpu", cwd=tmp_path
    )
    assert status == 0
    assert out.count("skipped, estimated") == 5


@pytest.mark.parametrize(
    ("arguments", "status", "words"),
    [
        (("--views", "2..8"), 2, "2..8..2"),
        (("--views", "many"), 2, "12..128"),
        (("--size", "100x100"), 2, "98x98"),
        (("--preset", "papre"), 2, "paper"),
        (("--compare", "fast4r"), 2, "fast3r"),
        (("--precision", "int8"), 2, "precision"),
        (("--budget", "-3"), 2, "budget"),
        (("-m", "nowhere"), 3, "nowhere"),
        (("--device", "cuda:99"), 3, "cuda:99"),
        (("stray",), 2, "stray"),
    ],
)
def test_what_does_not_fit_is_refused(cli_inprocess, tmp_path, arguments, status, words):
    found, _, err = cli_inprocess("bench", *arguments, cwd=tmp_path)
    assert found == status
    assert words in err


def test_an_option_before_a_siblings_name_is_not_dropped(cli_inprocess, tmp_path):
    status, _, err = cli_inprocess("bench", "--views", "2", "cache", "--frames", "x", cwd=tmp_path)
    assert status == 2
    assert "--views" in err


def test_help_names_the_siblings(cli_inprocess, tmp_path):
    status, out, _ = cli_inprocess("bench", "--help", cwd=tmp_path)
    assert status == 0
    assert "cache" in out
