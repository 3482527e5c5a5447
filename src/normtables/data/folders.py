"""Folders of many small files, checked as one: how many there are, and a digest of all (standard library only)."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol


class Group(Protocol):
    """Files inside a layout's folder that are too many to name."""

    def found(self, base: Path) -> list[Path]:
        """What is there, files or folders."""

    def flaw(self, root: Path, base: Path) -> tuple[str, bool] | None:
        """What is wrong, and whether that is damage (not just missing); None for whole ones."""


@dataclass(frozen=True)
class Folder:
    """The files that match a pattern such as "recordings/*.wav": their number and digest.

    The digest is what `sha256sum * | sha256sum` prints in their folder; "" where nobody has told it.
    """

    pattern: str
    files: int
    digest: str = ""

    def found(self, base: Path) -> list[Path]:
        """The files that are there, by name."""
        return sorted(base.glob(self.pattern))

    def flaw(self, root: Path, base: Path) -> tuple[str, bool] | None:
        """What is wrong with them, and whether that is damage (not just missing); None for whole ones."""
        paths, where = self.found(base), base / self.pattern
        if not paths:
            return f"{where} is missing", False
        if len(paths) != self.files:
            return f"{where} is damaged: there are {len(paths):,} files, there should be {self.files:,}", True
        if self.digest and (digest := digest_of(paths)) != self.digest:
            return f"{where} is damaged: its files have sha256 {digest}, they should have {self.digest}", True
        return None


def digest_of(paths: list[Path]) -> str:
    """The sha256 of the lines `sha256 of the content, two spaces, name`."""
    whole = hashlib.sha256()
    for path in paths:
        whole.update(f"{hashlib.sha256(path.read_bytes()).hexdigest()}  {path.name}\n".encode())
    return whole.hexdigest()
