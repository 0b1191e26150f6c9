"""Whatever command it is, a wrong option is named as it was typed, and the status is 2."""

import pytest


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("manifest", "ROOTS: missing"),
        ("manifest . --layout imges", "--layout: unknown layout 'imges', did you mean 'images'?"),
        (
            "manifest . --stride 0",
            "--stride: 0 is too small; it takes a whole number of at least 1",
        ),
        ("manifest . --sample-frac 2", "--sample-frac: 2 is too large; it takes a number above 0"),
        ("manifest . --val-frames foo", "--val-frames: 'foo' is not last:N (N from 1)"),
        ("manifest . --set views=1", "--set views: 1 is too small"),
        ("cache --teacher fast4r", "--teacher: unknown teacher 'fast4r', did you mean 'fast3r'?"),
        ("cache --fit sqash", "--fit: 'sqash' is unknown: squash, crop or release; did you mean"),
        (
            "cache --size 100x100",
            "--size: 100x100 has sides that are not multiples of 14; the nearest is 98x98",
        ),
        ("cache --device gpu", "--device: unknown device 'gpu' (auto, cpu, cuda, cuda:1 or mps)"),
        (
            "train --preset papre",
            "--preset: 'papre' is unknown: paper, small, tiny, lunar-s1, lunar-s2",
        ),
        ("train --recompute head", "--recompute: 'head' is unknown: none, heads or all"),
        ("train --set data.size=100x98", "--set data.size: 100x98 has sides"),
        ("train --set optim.lr=fast", "--set optim.lr: 'fast' is not a number of at least 0"),
        ("train --seed -1", "--seed: -1 is too small; it takes at least 0"),
        ("train --max-steps 1.5", "--max-steps: '1.5' is not a whole number"),
        ("eval --protocol tabel2", "--protocol: unknown protocol 'tabel2', did you mean 'table2'?"),
        ("eval --predict studnet", "--predict: 'studnet' is unknown: student, truth or constant"),
        ("eval --size 3x", "--size: cannot read the size '3x'"),
        (
            "infer . --conf 150",
            "--conf: 150 is too large; it takes a number of at least 0 and below 100",
        ),
        ("infer . --size 100x100", "--size: 100x100 has sides that are not multiples of 14"),
        ("infer . --format plx", "--format: 'plx' is unknown: ply, glb,"),
        ("bench --views x", "--views: cannot read the views 'x'"),
        (
            "bench --size 9x9",
            "--size: 9x9 has sides that are not multiples of 14; the nearest is 14x14",
        ),
        ("bench --preset papre", "--preset: unknown student preset 'papre', did you mean 'paper'?"),
        (
            "bench --compare fast4r",
            "--compare: unknown model to compare with 'fast4r', did you mean 'fast3r'?",
        ),
        ("bench --budget 0", "--budget: 0 is too small; it takes a number above 0"),
        ("bench train --preset foo", "--preset: unknown student preset 'foo'"),
        ("bench ablation --set variants=[fll]", "--set variants: 'fll' is unknown: labels-only,"),
        ("demo --set rooms=0", "--set rooms: 0 is too small"),
        ("demo --scenes lunar --set flights=[pich]", "--set flights: 'pich' is unknown: nadir,"),
        ("demo --scenes lunar --set flights=[]", "--set flights: "),
        (
            "demo --set flights=[nadir]",
            "cannot use settings:\n  flights: only over lunar ground (`--scenes lunar`)",
        ),
    ],
)
def test_a_wrong_option_is_named_as_it_was_typed(cli_inprocess, tmp_path, line, message):
    status, out, err = cli_inprocess(*line.split(), cwd=tmp_path)
    assert (status, out) == (2, "")
    assert err.startswith(f"error: {message}")
    assert not list(tmp_path.iterdir())


def test_a_wrong_setting_of_a_file_is_named_by_its_key(cli_inprocess, tmp_path):
    (tmp_path / "distill3r.yaml").write_text("train: {compute: {recompute: head}, gpus: 0}")
    status, _, err = cli_inprocess("train", cwd=tmp_path)
    assert status == 2
    assert err.splitlines() == [
        "error: cannot use distill3r.yaml:",
        "  gpus: 0 is too small; it takes a whole number of at least 1",
        "  compute.recompute: 'head' is unknown: none, heads or all; did you mean 'heads'?",
    ]
