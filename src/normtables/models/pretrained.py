"""Networks that begin with published weights: torchvision's, trained on ImageNet, from files under the data root."""

from __future__ import annotations

import hashlib
import pickle
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor, nn

from normtables.errors import UserError
from normtables.places import expanded

Weights = Literal["none", "imagenet"]
UNCOUNTED = "num_batches_tracked"  # older files lack it, and no layer here reads it
ELSEWHERE = "point data.root=FOLDER or NORMTABLES_DATA at a copy"


@dataclass(frozen=True)
class Published:
    """A file of weights, <data root>/weights/<file>, and what of a network comes from it.

    The file's name ends with the first 8 digits of the sha256 of its content. fetch: what `normtables data fetch` calls
    it. rename: the file's name of a weight to the network's, "" for one that the network does not have. fresh:
    beginnings of names of layers that are new. norm: the method whose network it is.
    """

    file: str
    fetch: str
    rename: Callable[[str], str]
    fresh: tuple[str, ...]
    norm: str


def begin_with(model: nn.Module, published: Published) -> None:
    """Mark a network as one that begins with published weights; they come from their file with `load`."""
    setattr(model, "published", published)  # noqa: B010 (nn.Module declares no such attribute)


def load(model: nn.Module, root: Path) -> None:
    """Put the published weights into a network that asks for some; its new layers stay as they were drawn.

    Raises UserError for a file that is missing or damaged, and for one whose weights are not those of this network.
    """
    published: Published | None = getattr(model, "published", None)
    if published is None:
        return
    path = expanded(root) / "weights" / published.file
    named = {published.rename(name): value for name, value in read(path, published).items()}
    theirs = {name: value for name, value in named.items() if name and not name.startswith(published.fresh)}
    ours = {name: value for name, value in model.state_dict().items() if not name.startswith(published.fresh)}
    compare(ours, theirs, published)
    model.load_state_dict({name: value for name, value in theirs.items() if name in ours}, strict=False)


def read(path: Path, published: Published) -> Mapping[str, Tensor]:
    """The weights in a file, its digest checked."""
    help = f"run `normtables data fetch {published.fetch}`, or {ELSEWHERE}"
    if not path.is_file():
        raise UserError(f"model.weights=imagenet: {path} is missing; {help}; model.weights=none begins from scratch")
    beginning = path.stem.rpartition("-")[2]
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    if not digest.startswith(beginning):
        raise UserError(f"{path} is damaged: its sha256 begins {digest[:8]}, it should begin {beginning}; {help}")
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, RuntimeError, EOFError, ValueError) as error:
        raise UserError(f"{path} is damaged: {str(error).splitlines()[0]}; {help}") from error


def compare(ours: Mapping[str, Tensor], theirs: Mapping[str, Tensor], published: Published) -> None:
    """Raise UserError unless a network and a file have weights of the same names and shapes."""
    for name in [name for name in {**ours, **theirs} if not name.endswith(UNCOUNTED)]:
        here, there = (f"{tuple(state[name].shape)}" if name in state else "none" for state in (ours, theirs))
        if here != there:
            raise UserError(
                f"model.weights=imagenet: {name} is {here} in this network and {there} in {published.file}; the file is"
                f" for colour images, model.width=1 and norm={published.norm}, others train with model.weights=none"
            )
