"""The files of a result: the same figures in all of them, and a page that stands alone."""

import csv
import re
from pathlib import Path

import pytest
from PIL import Image
from scored_room import HELD_OUT, score

from distill3r_core.evaluation.baselines import BASELINES
from distill3r_core.stages.evaluate.result_notes import result_notes


@pytest.fixture(scope="module")
def report(home, tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(home)
        return score(data=home / "rooms", output=tmp_path_factory.mktemp("result") / "out")


def _text(report, name: str) -> str:
    (path,) = (path for path in report.files if path.name == name)
    return path.read_text()


def test_all_files_are_named_and_there(report):
    names = [path.name for path in report.files]
    assert {"result.json", "report.html", "tables.md", "figures.csv"} <= set(names)
    assert {"views.png", "worst.png"} <= set(names)
    assert all(Path(path).is_file() for path in report.files)
    for name in ("views.png", "worst.png"):
        with Image.open(report.files[0].parent / name) as image:
            assert min(image.size) > 100


def test_the_csv_parses_back_to_the_figures_of_the_result(report):
    result, found = report.result, {}
    for row in csv.DictReader(_text(report, "figures.csv").splitlines()):
        assert row["protocol"] == result["protocol"]
        assert row["unit"] == result["units"][row["metric"]]
        key = row["of"], row["sequence"], row["metric"]
        assert key not in found
        found[key] = float(row["value"]) if row["value"] else None
    rows = {("tiny-001", ""): result["metrics"]}
    rows[("tiny-001, not refined", "")] = result["without_refinement"]["tiny-001"]
    rows |= {("tiny-001", one["name"]): one["metrics"] for one in result["sequences"]}
    rows |= {
        (BASELINES[name].title, ""): figures
        for name, figures in result["baselines"].items()
        if figures is not None
    }
    assert found == {
        (*of, metric): figure for of, figures in rows.items() for metric, figure in figures.items()
    }


def test_the_markdown_has_every_table_and_rule(report):
    text = _text(report, "tables.md")
    for table in (*report.tables, *report.details):
        assert f"### {table.title}\n" in text
        for row in table.rows:
            cells = (cell.replace("|", "\\|") for cell in row)  # "|log scale|" is one cell
            assert f"| {' | '.join(cells)} |\n" in text
    for name, rule in report.result["rules"].items():
        assert f"- {name}: {rule}\n" in text
    assert {"input", "mask", "refinement", "alignment"} <= report.result["rules"].keys()


def test_a_difference_without_an_interval_says_how_few_sequences_there_are(report):
    known = {**report.result["metrics"], "auc_30": None}
    sequences = report.result["sequences"]
    result = {
        **report.result,
        "models": {"a": known, "b": known},
        "model_sequences": {"a": sequences, "b": sequences},
        "differences": {"b": {"acc": {}}},
        "other_truths": [],
    }
    (note,) = (note for note in result_notes(result) if note.startswith("no interval"))
    begins = f"no interval: 1 sequence of {HELD_OUT} views, 5 of either are needed"
    assert note.startswith(f"{begins} (difference of b from a: Comp,")
    assert "Acc" not in note and "AUC" not in note  # one has an interval, the other no figure
    long = [{**one, "frames": [str(number) for number in range(6)]} for one in sequences]
    result["model_sequences"] = {"a": long, "b": long}
    (note,) = (note for note in result_notes(result) if note.startswith("no interval"))
    assert note.startswith("no interval: 1 sequence, 5 are needed of figures that have no value")
    whole = {**result, "differences": {"b": {name: {} for name in known}}}
    assert not any(note.startswith("no interval") for note in result_notes(whole))


def test_the_page_needs_nothing_else_and_names_the_worst_views(report):
    page = _text(report, "report.html")
    assert "http" not in page and "url(" not in page and "@import" not in page
    sources = re.findall(r"""(?:src|href|srcset|data)\s*=\s*["']?([^"'\s>]+)""", page)
    assert len(sources) == 2  # views and worst views
    assert all(source.startswith("data:image/png;base64,") for source in sources)
    assert page.count("<svg") == len(report.tables[0].columns) - 1  # a chart for each column
    worst = report.result["worst_views"]
    assert len(worst) == HELD_OUT
    assert all(f"<li>{view}</li>" in page for view in worst)
    errors = [float(re.search(r"Abs Rel ([0-9.]+)", view).group(1)) for view in worst]
    assert errors == sorted(errors, reverse=True)
    assert {view.split(":")[0] for view in worst} == {
        f"rooms/one {number:06d}" for number in range(5, 8)
    }
    assert report.result["rules"]["mask"] in page
