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

    A transition's place is row x games + game; place modulo `places` is where it stands in the ring. Row `count` holds
    the newest frames, whose actions are still to come. The ring is longer than what is learned from: a checkpoint's
    rows are whole until `slack` (at least `least`) more are written, so a run can go on from it. Raises UserError where
    the file cannot be made.
    """

    def __init__(self, path: Path, frame: tuple[int, ...], stack: int, games: int, capacity: int, least: int) -> None:
        self.path, self.stack, self.games, self.rows = path, stack, games, max(1, capacity // games)
        self.slack = max(least, self.rows // SLACK)
        self.size = self.rows + stack + self.slack
        fields = [("frame", "u1", frame), ("action", "u1"), ("end", "u1"), ("reward", "f4")]
        self.kind = np.dtype(fields, align=True)
        self.places = self.size * games
        self.bytes = self.places * self.kind.itemsize
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
        self.frames[self.row(0)] = frames

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
        self.file = np.memmap(self.path, self.kind, "r+", shape=(self.places,))
        whole = np.asarray(self.file)  # a plain array is faster to index
        self.frames, self.actions, self.ends, self.rewards = (whole[n] for n in ("frame", "action", "end", "reward"))

    def add(self, actions: NDArray[Any], rewards: NDArray[Any], ends: NDArray[Any], frames: NDArray[Any]) -> None:
        """Complete the newest row with what was done [games] and what came of it, and begin the next with its frames;
        where a game ended they are those of a new one."""
        assert self.kept is None or self.count < self.kept + self.slack, "a checkpoint was due"
        now = self.row(self.count)
        self.actions[now], self.rewards[now], self.ends[now] = actions, rewards, ends
        self.count += 1
        self.frames[self.row(self.count)] = frames

    def row(self, number: int) -> slice:
        """Where a row stands in the ring."""
        start = number % self.size * self.games
        return slice(start, start + self.games)

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
        oldest = max(0, self.count - self.rows) * self.games
        total = self.count * self.games - oldest
        chosen, cut = np.empty(n, np.int64), np.arange(n)
        while len(cut):
            chosen[cut] = oldest + draw.integers(total, size=len(cut))
            places = chosen % self.places
            ends = self.ends[places]
            cut = np.flatnonzero(ends == CUT)
        actions = self.actions[places].astype(np.int64)
        return Sample(self.windows(places), actions, self.rewards[places], ends == TERMINAL)

    def windows(self, places: NDArray[Any]) -> NDArray[Any]:
        """The frames at each place, the `stack` - 1 of its game before it and the one behind it [n, stack + 1, ...];
        zeros for those before the beginning (the file holds nothing there) or the last end before the place."""
        around = (places[:, None] + self.games * np.arange(1 - self.stack, 2)) % self.places
        frames = self.frames[around]
        ended = self.ends[around[:, :-2]] != GOES_ON
        if ended.any():
            frames[:, :-2][np.logical_or.accumulate(ended[:, ::-1], 1)[:, ::-1]] = 0
        return frames

    def newest(self) -> NDArray[Any]:
        """What there is to see now, [games, stack, ...]."""
        return self.windows(self.count * self.games + np.arange(self.games))[:, :-1]

    def close(self) -> None:
        """Remove the file."""
        self.path.unlink(missing_ok=True)
