"""Which of the processes that make a run together this one is, as torchrun tells it. Standard library only."""

import os
from collections.abc import Sequence

from normtables.errors import UserError

SYNCHRONISED, PER_DEVICE = "synchronised", "per_device"  # whose examples batch statistics are taken over


def size() -> int:
    """How many processes make a run together; 1 where nothing says otherwise."""
    return told("WORLD_SIZE") if "WORLD_SIZE" in os.environ else 1


def rank() -> int:
    """The number of this process among all of them; the first one, 0, writes what the run leaves."""
    return told("RANK") if size() > 1 else 0


def local_rank() -> int:
    """The number of this process among those on its machine."""
    return told("LOCAL_RANK") if size() > 1 else 0


_met = False


def meet() -> None:
    """From now on the processes agree on which of them tells an error."""
    global _met
    _met = True


def speaks() -> bool:
    """Whether an error here is told by this process: before the processes have met, by the first on each machine."""
    return _met or os.environ.get("WORLD_SIZE", "1") == "1" or os.environ.get("LOCAL_RANK", "0") == "0"


def told(name: str) -> int:
    """A whole number of the environment; raises UserError where it is missing or none."""
    text = os.environ.get(name, "")
    if not text.isdecimal() or (name == "WORLD_SIZE" and not int(text)):
        raise UserError(f"{name}={text!r} in the environment: start a run of several processes with torchrun")
    return int(text)


def check_command(arguments: Sequence[str]) -> None:
    """Raise UserError for anything but one run where several processes were started."""
    several = any(word in ("-m", "--multirun") or word.startswith("+sweep=") for word in arguments)
    if size() > 1 and (list(arguments[:1]) != ["run"] or several):
        raise UserError("torchrun's processes make one run together: normtables run SETTINGS, without -m")
