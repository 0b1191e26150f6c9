"""What is held out, by scene and inside scenes."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from distill3r_core.data.splits import SceneFrames, choose, hashed_split, held_out, split_dataset
from distill3r_core.errors import ConfigError


def parts(count: int, frames: int = 10) -> list[SceneFrames]:
    return [SceneFrames(f"data/scene{number}", frames) for number in range(count)]


def test_scenes_are_held_out_whole() -> None:
    decision = split_dataset(parts(200), val_scenes=0.1)
    sides = [set(splits) for splits in decision.splits]
    assert all(len(side) == 1 for side in sides)
    assert 8 <= sides.count({"val"}) <= 35
    assert decision.notes == ()


def test_the_choice_does_not_depend_on_the_other_scenes() -> None:
    many = dict(zip(range(200), split_dataset(parts(200), val_scenes=0.3).splits, strict=True))
    few = split_dataset(parts(50), val_scenes=0.3).splits
    assert [many[number] for number in range(50)] == list(few)


@given(st.text(), st.floats(0, 1), st.floats(0, 1))
def test_a_larger_fraction_only_adds_scenes(name, one, other) -> None:
    low, high = sorted((one, other))
    if hashed_split(name, low) == "val":
        assert hashed_split(name, high) == "val"


@pytest.mark.parametrize("val_scenes", [1e-9, 1.0])  # nothing held out, and everything
def test_an_empty_side_is_filled_from_inside_the_scenes(val_scenes) -> None:
    decision = split_dataset(
        [SceneFrames("a", 140), SceneFrames("b", 11), SceneFrames("c", 3)], val_scenes=val_scenes
    )
    assert decision.splits[0] == ("train",) * 126 + ("val",) * 14
    assert decision.splits[1] == ("train",) * 9 + ("val",) * 2
    assert decision.splits[2] == ("train",) * 3
    assert "last 10 %" in decision.notes[0]


def test_scenes_too_small_to_cut_leave_no_validation_and_say_so() -> None:
    decision = split_dataset([SceneFrames("a", 3)], val_scenes=0.1)
    assert decision.splits == (("train",) * 3,)
    assert "no validation" in decision.notes[0]


def test_no_validation_is_a_choice() -> None:
    decision = split_dataset(parts(3), val_scenes=0.0)
    assert {split for splits in decision.splits for split in splits} == {"train"}
    assert decision.notes == ()


def test_a_data_sets_own_split_decides() -> None:
    decision = split_dataset(
        [SceneFrames("a", 5, "val"), SceneFrames("b", 5, "train")], val_scenes=0.0
    )
    assert decision.splits == (("val",) * 5, ("train",) * 5)


def test_a_split_that_was_given_is_not_filled_up() -> None:
    decision = split_dataset([SceneFrames("a", 40, "train")], val_scenes=0.1, fixed=True)
    assert decision.splits == (("train",) * 40,)


def test_frames_are_held_out_by_request() -> None:
    decision = split_dataset(
        [SceneFrames("a", 6), SceneFrames("b", 6, "val")], val_scenes=0.1, val_frames="last:2"
    )
    assert decision.splits[0] == ("train",) * 4 + ("val",) * 2
    assert decision.splits[1] == ("val",) * 6  # a test sequence stays one


def test_every_kth_frame_has_neighbours_on_both_sides() -> None:
    splits = held_out(15, "every:5")
    assert [index for index, split in enumerate(splits) if split == "val"] == [2, 7, 12]


@pytest.mark.parametrize("rule", ["last", "last:0", "every:1", "first:3", "last:-1", "every:x", ""])
def test_other_rules_are_refused(rule) -> None:
    with pytest.raises(ConfigError, match="cannot use --val-frames"):
        held_out(10, rule)


def test_a_fraction_of_the_scenes_keeps_their_order() -> None:
    chosen = choose(list(range(100)), 0.4, seed=0, name=str)
    assert len(chosen) == 40
    assert chosen == sorted(chosen)
    assert chosen == choose(list(range(100)), 0.4, seed=0, name=str)
    assert chosen != choose(list(range(100)), 0.4, seed=1, name=str)
    assert choose([7], 0.01, seed=0, name=str) == [7]
    assert choose([], 0.5, seed=0, name=str) == []


def test_the_order_of_a_listing_does_not_change_which_scenes_are_drawn() -> None:
    names = [f"scene{number}" for number in range(30)]
    mixed = names[::-1]
    drawn = choose(names, 0.4, seed=0, name=str)
    assert set(choose(mixed, 0.4, seed=0, name=str)) == set(drawn)


def test_test_data_is_never_trained_on() -> None:
    alone = split_dataset([SceneFrames("a", 50, "val")], val_scenes=0.1)
    assert alone.splits == (("val",) * 50,)
    assert "nothing to train on" in alone.notes[0]


def test_an_empty_data_set_is_not_worth_a_word() -> None:
    assert split_dataset([], val_scenes=0.1).notes == ()


def test_a_rule_that_leaves_nothing_to_train_on_is_mentioned() -> None:
    decision = split_dataset([SceneFrames("a/b", 6)], val_scenes=0.1, val_frames="last:9999")
    assert decision.notes == ("--val-frames last:9999 leaves no frame to train on",)
    assert split_dataset([SceneFrames("a/b", 6)], val_scenes=0.1, val_frames="last:2").notes == ()
