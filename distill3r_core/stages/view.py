"""Serve a reconstruction to a browser on this machine. Needs viser, the extra `viewer`."""

import contextlib
import errno
import inspect
import io
import socket
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from http import HTTPStatus
from importlib import util
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import numpy as np
from PIL import Image
from scipy.spatial.transform import Rotation

from distill3r_core.errors import (
    ConfigError,
    ExtraMissingError,
    FailedError,
    ImageError,
    InputMissingError,
    RequestError,
)
from distill3r_core.files import name_fault, open_file
from distill3r_core.io.exports.cameras import Camera, read_cameras
from distill3r_core.io.exports.cloud import Cloud
from distill3r_core.io.exports.frusta import frustum_length
from distill3r_core.io.exports.html_page import spacing_of
from distill3r_core.io.exports.ply import read_ply
from distill3r_core.io.images.decode import check_header, quiet
from distill3r_core.report import Report
from distill3r_core.results import RECORD, STARTED, read_record

if TYPE_CHECKING:
    import viser

HOST, PORT = "127.0.0.1", 8080
_LOOPBACK = ("127.0.0.1", "localhost", "::1")
_LAST_PORT = 65535
_THUMBNAIL = 240  # pixels along the long edge of an image in its frustum


def view(
    result: Path,
    *,
    host: str = HOST,
    port: int = PORT,
    on_ready: Callable[[Report], None] = lambda report: None,
    until: threading.Event | None = None,
) -> None:
    """Show a result of `infer` until interrupted.

    Args:
        result: Its folder; `scene.ply` and `cameras.json` are read.
        host: Address that is listened at: this machine alone, unless another is named.
        port: The first one that is tried, 1 to 65535.
        on_ready: Called with the page's address, as `url` of a report's result.
        until: Ends the serving; None: only an interruption does.

    Raises:
        InputMissingError: The folder has no cloud, or no poses.
        FailedError: The result is not finished, or its record cannot be read.
        ExtraMissingError: viser is not installed.
        ConfigError: There is no such port.
        RequestError: This machine cannot listen at the address.
    """
    _require_address(host, port)
    opened, cloud, cameras = read_result(result)
    if util.find_spec("viser") is None:
        raise ExtraMissingError(
            "the viewer needs the extra 'viewer'",
            hint="pip install 'distill3r[viewer]', or open the page of `infer --format html`",
        )
    import viser

    # viser greets on stdout, which is ours for results.
    with contextlib.redirect_stdout(io.StringIO()), _own_origin_only(host):
        server = viser.ViserServer(host=host, port=port, verbose=False)
    try:
        _fill(server, cloud, cameras, opened)
        name = f"[{host}]" if ":" in host else host
        on_ready(_report(result, f"http://{name}:{server.get_port()}", cloud, cameras))
        (until or threading.Event()).wait()
    finally:
        with contextlib.redirect_stdout(io.StringIO()):
            server.stop()


def read_result(folder: Path) -> tuple["ResultFiles", Cloud, list[Camera]]:
    """The files of a result, its points and its cameras.

    Raises:
        InputMissingError: The folder has no cloud, or no poses.
        FailedError: The result is not finished, or a file of it cannot be read.
    """
    opened = _open(folder)
    cloud, cameras = opened.find("scene.ply"), opened.find("cameras.json")
    if cloud is None:
        if cameras is not None:
            read_cameras(cameras)  # says so where there are no poses, and a cloud cannot be
        raise InputMissingError(
            f"{folder} has no scene.ply", hint="distill3r infer INPUT --ply writes one"
        )
    if cameras is None:
        raise InputMissingError(f"{folder} has no cameras.json: it is no result of infer")
    return opened, read_ply(cloud)[0], read_cameras(cameras)[0]


@contextlib.contextmanager
def _own_origin_only(host: str) -> Iterator[None]:
    """Let the server that viser starts in the block refuse requests of other sites' pages.

    Any page in the browser may open a WebSocket to this machine, or reach it under a name of its
    own; viser accepts both.
    """
    from websockets.asyncio import server

    serve = server.serve

    def guarded(*args: Any, process_request: Any = None, **options: Any) -> Any:
        async def check(connection: Any, request: Any) -> Any:
            if not _is_own(request.headers.get("Host"), request.headers.get("Origin"), host=host):
                return connection.respond(HTTPStatus.FORBIDDEN, "another origin\n")
            found = None if process_request is None else process_request(connection, request)
            return await found if inspect.isawaitable(found) else found

        return serve(*args, process_request=check, **options)

    server.serve = guarded
    try:
        yield
    finally:
        server.serve = serve


def _is_own(asked: str | None, origin: str | None, *, host: str) -> bool:
    """Whether a request is for this server by a name of its own, and from a page of its own.

    Args:
        asked: Header Host.
        origin: Header Origin; None: not from a page.
        host: Address that is listened at.
    """
    if asked is None or (origin is not None and urlsplit(origin).netloc != asked):
        return False
    return host not in _LOOPBACK or urlsplit(f"//{asked}").hostname in _LOOPBACK


def _require_address(host: str, port: int) -> None:
    """Refuse what cannot be listened at: viser would wait for its own server for ever."""
    if not host:
        raise ConfigError("an empty host binds all interfaces", hint="--host 0.0.0.0 does so")
    if not 1 <= port <= _LAST_PORT:
        raise ConfigError(f"no port {port}", hint=f"ports go from 1 to {_LAST_PORT}")
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        with socket.create_server((host, port), family=family):
            pass
    except OSError as error:
        if error.errno == errno.EADDRINUSE and port < _LAST_PORT:
            return  # the next ones are tried
        reason = error.strerror or str(error)
        raise RequestError(
            f"cannot listen at {host}:{port}: {reason}", hint="choose others by --host and --port"
        ) from error


def _report(result: Path, url: str, cloud: Cloud, cameras: list[Camera]) -> Report:
    return Report(
        settings={"result": str(result)},
        result={"url": url, "points": len(cloud), "cameras": len(cameras)},
        notes=["Ctrl-C ends it"],
        summary=f"{result}: {len(cloud):,} points and {len(cameras)} cameras at {url}",
    )


@dataclass(frozen=True)
class ResultFiles:
    """A folder of `infer`, and which of the files in it are this result's.

    Args:
        files: By their names in the folder; None: all, as Python writes no record.
    """

    folder: Path
    files: frozenset[str] | None

    def find(self, name: str) -> Path | None:
        """A file of the result; None where there is none, or an earlier result's."""
        if name_fault(name) is not None:  # of a camera that is no view's
            return None
        path = self.folder / name
        known = self.files is None or name in self.files
        return path if known and path.is_file() else None


def _open(folder: Path) -> ResultFiles:
    if not folder.exists():
        raise InputMissingError(f"no result {folder}", hint="results of infer lie in results/infer")
    if (folder / STARTED).is_file():
        raise FailedError(f"{folder} is not finished", hint="run `distill3r infer` again")
    if not (folder / RECORD).is_file():
        return ResultFiles(folder, None)
    files = read_record(folder).get("files")
    if files is None:
        raise FailedError(f"{folder / RECORD} is no record of infer: it lists no files")
    return ResultFiles(folder, frozenset(files))


def _fill(
    server: "viser.ViserServer", cloud: Cloud, cameras: list[Camera], result: ResultFiles
) -> None:
    server.scene.set_up_direction("-y")  # OpenCV: y is down
    extent, spacing = 25 * frustum_length(cameras, cloud), spacing_of(cloud, cameras)
    points = server.scene.add_point_cloud(
        "/cloud",
        cloud.points,
        cloud.colors,
        point_size=spacing,
        point_shape="rounded",
        precision="float32",
    )
    frusta = [_add_camera(server, camera, extent, result) for camera in cameras]
    middle = np.median(cloud.points, axis=0) if len(cloud) else np.zeros(3)
    server.initial_camera.look_at = middle
    server.initial_camera.position = middle - np.array([0.0, 0.25, 0.9]) * extent

    size = server.gui.add_slider("point size", 0.1, 5.0, 0.1, 1.0)
    share = server.gui.add_slider("points shown, %", 1, 100, 1, 100)
    shown = server.gui.add_checkbox("cameras", True)
    order = np.random.default_rng(0).permutation(len(cloud))

    @size.on_update
    def _(_: object) -> None:
        points.point_size = spacing * size.value

    @share.on_update
    def _(_: object) -> None:
        kept = np.sort(order[: max(1, len(cloud) * share.value // 100)])
        points.points, points.colors = cloud.points[kept], cloud.colors[kept]

    @shown.on_update
    def _(_: object) -> None:
        for frustum in frusta:
            frustum.visible = shown.value


def _add_camera(
    server: "viser.ViserServer", camera: Camera, extent: float, result: ResultFiles
) -> "viser.CameraFrustumHandle":
    """A frustum with its image; a click on it looks from there."""
    height, width = camera.size
    pose = camera.world_from_cam
    turn = Rotation.from_matrix(pose[:3, :3]).as_quat(scalar_first=True)
    handle = server.scene.add_camera_frustum(
        f"/cameras/{camera.name}",
        fov=float(2 * np.arctan(height / (2 * camera.intrinsics[1, 1]))),
        aspect=width / height,
        scale=0.04 * extent,
        thickness=0.001 * extent,
        color=(255, 140, 0),
        image=_thumbnail(camera.name, result),
        wxyz=turn,
        position=pose[:3, 3],
    )

    @handle.on_click
    def _(event: "viser.SceneNodePointerEvent") -> None:
        event.client.camera.wxyz = turn
        event.client.camera.position = pose[:3, 3]

    return handle


def _thumbnail(name: str, result: ResultFiles) -> np.ndarray | None:
    """The view's image, small, where the result has images."""
    path = result.find(f"images/{name}.jpg") or result.find(f"images/{name}.png")
    if path is None:
        return None
    try:
        with open_file(path) as file:
            with quiet():  # by the name that we gave it: another format could start a program
                opened = Image.open(file, formats=("JPEG", "PNG"))
            with opened as image:
                check_header(image, path.stat().st_size, least_side=1)
                image.thumbnail((_THUMBNAIL, _THUMBNAIL))
                return np.asarray(image.convert("RGB"))
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError, ImageError):
        return None  # a frustum without its image shows as much of the scene
