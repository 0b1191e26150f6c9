"""A toy layout: `frames.txt` lists images, one in a line, in the order of the camera's path."""

from distill3r_core.extend import LAYOUTS, Frame, Layout, Scene, marked_dataset


def mark(folder):
    return "has frames.txt" if (folder / "frames.txt").is_file() else None


def list_scene(folder, scene_id):
    names = (folder / "frames.txt").read_text().split()
    frames = [
        Frame(name=f"{number:04d}", image=folder / name, number=number)
        for number, name in enumerate(names)
    ]
    yield Scene(scene_id=scene_id, folder=folder, frames=tuple(frames), order="number")


LAYOUTS.add(
    "listed",
    Layout(
        name="listed",
        summary="images listed in frames.txt",
        mark=mark,
        scan=marked_dataset(mark, list_scene),
    ),
)
