"""Data sets: files on disk to splits of tensors in memory; torch is imported only when one is built."""

from __future__ import annotations

import json
from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

from normtables.errors import UserError
from normtables.places import expanded
from normtables.registry import Registry

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from torch import Tensor

KEPT = 2  # data sets that a process keeps: a pool worker trains many runs on the same one


@dataclass(frozen=True, eq=False)
class Split:
    """Examples of one split: inputs float32 [N, ...] (or `pixels.Pixels`, read like one), targets int64 [N].

    Of a `Multilabel` set the targets are float32 [N, tasks]: 0, 1, or NaN where nothing is known.
    """

    inputs: Tensor
    targets: Tensor


@dataclass(frozen=True, eq=False)
class Dataset:
    """The three splits of a data set and its number of classes; nothing may write into the tensors, runs share them."""

    train: Split
    valid: Split
    test: Split
    classes: int


@dataclass(frozen=True, eq=False)
class Multilabel:
    """The three splits of a data set with a yes-or-no label for each of several tasks; nothing may write."""

    train: Split
    valid: Split
    test: Split


@dataclass(frozen=True, eq=False)
class Clips:
    """Recordings of one split, one behind the other: frames float32 [T, channels, bands], T the sum of the lengths;
    lengths (frames) and targets int64 [N]."""

    frames: Tensor
    lengths: Tensor
    targets: Tensor


@dataclass(frozen=True, eq=False)
class Recordings:
    """The three splits of a data set of recordings and its number of classes; as for `Dataset`, nothing may write."""

    train: Clips
    valid: Clips
    test: Clips
    classes: int


@dataclass(frozen=True, eq=False)
class Text:
    """The three splits of a text as numbers of symbols, int64 [N] each, and the symbols (words or characters)."""

    train: Tensor
    valid: Tensor
    test: Tensor
    symbols: tuple[str, ...]


@dataclass(frozen=True, eq=False)
class Domains:
    """Two domains with the same classes: labelled splits of the source, and the target's examples; nothing may write.

    train, valid: of the source. target: the target's examples that may be looked at without their labels (its targets
    are there for tests of the methods, no method may read them). test: the target's examples on which accuracy is
    taken; where a protocol is transductive, target and test are the same.
    """

    train: Split
    valid: Split
    target: Split
    test: Split
    classes: int


class Turn(NamedTuple):
    """What n games show after a step: frames uint8 [n, ...], rewards float32 [n], and [n] each: whether the game is
    over, whether it was cut off at its greatest length, and the lives that are left (0 where a game has none)."""

    frames: NDArray[Any]
    rewards: NDArray[Any]
    over: NDArray[Any]
    cut: NDArray[Any]
    lives: NDArray[Any]


class Play(Protocol):
    """Several games played at once. A game is a function of its seed and the actions since it began."""

    def reset(self, chosen: NDArray[Any], seeds: NDArray[Any]) -> Turn:
        """Begin anew the games chosen (bool [n], all at first) with a seed from 0 to 2^31 - 1 for each of them."""

    def step(self, actions: NDArray[Any]) -> Turn:
        """Take an action (int64) in each game; what a game that has ended does then means nothing."""


@dataclass(frozen=True, eq=False)
class Games:
    """A game to be learned by playing: frames of the shape `frame`, `stack` of which are an observation, the number of
    actions, the mean score of random actions (NaN: not known), and what plays so many games at once."""

    frame: tuple[int, ...]
    stack: int
    actions: int
    chance: float
    play: Callable[[int], Play]


Data = Dataset | Multilabel | Recordings | Text | Domains | Games
DATASETS: Registry[Data] = Registry("data set", "normtables.data")
"""Names to factories `f(root: Path, seed: int, *, ...)`: data root, data seed, the keys of conf/dataset/<name>.yaml."""

_kept: OrderedDict[str, Data] = OrderedDict()


def load(settings: Mapping[str, Any], root: Path, seed: int) -> Data:
    """The data set that `settings` (name, version, options; `task` is not looked at) describes, kept for the next call.

    Raises UserError for unknown names and settings and for missing or damaged files.
    """
    options = {key: value for key, value in settings.items() if key != "task"}
    root = expanded(root).absolute()
    key = json.dumps([options, str(root), seed], sort_keys=True)
    if key not in _kept:
        while len(_kept) >= KEPT:
            _kept.popitem(last=False)  # before building, so that no more than KEPT are ever in memory
        try:
            _kept[key] = DATASETS.build(options, root, seed)
        except OSError as error:
            where = f"cannot read {error.filename}: " if error.filename else ""
            raise UserError(f"data set {settings.get('name')!r}: {where}{error.strerror or error}") from error
    _kept.move_to_end(key)
    return _kept[key]
