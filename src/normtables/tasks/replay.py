"""What an agent remembers: its newest transitions, as single frames in a memory-mapped ring, read as stacks."""

import os
import shutil
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from normtables.errors import UserError

GOES_ON, TERMINAL, CUT = 0, 1, 2  # after a transition: the game goes on; nothing more to win; nothing known
SLACK = 32  # one part in so many of the ring lies beyond the transitions that are learned from


class Sample(NamedTuple):
    """n transitions: frames uint8 [n, stack + 1, ...], the first `stack` of them the observation, the last ones the
    next; actions int64 [n], rewards float32 [n], and whether a transition is terminal, [n]: then the next means
    nothing."""

    frames: NDArray[Any]
    actions: NDArray[Any]
    rewards: NDArray[Any]
    terminal: NDArray[Any]


class Replay:
    """The newest `capacity` transitions of `games` games played at once, one row for each step of all of them.

    Row `count` holds the newest frames, whose actions are still to come. The ring is longer than what is learned from:
    a checkpoint's rows are whole until `slack` (at least `least`) more are written, so a run can go on from it. Raises
    UserError where the file cannot be made.
    """

    def __init__(self, path: Path, frame: tuple[int, ...], stack: int, games: int, capacity: int, least: int) -> None:
        self.path, self.stack, self.games, self.rows = path, stack, games, max(1, capacity // games)
        self.slack = max(least, self.rows // SLACK)
        self.size = self.rows + stack + self.slack
        fields = [("frame", "u1", frame), ("action", "u1"), ("end", "u1"), ("reward", "f4")]
        self.kind = np.dtype(fields, align=True)
        self.bytes = self.size * games * self.kind.itemsize
        self.count = 0
        self.kept: int | None = None  # rows written when a checkpoint was made last

    def begin(self, frames: NDArray[Any]) -> None:
        """Make the file, for the first frames [games, ...]."""
        self.path.unlink(missing_ok=True)  # of a process that was killed before its first checkpoint
        free = shutil.disk_usage(self.path.parent).free
        if free < self.bytes:
            raise self.refused(f"{free / 1e9:.2f} GB are free")
        try:
            with self.path.open("wb") as file:
                if hasattr(os, "posix_fallocate"):  # a full disk is told now, not by a signal later
                    os.posix_fallocate(file.fileno(), 0, self.bytes)
                file.truncate(self.bytes)
        except OSError as error:
            self.path.unlink(missing_ok=True)
            raise self.refused(str(error.strerror)) from error
        self.map()
        self.frames[0] = frames

    def refused(self, why: str) -> UserError:
        """What is said where the file cannot be made."""
        return UserError(
            f"the replay memory needs {self.bytes / 1e9:.2f} GB in {self.path.parent}: {why}; "
            "choose another folder with results=DIR or a smaller dataset.task.replay"
        )

    def resume(self, count: int) -> None:
        """Go on behind `count` rows with the file as it is; raises UserError where it is not the one."""
        if not self.path.exists() or self.path.stat().st_size != self.bytes:
            raise UserError(
                f"{self.path} is missing or damaged; delete the checkpoint beside it to start the run again"
            )
        self.map()
        self.count = self.kept = count

    def map(self) -> None:
        """Open the file."""
        self.file = np.memmap(self.path, self.kind, "r+", shape=(self.size, self.games))
        whole = np.asarray(self.file)  # a plain array is faster to index
        self.frames, self.actions, self.ends, self.rewards = (whole[n] for n in ("frame", "action", "end", "reward"))

    def add(self, actions: NDArray[Any], rewards: NDArray[Any], ends: NDArray[Any], frames: NDArray[Any]) -> None:
        """Complete the newest row with what was done [games] and what came of it, and begin the next with its frames;
        where a game ended they are those of a new one."""
        assert self.kept is None or self.count < self.kept + self.slack, "a checkpoint was due"
        row = self.count % self.size
        self.actions[row], self.rewards[row], self.ends[row] = actions, rewards, ends
        self.count += 1
        self.frames[self.count % self.size] = frames

    def due(self) -> bool:
        """Whether half of the slack behind the last checkpoint is written."""
        return self.kept is not None and 2 * (self.count - self.kept) >= self.slack

    def keep(self) -> int:
        """The rows written, which from now on are not overwritten but for the slack; all are on disk."""
        self.file.flush()
        self.kept = self.count
        return self.count

    def sample(self, n: int, draw: np.random.Generator) -> Sample:
        """`n` of the newest transitions, drawn independently and uniformly; those cut off are left out."""
        oldest = max(0, self.count - self.rows)
        total = (self.count - oldest) * self.games
        chosen, cut = np.empty(n, np.int64), np.arange(n)
        while len(cut):
            chosen[cut] = draw.integers(total, size=len(cut))
            rows, games = oldest + chosen // self.games, chosen % self.games
            cut = np.flatnonzero(self.ends[rows % self.size, games] == CUT)
        slots = rows % self.size
        actions, rewards = self.actions[slots, games].astype(np.int64), self.rewards[slots, games]
        return Sample(self.windows(rows, games), actions, rewards, self.ends[slots, games] == TERMINAL)

    def windows(self, rows: NDArray[Any], games: NDArray[Any]) -> NDArray[Any]:
        """The frames of each row, the `stack` - 1 before it and the one behind it [n, stack + 1, ...]; zeros for those
        before the beginning (the file holds nothing there) or the last end before the row."""
        around, column = rows[:, None] + np.arange(1 - self.stack, 2), games[:, None]
        frames = self.frames[around % self.size, column]
        ended = self.ends[around[:, :-2] % self.size, column] != GOES_ON
        if ended.any():
            frames[:, :-2][np.logical_or.accumulate(ended[:, ::-1], 1)[:, ::-1]] = 0
        return frames

    def newest(self) -> NDArray[Any]:
        """What there is to see now, [games, stack, ...]."""
        return self.windows(np.full(self.games, self.count), np.arange(self.games))[:, :-1]

    def close(self) -> None:
        """Remove the file."""
        self.path.unlink(missing_ok=True)
