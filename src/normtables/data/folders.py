"""Folders of many small files, checked as one: how many there are, and a digest of all (standard library only)."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Folder:
    """The files inside a layout's folder that match a pattern such as "recordings/*.wav": their number and digest.

    The digest is what `sha256sum * | sha256sum` prints in their folder; "" where nobody has told it.
    """

    pattern: str
    files: int
    digest: str = ""


def found(base: Path, folder: Folder) -> list[Path]:
    """The files that are there, by name."""
    return sorted(base.glob(folder.pattern))


def flaw(base: Path, folder: Folder) -> tuple[str, bool] | None:
    """What is wrong with a folder's files, and whether they are damaged (not just missing); None for whole ones."""
    paths, where = found(base, folder), base / folder.pattern
    if not paths:
        return f"{where} is missing", False
    if len(paths) != folder.files:
        return f"{where} is damaged: there are {len(paths):,} files, there should be {folder.files:,}", True
    if folder.digest and (digest := digest_of(paths)) != folder.digest:
        return f"{where} is damaged: its files have sha256 {digest}, they should have {folder.digest}", True
    return None


def digest_of(paths: list[Path]) -> str:
    """The sha256 of the lines `sha256 of the content, two spaces, name`."""
    whole = hashlib.sha256()
    for path in paths:
        whole.update(f"{hashlib.sha256(path.read_bytes()).hexdigest()}  {path.name}\n".encode())
    return whole.hexdigest()
