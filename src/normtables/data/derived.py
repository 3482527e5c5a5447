"""Files made once from a data root's files: arrays, verdicts on checksums (standard library; NumPy for arrays)."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from normtables.places import user_cache

if TYPE_CHECKING:
    from numpy.typing import NDArray


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


def array(root: Path, name: str, make: Callable[[], NDArray[Any]]) -> NDArray[Any]:
    """The array kept as `name`, else made and kept; mapped from the disk, so that processes share its memory.

    Nothing written to the array reaches the file. One that cannot be read is made again.
    """
    if (found := mapped(root, name)) is not None:
        return found
    made = make()
    store(root, name, lambda path: _save(path, made))
    found = mapped(root, name)
    return made if found is None else found


def mapped(root: Path, name: str) -> NDArray[Any] | None:
    """The array kept as `name`, mapped copy-on-write; None where there is none that can be read."""
    import numpy as np  # here, so that the commands that only look at files stay quick

    for folder in folders(root):
        with contextlib.suppress(OSError, ValueError, EOFError):
            return np.asarray(np.load(folder / name, mmap_mode="c"))
    return None


def _save(path: Path, made: NDArray[Any]) -> None:
    import numpy as np

    with path.open("wb") as file:
        np.save(file, made)
