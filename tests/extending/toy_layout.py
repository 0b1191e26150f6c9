"""A toy layout: `frames.txt` lists images, one in a line, in the order of the camera's path."""

from distill3r_core.extend import LAYOUTS, Dataset, Frame, Layout, Scene


def detect(root):
    return "it has frames.txt" if (root / "frames.txt").is_file() else None


def scan(root, skip):
    def list_scenes():
        names = (root / "frames.txt").read_text().split()
        frames = [
            Frame(name=f"{number:04d}", image=root / name, number=number)
            for number, name in enumerate(names)
        ]
        yield Scene(scene_id="scene", folder=root, frames=tuple(frames), order="number")

    return [Dataset(name=root.name, root=root, list_scenes=list_scenes)]


LAYOUTS.add(
    "listed",
    Layout(name="listed", summary="images listed in frames.txt", detect=detect, scan=scan),
)
