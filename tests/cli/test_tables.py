"""Tables on narrow screens: nothing is lost, and no number is broken."""

import io

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from distill3r_cli.tables import as_rich_table, split_table
from distill3r_core.evaluation.baselines import BASELINES
from distill3r_core.evaluation.protocols import PROTOCOLS
from distill3r_core.evaluation.scores import metrics_of, units_of
from distill3r_core.report import Table
from distill3r_core.stages.evaluate.score_tables import shown_figure, tables

COLUMNS = ("model", "views", "size", "seconds", "min .. max", "end to end s", "of the floor")
ROWS = (
    ("student small", "2", "378x518", "0.0153", "0.0153 .. 0.0154", "0.0154", "30%"),
    ("fast3r", "128", "384x512", "0.864", "0.862 .. 0.906", "0.884", "61%"),
)
texts = st.text("abc 早[]", min_size=1, max_size=9).map(str.strip)


def text_of(table: Table, width: int) -> str:
    screen = io.StringIO()
    console = Console(file=screen, width=width)
    for number, part in enumerate(split_table(table, width)):
        console.print(as_rich_table(table, part, titled=number == 0))
    return screen.getvalue()


@given(
    st.integers(2, 7).flatmap(lambda n: st.lists(st.tuples(*[texts] * n), min_size=2, max_size=4)),
    st.integers(1, 2),
    st.integers(20, 120),
)
def test_every_column_stands_once_behind_the_keys(lines, keys, width) -> None:
    table = Table("", lines[0], tuple(lines[1:]), keys=keys)
    parts = split_table(table, width)
    every = tuple(range(len(table.columns)))
    if len(parts) > 1:
        assert all(part.columns[:keys] == every[:keys] for part in parts)
        assert sum((part.columns[keys:] for part in parts), ()) == every[keys:]
    else:
        assert parts[0].columns == every
    for part in parts:
        if None not in part.widths:
            assert (
                Console(width=width).measure(as_rich_table(table, part, titled=True)).maximum
                <= width
            )


@pytest.mark.parametrize("width", [44, 60, 80, 120])
def test_no_cell_and_no_word_of_a_heading_is_broken(width) -> None:
    shown = text_of(Table("forward", COLUMNS, ROWS, keys=2), width)
    words = {word for text in (*COLUMNS, ROWS[0][0]) for word in text.split()}
    for text in (*words, *(cell for row in ROWS for cell in row[1:])):
        assert text in shown
    assert max(map(len, shown.splitlines())) <= width


def test_long_names_give_way_before_columns_do() -> None:
    rows = (("baseline: mean depth map of the training frames", *(f"{n}.25" for n in range(8))),)
    table = Table("", ("", *("|log scale|" for _ in range(8))), rows)
    (part,) = split_table(table, 104)
    assert part.widths == (26, *[6] * 8)
    assert "baseline: mean depth map " in text_of(table, 104)


def test_a_table_that_fits_stays_whole_with_its_headings_on_one_line() -> None:
    shown = text_of(Table("forward", COLUMNS, ROWS, keys=2), 200)
    assert "end to end s" in shown
    assert len(shown.splitlines()) == 1 + 3 + len(ROWS) + 1


def test_a_part_is_filled_before_the_next_and_a_title_is_shown_once() -> None:
    table = Table("forward", COLUMNS, ROWS, keys=2)
    # The keys take 1 + 16 + 8 characters, then 10, 10 | 19, 9, 8 for the longest word or number.
    assert [len(split_table(table, width)) for width in (60, 61, 80, 81)] == [3, 2, 2, 1]
    assert text_of(table, 60).count("forward") == 1


@pytest.mark.parametrize("name", ["table2", "held-out"])
@pytest.mark.parametrize("value", [0.12345, 9.87654, 99.98765, 123.45678])
def test_the_default_tables_of_eval_fit_80_columns_with_two_models_and_all_baselines(name, value):
    protocol = PROTOCOLS[name]
    figures = dict.fromkeys((metric.name for metric in metrics_of(protocol)), value)
    models = {"small-001": figures, "small-002": figures}
    ends = {"difference": -value, "low": -value, "high": value}
    result = {
        "protocol": name,
        "data": "7scenes_kitchen",
        "grid": "112x154",
        "grids": dict.fromkeys(models, "112x154"),
        "views": 40,
        "units": units_of(protocol, "m"),
        "models": models,
        "without_refinement": models,
        "refinement": {label: {"views": 40, "aligned": 38} for label in models},
        "baselines": dict.fromkeys(BASELINES, figures),
        "published": {},
        "differences": {"small-002": dict.fromkeys(figures, ends)},
        "sequences": [],
    }
    for table in tables(result)[:2]:
        assert len(split_table(table, 80)) == 1
        shown = text_of(table, 80)
        assert max(map(len, shown.splitlines())) <= 80
    headings = tables(result)[0].columns
    assert "Acc (cm)" in headings or "fused (cm)" in headings
    names = [row[0] for row in tables(result)[0].rows]
    assert names[:2] == ["small-001, 38/40 refined", "small-001, not refined"]
    assert "COLMAP poses" in names


def test_a_large_figure_has_fewer_decimals_and_a_small_one_all_of_them() -> None:
    shown = {value: shown_figure(value, ".2f") for value in (0.004, 8.76, 119.72, 999.96, 1234.5)}
    assert list(shown.values()) == ["0.00", "8.76", "119.7", "1000", "1234"]
    assert shown_figure(-0.1234, ".3f") == "-0.12"
    assert shown_figure(0.00012, ".5f") == "0.00012"  # its own format is as wide


@pytest.mark.parametrize("prose", [True, False])
def test_what_no_part_can_hold_is_broken_where_it_must(prose) -> None:
    long = "a sentence of very many words " * 5
    table = Table("", ("", ""), (("what", long),), prose=prose)
    assert len(split_table(table, 60)) == 1
    assert text_of(table, 60).count("sentence") == 5
