"""Poses from quaternions and rotation vectors."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from distill3r_core.data.pose_formats import pose_from_quaternion, pose_from_rotation_vector
from distill3r_core.errors import ImageError

NUMBER = st.floats(-3, 3)


@given(st.tuples(NUMBER, NUMBER, NUMBER, st.floats(0.1, 3)), st.tuples(NUMBER, NUMBER, NUMBER))
def test_quaternions_of_any_length_are_those_of_scipy(xyzw, translation) -> None:
    pose = pose_from_quaternion(xyzw, translation)
    np.testing.assert_allclose(pose[:3, :3], Rotation.from_quat(xyzw).as_matrix(), atol=1e-12)
    assert pose[:3, 3].tolist() == list(translation)
    assert pose[3].tolist() == [0, 0, 0, 1]


@given(st.tuples(NUMBER, NUMBER, NUMBER))
def test_rotation_vectors_are_those_of_scipy(vector) -> None:
    pose = pose_from_rotation_vector(vector, (1.0, 2.0, 3.0))
    np.testing.assert_allclose(pose[:3, :3], Rotation.from_rotvec(vector).as_matrix(), atol=1e-8)


def test_a_quarter_turn_about_z_by_hand() -> None:
    half = math.sqrt(0.5)
    turned = [[0, -1, 0], [1, 0, 0], [0, 0, 1]]
    np.testing.assert_allclose(
        pose_from_quaternion((0.0, 0.0, half, half), (0.0, 0.0, 0.0))[:3, :3], turned, atol=1e-15
    )


@pytest.mark.parametrize("xyzw", [(0.0, 0.0, 0.0, 0.0), (math.nan, 0.0, 0.0, 1.0), (0.0, 0.0, 1.0)])
def test_what_is_no_rotation_is_refused(xyzw) -> None:
    with pytest.raises(ImageError):
        pose_from_quaternion(xyzw, (0.0, 0.0, 0.0))
