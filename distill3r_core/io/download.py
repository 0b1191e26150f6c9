"""Fetch one file over HTTP, continuing where an earlier attempt was cut off."""

import hashlib
import http.client
import os
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO

from distill3r_core.errors import WeightsError
from distill3r_core.files import open_file, open_own, write_text
from distill3r_core.io.proxies import http_proxies, proxy_for
from distill3r_core.system.disk import disk_errors

_BLOCK = 2**18
_TIMEOUT = 30.0  # seconds without an answer
_PARTIAL_CONTENT, _NOT_SATISFIABLE = 206, 416


def download(
    url: str,
    target: Path,
    *,
    sha256: str | None = None,
    on_bytes: Callable[[int, int | None], None] = lambda done, total: None,
) -> str:
    """Bring a file here. What was fetched before an interruption is kept and continued.

    Args:
        target: Where it goes; appears there only when it is whole.
        sha256: What it must hash to, where the publisher says.
        on_bytes: Called with the bytes that are here and how many there will be.

    Returns:
        The file's SHA-256, in hexadecimal.

    Raises:
        WeightsError: No answer, an error, too few bytes, another file than the publisher's, or a
            proxy that cannot be used.
        DiskFullError: There is no room.
    """
    opener = urllib.request.build_opener(urllib.request.ProxyHandler(http_proxies(url)))
    target.parent.mkdir(parents=True, exist_ok=True)
    partial = target.with_name(target.name + ".partial")
    with disk_errors(target):
        try:
            _fetch(opener, url, partial, on_bytes)
        except (OSError, http.client.HTTPException) as error:
            if isinstance(error, OSError) and _is_local(error):
                raise
            raise WeightsError(
                f"cannot download {url}{through_proxy(url)}: {_reason(error)}",
                hint=f"run again to continue, or put the file into {target.parent} yourself",
            ) from error
        found = hash_of(partial)
        if sha256 is not None and found != sha256:
            partial.unlink()
            _mark(partial).unlink(missing_ok=True)
            raise WeightsError(
                f"{url} is not the published file: its SHA-256 is {found}, not {sha256}",
                hint="run again; if that repeats, the published file has changed",
            )
        partial.replace(target)
        _mark(partial).unlink(missing_ok=True)
    return found


def hash_of(path: Path) -> str:
    """SHA-256 of a file, in hexadecimal: what publishers give."""
    with open_file(path) as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def through_proxy(url: str) -> str:
    """` through the proxy ...`, where requests to an address go through one."""
    proxy = proxy_for(url)
    return "" if proxy is None else f" through {proxy}"


def _fetch(
    opener: urllib.request.OpenerDirector,
    url: str,
    partial: Path,
    on_bytes: Callable[[int, int | None], None],
) -> None:
    """Append to `partial` until it is whole."""
    have = partial.stat().st_size if partial.is_file() else 0
    mark = _mark(partial)
    request = urllib.request.Request(url)
    if have and mark.is_file():
        # If-Range: the server sends the whole file where it is no longer the one we began.
        request.add_header("Range", f"bytes={have}-")
        request.add_header("If-Range", mark.read_text(encoding="utf-8"))
    try:
        answer = opener.open(request, timeout=_TIMEOUT)
    except urllib.error.HTTPError as error:
        if error.code != _NOT_SATISFIABLE:
            raise
        error.close()
        partial.unlink()  # what is here is longer than the file: begin anew
        mark.unlink(missing_ok=True)
        _fetch(opener, url, partial, on_bytes)
        return
    with answer:
        continued = answer.status == _PARTIAL_CONTENT
        have = have if continued else 0
        length = answer.headers.get("Content-Length")
        total = have + int(length) if length is not None else None
        version = answer.headers.get("ETag") or answer.headers.get("Last-Modified")
        if version is not None and not version.startswith("W/"):
            write_text(mark, version)
        with os.fdopen(open_own(partial), "r+b") as file:
            file.truncate(have)
            file.seek(have)
            while block := answer.read(_BLOCK):
                _append(file, block, partial)
                have += len(block)
                on_bytes(have, total)
    if total is not None and have != total:
        raise http.client.IncompleteRead(b"", total - have)


def _append(file: BinaryIO, block: bytes, name: Path) -> None:
    """Write, and report errors of the disk as such, not as errors of the network."""
    try:
        file.write(block)
    except OSError as error:
        error.filename = name
        raise


def _mark(partial: Path) -> Path:
    """Which version of the file the partial one is of."""
    return partial.with_name(partial.name + ".version")


def _is_local(error: OSError) -> bool:
    """Whether the disk failed rather than the network."""
    return error.filename is not None and not isinstance(error, urllib.error.HTTPError)


def _reason(error: OSError | http.client.HTTPException) -> str:
    if isinstance(error, http.client.IncompleteRead):
        return f"the connection ended, {error.expected} bytes are missing"
    return str(getattr(error, "reason", None) or error) or type(error).__name__
