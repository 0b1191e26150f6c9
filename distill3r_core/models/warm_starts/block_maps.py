"""Which block of a deep network each block of a shallow one starts from."""

from typing import Literal

BlockMap = Literal["uniform", "ends", "first", "last"]


def blocks_of(teacher: int, student: int, kind: BlockMap) -> tuple[int, ...]:
    """The teacher's block for each of the student's, in order.

    Args:
        teacher: Blocks of the teacher.
        student: Blocks of the student, at most as many.
        kind: `uniform`: block i takes i T / S, rounded down (arXiv:2607.01851), which never takes
            the last one. `ends`: evenly from the first to the last. `first`, `last`: the first
            or the last S.
    """
    assert 1 <= student <= teacher, "a student has no more blocks than its teacher"
    match kind:
        case "first":
            return tuple(range(student))
        case "last":
            return tuple(range(teacher - student, teacher))
        case "uniform":
            return tuple(index * teacher // student for index in range(student))
        case "ends":
            steps = max(student - 1, 1)
            return tuple(int(index * (teacher - 1) / steps + 0.5) for index in range(student))
