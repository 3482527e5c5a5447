"""Loading the files of data sets that are missing, checked before they take their place."""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import zlib
from collections.abc import Callable, Iterator
from http.client import HTTPException
from pathlib import Path
from tarfile import TarError

from normtables.data.files import OTHER_FOLDER, File, Place, Source, locate, paths, source, state
from normtables.errors import UserError
from normtables.places import expanded

TIMEOUT = 30  # seconds without an answer after which a download gives up
BROKEN = (OSError, RuntimeError, EOFError, HTTPException, TarError, zlib.error)  # what a download can raise


def fetch(name: str, root: Path) -> Place:
    """Download what is missing into the first layout under `root`, checked, and return the place.

    Raises UserError in one line when that cannot be done: embedded data, no network, a full disk, a wrong checksum.
    """
    found = source(name)
    if found is None:
        raise UserError(f"data set {name!r} is embedded: there is nothing to fetch")
    if found.of:
        raise UserError(f"data set {name!r} is made of others: fetch those you need of {', '.join(found.of)}")
    root = expanded(root)
    if state(name, root) == "present":
        return locate(name, root)
    layout = found.layouts[0]
    part = root / f".part-{name}-{os.getpid()}"
    try:
        part.mkdir(parents=True, exist_ok=True)
        with _patience():
            _fill(found, root, part)
        (root / layout.folder).mkdir(parents=True, exist_ok=True)
        for path in paths(part / layout.folder, layout):
            target = root / path.relative_to(part)
            target.parent.mkdir(parents=True, exist_ok=True)
            path.replace(target)
    except BROKEN as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        raise UserError(f"could not fetch {name!r} into {root}: {reason}; {_by_hand(root, found)}") from error
    finally:
        shutil.rmtree(part, ignore_errors=True)
    return locate(name, root)


def _by_hand(root: Path, found: Source) -> str:
    layout = found.layouts[0]
    if found.unpack:
        return OTHER_FOLDER
    what = f"unpack {found.archive.urls[0]}" if found.archive else f"put {', '.join(f.path for f in layout.files)}"
    into = root / found.into if found.archive else root / layout.folder
    return f"you can {what} into {into} by hand, or {OTHER_FOLDER}"


def _fill(found: Source, root: Path, part: Path) -> None:
    """Load the archive or the files into `part`, or let the source unpack what lies in its folder."""
    from torchvision.datasets import utils  # downloads with redirects, a progress bar and an md5 check

    if found.unpack:
        return found.unpack(root / found.layouts[0].folder)
    if found.archive:
        _from_any(
            found.archive,
            lambda url, a: utils.download_and_extract_archive(
                url, part, part / found.into, filename=a.path, md5=a.digest or None
            ),
        )
        return
    for file in found.layouts[0].files:
        folder = part / found.layouts[0].folder
        md5 = file.digest if len(file.digest) == 32 else None  # locate() checks a sha256 afterwards
        _from_any(file, lambda url, f: utils.download_url(url, folder, filename=f.path, md5=md5))  # noqa: B023


def _from_any(file: File, load: Callable[[str, File], None]) -> None:
    """Try a file's URLs in turn; raises the last one's error."""
    for url in file.urls[:-1]:
        try:
            return load(url, file)
        except BROKEN:
            continue
    return load(file.urls[-1], file)


@contextlib.contextmanager
def _patience() -> Iterator[None]:
    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(TIMEOUT)
    try:
        yield
    finally:
        socket.setdefaulttimeout(before)
