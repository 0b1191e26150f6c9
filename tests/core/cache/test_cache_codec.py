"""The codec's laws: what goes in comes out, bit for bit, or is refused by name."""

import hashlib
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from cache_material import SIZE, pictures, smooth_targets
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from distill3r_core.cache.differences import second_differences, sum_columns, sum_rows
from distill3r_core.cache.image_codec import ImageDecoder, ImageEncoder
from distill3r_core.cache.maps.maps_decoder import MapsDecoder
from distill3r_core.cache.maps.maps_encoder import MapsEncoder
from distill3r_core.cache.maps.maps_layout import ALL_PLANES, LOCAL_PLANES, Kind, StoredMaps
from distill3r_core.cache.packed_record import Packer, RecordError, Unpacker
from distill3r_core.cache.sample_codec import (
    SampleEncoder,
    ViewDecoder,
    choose_kind,
    float16_step,
)
from distill3r_core.errors import CacheError

KINDS = (Kind(0), Kind.INDEPENDENT, Kind.EXACT)


def finite_words(shape: tuple[int, ...]) -> st.SearchStrategy[np.ndarray]:
    """Any finite float16 as words: denormals, both zeros and the extremes among them."""
    special = [0x0000, 0x8000, 0x0001, 0x8001, 0x03FF, 0x0400, 0x7BFF, 0xFBFF, 0x3C00]
    any_finite = st.integers(0, 0xFFFF).filter(lambda word: word & 0x7C00 != 0x7C00)
    words = st.one_of(st.sampled_from(special), any_finite)
    return hnp.arrays(np.uint16, shape, elements=words)


@st.composite
def views(draw: st.DrawFn) -> StoredMaps:
    """Maps of any small size and any mask: all valid, none valid, one pixel."""
    height, width = draw(st.integers(1, 9)), draw(st.integers(1, 9))
    mask = draw(
        st.one_of(
            hnp.arrays(np.bool_, (height, width)),
            st.booleans().map(lambda valid: np.full((height, width), valid)),
        )
    )
    transform = draw(hnp.arrays(np.float32, (3, 4), elements=st.floats(-8, 8, width=32)))
    return StoredMaps(
        points_local=draw(finite_words((3, height, width))),
        confidence=draw(finite_words((2, height, width))),
        mask=mask,
        global_from_local=transform,
        points_global=draw(finite_words((3, height, width))),
    )


def decoded(record: bytes, size: tuple[int, int], planes: int) -> tuple[np.ndarray, np.ndarray]:
    out, mask = np.empty((planes, *size), np.uint16), np.empty(size, np.uint8)
    MapsDecoder(Unpacker()).decode(memoryview(record), out, mask, thorough=True)
    return out, mask


@settings(deadline=None, max_examples=150)
@given(views(), st.sampled_from(KINDS))
def test_maps_come_back_bit_for_bit_on_valid_pixels_and_zero_elsewhere(view, kind):
    record = MapsEncoder(Packer()).encode(view, kind)
    out, mask = decoded(record, view.mask.shape, ALL_PLANES)
    assert (mask == view.mask).all()
    stored = [view.points_local, view.points_global, view.confidence]
    wanted = np.concatenate(stored) * view.mask
    if kind == Kind(0):  # the global map follows from the local one
        out, wanted = np.delete(out, (3, 4, 5), 0), np.delete(wanted, (3, 4, 5), 0)
        few, _ = decoded(record, view.mask.shape, LOCAL_PLANES)
        assert (few == out).all()
    assert (out == wanted).all()


@settings(deadline=None, max_examples=60)
@given(hnp.arrays(np.uint8, st.tuples(st.just(3), st.integers(1, 9), st.integers(1, 9))))
def test_pictures_come_back_bit_for_bit(picture):
    out = np.empty_like(picture)
    record = ImageEncoder(Packer()).encode(picture)
    ImageDecoder(Unpacker()).decode(memoryview(record), out, thorough=True)
    assert (out == picture).all()


@settings(deadline=None, max_examples=60)
@given(finite_words((2, 5, 7)), st.one_of(st.none(), hnp.arrays(np.bool_, (5, 7))), st.booleans())
def test_sums_undo_differences_and_invalid_pixels_cost_nothing(planes, mask, constant):
    if constant:
        planes = np.broadcast_to(planes[:, :1, :1], planes.shape).copy()
    residual = second_differences(planes, mask)
    rows = np.ascontiguousarray(residual.transpose(1, 0, 2))
    out = np.empty_like(planes)
    sum_rows(rows)
    sum_columns(rows, out)
    valid = np.ones((5, 7), bool) if mask is None else mask
    assert (out[:, valid] == planes[:, valid]).all()
    if mask is not None and not mask.all():
        assert not residual[:, ~mask].any()


@pytest.mark.parametrize("height", [*range(1, 20), 224])
def test_rows_are_summed_at_any_height(height):
    rows = np.random.default_rng(height).integers(0, 1 << 16, (height, 2, 3)).astype(np.uint16)
    expected = np.cumsum(rows, axis=0, dtype=np.uint16)
    sum_rows(rows)
    assert (rows == expected).all()


@pytest.mark.parametrize("value", [np.inf, -np.inf, np.nan, 65520.0])
@pytest.mark.parametrize("name", ["points_local", "confidence_local"])
def test_a_valid_pixel_that_float16_cannot_hold_is_refused_by_name(name, value):
    targets = smooth_targets(views=2)
    getattr(targets, name)[1, 3, 4] = value
    targets.valid_mask[1, 3, 4] = True
    with pytest.raises(CacheError, match=r"a/b/000, view 1: .* 1 valid pixels.* row 3, column 4"):
        SampleEncoder().encode("a/b/000", "c", pictures(), targets, {})


def test_anything_may_stand_outside_the_mask():
    targets = smooth_targets()
    targets.points_local[~targets.valid_mask] = float("nan")
    encoded = SampleEncoder().encode("a/b/000", "c", pictures(), targets, {})
    clean = smooth_targets()
    assert encoded.maps == SampleEncoder().encode("a/b/000", "c", pictures(), clean, {}).maps


def test_depth_times_ray_is_stored_as_one_plane():
    targets = smooth_targets(depth=True)
    assert choose_kind(targets) == Kind.DEPTH
    assert choose_kind(targets, exact_global=True) == Kind.EXACT
    one = SampleEncoder().encode("n", "c", pictures(), targets, {})
    three = SampleEncoder().encode("n", "c", pictures(), smooth_targets(), {})
    assert sum(map(len, one.maps)) < 0.6 * sum(map(len, three.maps))


def test_a_map_that_only_claims_to_be_depth_times_ray_keeps_its_planes():
    targets = smooth_targets(depth=True)
    targets.points_local[0, 5, 5, 0] += 0.01
    targets.valid_mask[0, 5, 5] = True
    assert choose_kind(targets) == Kind(0)


def test_a_global_map_of_its_own_gets_planes_and_one_that_is_similar_does_not():
    assert choose_kind(smooth_targets(independent=True)) == Kind.INDEPENDENT
    like = smooth_targets()
    object.__setattr__(like, "stored_points_global", like.points_global)
    assert choose_kind(like) == Kind(0)


def test_the_exact_codec_gives_the_float16_global_map_back():
    targets = smooth_targets(size=(30, 50))
    encoded = SampleEncoder(exact_global=True).encode(
        "n", "c", pictures(size=(30, 50)), targets, {}
    )
    for view, record in enumerate(encoded.maps):
        out, _ = decoded(record, (30, 50), ALL_PLANES)
        wanted = targets.points_global[view].half().movedim(-1, 0)
        assert torch.equal(torch.from_numpy(out[3:6].view(np.float16)), wanted)


def test_a_float16_step_is_the_gap_to_the_next_float16():
    words = np.arange(0x7BFF, dtype=np.uint16)
    gaps = (words + 1).view(np.float16).astype(np.float32) - words.view(np.float16)
    steps = float16_step(torch.from_numpy(words.view(np.float16).astype(np.float32)))
    assert np.array_equal(steps.numpy(), gaps)


# Those numpy has kernels for and this machine has.
NUMPY_FEATURES = " ".join(
    name
    for name in np._core._multiarray_umath.__cpu_dispatch__
    if np._core._multiarray_umath.__cpu_features__.get(name)
)

BYTES = """
import hashlib, torch
from cache_material import pictures, smooth_targets
from distill3r_core.cache.sample_codec import SampleEncoder
digest = hashlib.sha256()
for kind in ({}, {"depth": True}, {"independent": True}):
    sample = smooth_fixture(kind)
    digest.update(b"".join(sample.maps + sample.images))
print(digest.hexdigest())
""".replace(
    "smooth_fixture(kind)",
    'SampleEncoder(exact_global=not kind).encode("n", "c", pictures(size=(40, 50)),'
    " torch.load(__import__('sys').argv[1] + '-' + '-'.join(kind), weights_only=False), {})",
)


@pytest.mark.parametrize(
    "environment",
    [
        {"ATEN_CPU_CAPABILITY": "default", "NPY_DISABLE_CPU_FEATURES": NUMPY_FEATURES},
        {"ATEN_CPU_CAPABILITY": "avx2", "OMP_NUM_THREADS": "2"},
    ],
    ids=["no vector instructions", "avx2, two threads"],
)
def test_the_same_targets_make_the_same_bytes_on_any_cpu(tmp_path, environment):
    digest = hashlib.sha256()
    for kind in ({}, {"depth": True}, {"independent": True}):
        targets = smooth_targets(size=(40, 50), **kind)
        torch.save(targets, tmp_path / ("t-" + "-".join(kind)))
        sample = SampleEncoder(exact_global=not kind).encode(
            "n", "c", pictures(size=(40, 50)), targets, {}
        )
        digest.update(b"".join(sample.maps + sample.images))
    found = subprocess.run(
        [sys.executable, "-c", BYTES, str(tmp_path / "t")],
        env={**os.environ, **environment, "PYTHONPATH": str(Path(__file__).parent)},
        capture_output=True,
        text=True,
        check=True,
        timeout=120,
    )
    assert found.stdout.strip() == digest.hexdigest()


def flipped(record: bytes, bit: int) -> memoryview:
    data = bytearray(record)
    data[bit // 8] ^= 1 << bit % 8
    return memoryview(bytes(data))


def a_record(kind: Kind = Kind.EXACT) -> bytes:
    targets = smooth_targets(size=SIZE)
    exact = kind == Kind.EXACT
    return SampleEncoder(exact_global=exact).encode("n", "c", pictures(), targets, {}).maps[0]


def test_every_flipped_bit_of_a_records_head_is_noticed_by_every_reader():
    record = a_record()
    head = 20 + 12 * record[11]  # header and table of sections
    out, mask = np.empty((ALL_PLANES, *SIZE), np.uint16), np.empty(SIZE, np.uint8)
    decoder = ViewDecoder()
    for bit in range(8 * head):
        with pytest.raises(RecordError):
            decoder.maps(flipped(record, bit), out, mask)


def test_flipped_bits_of_a_records_body_are_noticed(drill):
    record = a_record()
    rng = np.random.default_rng(0)
    out, mask = np.empty((ALL_PLANES, *SIZE), np.uint16), np.empty(SIZE, np.uint8)
    decoder = ViewDecoder()
    decoder.maps(memoryview(record), out, mask)
    good = out.copy(), mask.copy()
    for bit in rng.integers(0, 8 * len(record), drill(1000) * 3):
        with pytest.raises(RecordError):  # what `verify` sees
            decoder.maps(flipped(record, int(bit)), out, mask, thorough=True)
        try:  # what training sees: an error, or the right values
            decoder.maps(flipped(record, int(bit)), out, mask)
        except RecordError:
            continue
        assert (out == good[0]).all()
        assert (mask == good[1]).all()


@pytest.mark.parametrize("length", [0, 1, 19, 20, 60, -1])
def test_a_record_that_was_cut_is_refused(length):
    record = memoryview(a_record())[:length]
    with pytest.raises(RecordError):
        decoded(bytes(record), SIZE, ALL_PLANES)
