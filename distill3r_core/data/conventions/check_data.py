"""Check of RGB-D data before the long work: do depth, poses, intrinsics and images fit together?"""

import collections
import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from distill3r_core.data.conventions.check import ConventionVerdict, check_conventions
from distill3r_core.data.conventions.readings import Conventions
from distill3r_core.data.frame_reader import read_source_frame
from distill3r_core.data.layouts import Frame
from distill3r_core.errors import ContradictionError, ImageError
from distill3r_core.report import Progress, counted
from distill3r_core.system.threads import Pool, result_of

_SHOWN_SCENES = 3  # in a message
_WORKERS = 4  # scenes at a time; each holds up to 32 depth maps


@dataclass(frozen=True)
class DataCheck:
    """Outcome of the check of one data set.

    Args:
        verdicts: By scene id, of the scenes that could be checked.
    """

    verdicts: Mapping[str, ConventionVerdict] = field(default_factory=dict)

    @property
    def agreement(self) -> float | None:
        """Median over the scenes; None where none could be checked."""
        shares = [verdict.agreement for verdict in self.verdicts.values()]
        return statistics.median(shares) if shares else None

    @property
    def figures(self) -> dict[str, Any] | None:
        """Numbers for scripts."""
        if self.agreement is None:
            return None
        return {
            "agreement": self.agreement,
            "pairs": sum(verdict.pairs for verdict in self.verdicts.values()),
        }


def check_data(
    name: str,
    scenes: Mapping[str, Sequence[Frame]],
    *,
    images_only: bool = False,
    trust: bool,
    progress: Progress,
) -> DataCheck:
    """Check every scene of a data set.

    Args:
        name: Name of the data set.
        scenes: The frames of its scenes, to be read by the conventions that the user gave.
        images_only: Depth and poses are not used.
        trust: Note contradictions instead of raising them.
        progress: Reports every scene.

    Raises:
        ContradictionError: The parts of the data do not fit together.
    """
    scenes = {
        scene: frames for scene, frames in scenes.items() if any(_has_more(one) for one in frames)
    }
    if not scenes:
        return DataCheck()
    progress.begin(f"{name}: check", total=len(scenes), unit="scenes")
    problems, verdicts = [], {}
    with Pool(_WORKERS) as pool:
        jobs = [pool.submit(_check_scene, frames, images_only) for frames in scenes.values()]
        for scene, job in zip(scenes, jobs, strict=True):
            problem, verdict = result_of(job)
            if problem is not None:
                problems.append(problem)
            if verdict is not None:
                verdicts[scene] = verdict
            progress.advance()
    if (disagreement := _disagreement(name, verdicts)) is not None:
        problems.append(disagreement)
    if problems and not trust:
        raise problems[0]
    for problem in problems:
        progress.note(f"trusted: {problem.message}")
    return DataCheck(verdicts)


def check_notes(name: str, check: DataCheck) -> list[str]:
    """How well the depth of a data set agrees; nothing where it could not be checked."""
    if check.agreement is None:
        return []
    low = min(verdict.turns[0] for verdict in check.verdicts.values())
    high = max(verdict.turns[1] for verdict in check.verdicts.values())
    turns = f"{low:.0f}" if f"{low:.0f}" == f"{high:.0f}" else f"{low:.0f} to {high:.0f}"
    pairs = counted(sum(verdict.pairs for verdict in check.verdicts.values()), "pair")
    return [
        f"{name}: depth carried between frames agrees within 5 % at "
        f"{_share([check.agreement])} of the pixels (median of {pairs}, turned by {turns} degrees)"
    ]


def _has_more(frame: Frame) -> bool:
    """Whether a frame has more than an image."""
    return frame.rig is not None or frame.depth is not None or frame.pose is not None


def _check_scene(
    frames: Sequence[Frame], images_only: bool
) -> tuple[ContradictionError | None, ConventionVerdict | None]:
    """What is wrong with the first usable frame, and whether the frames fit together."""
    problem, frames = None, tuple(frames)
    for frame in frames:
        try:
            read_source_frame(frame, images_only=images_only)
        except ImageError:
            continue  # refused for it when it is read
        except ContradictionError as error:
            problem = error
        break
    return problem, None if images_only else check_conventions(frames)


def _disagreement(
    name: str, verdicts: Mapping[str, ConventionVerdict]
) -> ContradictionError | None:
    wrong = {scene: verdict for scene, verdict in verdicts.items() if verdict.contradicts}
    if not wrong:
        return None
    remedies = collections.Counter(one.remedy for one in wrong.values() if one.remedy is not None)
    if not remedies:
        return ContradictionError(
            f"depth, poses and intrinsics of {name} do not fit together: carried between frames, "
            f"depth agrees within 5 % at {_share(one.agreement for one in wrong.values())} of the "
            f"pixels ({_scenes(wrong, verdicts)}), and none of the usual mistakes explains it",
            hint="check poses, depth and intrinsics; --trust continues with them as they are, "
            "--images-only without depth and poses",
        )
    remedy, _ = remedies.most_common(1)[0]
    same = {scene: verdict for scene, verdict in wrong.items() if verdict.remedy == remedy}
    return ContradictionError(
        f"depth, poses and intrinsics of {name} do not fit together ({_scenes(same, verdicts)}): "
        f"{_mistake(remedy)}. Carried between frames, depth agrees within 5 % at "
        f"{_share(one.agreement for one in same.values())} of the pixels, and at "
        f"{_share(one.remedied for one in same.values())} if read so",
        hint=f"{remedy.options}; --trust continues with the data as they are",
    )


def _mistake(remedy: Conventions) -> str:
    """What a remedy says about the data."""
    said = []
    if remedy.pose_convention is not None:
        maps = {"w2c": "camera-from-world", "c2w": "world-from-camera"}
        said.append(f"the poses seem to be {maps[remedy.pose_convention]}")
    if remedy.pose_axes is not None:
        axes = {"opengl": "OpenGL (y up, z backward)", "opencv": "OpenCV (y down, z forward)"}
        said.append(f"the camera axes of the poses seem to be those of {axes[remedy.pose_axes]}")
    if remedy.depth_scale is not None:
        said.append(f"depth seems to have {remedy.depth_scale:g} units in a meter")
    if remedy.intrinsics_size is not None:
        rows, columns = remedy.intrinsics_size
        said.append(f"the intrinsics seem to belong to images of {columns}x{rows} pixels")
    return " and ".join(said)


def _share(shares: Iterable[float]) -> str:
    return f"{statistics.median(shares):.0%}".replace("%", " %")


def _scenes(some: Mapping[str, Any], checked: Mapping[str, Any]) -> str:
    """`scenes a, b and 3 more of 20`."""
    shown = ", ".join(list(some)[:_SHOWN_SCENES])
    more = f" and {len(some) - _SHOWN_SCENES} more" if len(some) > _SHOWN_SCENES else ""
    return f"scene{'s' if len(some) > 1 else ''} {shown}{more} of {len(checked)}"
