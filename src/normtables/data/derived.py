"""Files made once from a data root's files: parsed arrays, verdicts on checksums (standard library only)."""

import contextlib
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from normtables.places import user_cache


def folders(root: Path) -> list[Path]:
    """Where derived files of a data root may lie: in the root, or in the user's cache when that is read-only."""
    return [root / ".cache", user_cache() / "derived"]


def exists(root: Path, name: str) -> bool:
    """Whether a derived file is there."""
    return any((folder / name).exists() for folder in folders(root))


def store(root: Path, name: str, write: Callable[[Path], Any]) -> None:
    """Let `write(path)` make the derived file `name`, atomically, in the first folder that takes it, if any."""
    for folder in folders(root):
        part = folder / f".{os.getpid()}.{name}"
        try:
            folder.mkdir(parents=True, exist_ok=True)
            write(part)
            part.replace(folder / name)
            return
        except OSError:
            with contextlib.suppress(OSError):
                part.unlink(missing_ok=True)
