"""Which scenes are to be reconstructed, and from which files."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from distill3r_core.errors import ConflictError
from distill3r_core.io.images.folder_roles import role_by_itself, role_of_folder
from distill3r_core.io.images.inputs import InputFile, display_path, find_inputs, scene_folders
from distill3r_core.report import Failure, Omission, Progress
from distill3r_core.stages.infer.settings import InferSettings


@dataclass(frozen=True)
class SceneInputs:
    """One scene to be reconstructed.

    Args:
        name: Name of the scene.
        sources: Its images and videos.
        failed: Inputs that cannot be used.
        omitted: Files that are no input.
        output: Folder of its result, where the user named one.
    """

    name: str
    sources: Sequence[InputFile]
    failed: Sequence[Failure]
    omitted: Sequence[Omission]
    output: Path | None


def find_scenes(settings: InferSettings, progress: Progress) -> list[SceneInputs]:
    """The scenes that the inputs make: one, or with `each` one per folder.

    Raises:
        ConflictError: Two scenes have one name in `settings.output`.
        InputMissingError: An input is not there.
    """
    if not settings.each:
        found = find_inputs(settings.inputs)
        for note in found.notes:
            progress.note(note)
        name = _name(settings.inputs, found.sources)
        return [SceneInputs(name, found.sources, found.failed, found.omitted, settings.output)]
    scenes = []
    folders, empty = scene_folders(settings.inputs)
    for text in _said_of(empty):
        progress.note(text)
    if settings.output is not None:
        _refuse_equal_names(folders, settings.output)
    for folder in folders:
        found = find_inputs([str(folder)])
        for note in found.notes:
            progress.note(note)
        output = None if settings.output is None else settings.output / folder.name
        name = display_path(Path(folder.name))
        scenes.append(SceneInputs(name, found.sources, found.failed, found.omitted, output))
    return scenes


def _said_of(folders: Sequence[Path]) -> Iterator[str]:
    """A line for each reason why folders are no scenes."""
    reasons: dict[str, list[Path]] = {}
    for folder in folders:
        role = role_of_folder(folder) or role_by_itself(folder)
        reasons.setdefault(role or "no pictures that can be read", []).append(folder)
    for reason, of_it in reasons.items():
        more = f" and {len(of_it) - 1} more folders" if len(of_it) > 1 else ""
        yield f"no scene: {display_path(of_it[0])}{more}: {reason}"


def _refuse_equal_names(folders: Sequence[Path], output: Path) -> None:
    """Two scenes of one name would be written into one folder."""
    first: dict[str, Path] = {}
    for folder in folders:
        other = first.setdefault(folder.name, folder)
        if other is not folder:
            raise ConflictError(
                f"{other} and {folder} would both be written to {output / folder.name}",
                hint="rename one, or give each its own --output",
            )


def _name(inputs: Sequence[str], sources: Sequence[InputFile]) -> str:
    """Name of the folder or the single file; of several files, of the first one's folder."""
    first = Path(inputs[0])
    if first.is_dir():
        named = first.resolve().name
    elif len(sources) == 1:
        named = sources[0].path.stem
    else:
        named = sources[0].path.resolve().parent.name if sources else first.name
    return display_path(Path(named))
