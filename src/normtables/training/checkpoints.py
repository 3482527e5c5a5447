"""The file from which an interrupted run goes on, with a checksum behind it."""

import io
import os
import zlib
from pathlib import Path
from typing import Any

import torch

from normtables.errors import UserError
from normtables.world import World


def read(path: Path, run: str, device: torch.device, world: World) -> dict[str, Any] | None:
    """What a run's checkpoint holds, None where there is none; raises UserError for one that cannot be read.

    The first process reads it for all, as another machine may still see an older file or none.
    """
    content = world.first(lambda: bytes_of(path))
    if content is None:
        return None
    try:
        body, digest = content[:-4], int.from_bytes(content[-4:])
        if zlib.crc32(body) != digest:
            raise ValueError("its checksum is wrong")
        state = torch.load(io.BytesIO(body), map_location=device, weights_only=True)
        if state["run"] != run:
            raise ValueError(f"it belongs to run {state['run']}")
    except Exception as error:
        raise damaged(path, error) from error
    return state


def bytes_of(path: Path) -> bytes | None:
    """A file's content, None where there is no such file."""
    try:
        return path.read_bytes()
    except FileNotFoundError:
        return None
    except OSError as error:
        raise damaged(path, error) from error


def write(path: Path, state: dict[str, Any]) -> None:
    """Write a checkpoint in one move."""
    buffer = io.BytesIO()
    torch.save(state, buffer)
    body, part = buffer.getvalue(), path.with_name(f"{path.name}.{os.getpid()}.part")
    try:
        part.write_bytes(body + zlib.crc32(body).to_bytes(4))
        part.replace(path)
    except OSError as error:
        part.unlink(missing_ok=True)
        raise UserError(f"cannot write {path}: {error.strerror}; free space, and the same command goes on") from error


def damaged(path: Path, error: Exception) -> UserError:
    """What is said of a checkpoint that cannot be taken up."""
    first = (str(error).splitlines() or [type(error).__name__])[0]
    return UserError(f"{path} is damaged ({first}); delete it to start the run again")
