"""Mistakes a user can make, told in one line."""

import difflib
from collections.abc import Iterable, Mapping
from typing import TypeVar

T = TypeVar("T")


class UserError(Exception):
    """A mistake that one line can explain; the command line prints that line and exits with status 2."""


class Elsewhere(UserError):
    """Another process of the same run failed first and tells it; this one ends in silence with that one's status."""

    def __init__(self, status: int) -> None:
        super().__init__("another process of this run failed")
        self.status = status


def nearest(name: str, names: Iterable[str]) -> str:
    """`; did you mean 'x'?` for the valid name closest to `name`, or nothing when none is close."""
    close = difflib.get_close_matches(str(name).lower(), {n.lower(): n for n in names}, n=1, cutoff=0.5)
    found = {n.lower(): n for n in names}
    return f"; did you mean {found[close[0]]!r}?" if close else ""


def lookup(table: Mapping[str, T], name: str, what: str) -> T:
    """`table[name]`; raises UserError that names the nearest and all valid names of this kind of thing (`what`)."""
    if name not in table:
        raise UserError(f"no {what} {name!r}{nearest(name, list(table))}; there are: {', '.join(sorted(table))}")
    return table[name]
