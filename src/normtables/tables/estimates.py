"""How long a run may take, judged by finished runs that are like it."""

import json
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from normtables.config import essential
from normtables.records import Store

Key = tuple[str, ...]


class Like(NamedTuple):
    """What similar runs share, in which units a budget carries over between them, and whether only roughly so."""

    key: Key
    units: tuple[str, ...] | None  # None: all
    rough: bool


class Estimate(NamedTuple):
    """Seconds on one worker, None where nothing like it has finished; `rough`: the runs behind it are on other data, or
    fits with other settings."""

    seconds: float | None
    rough: bool


def likes(known: Mapping[str, Any]) -> Iterator[Like]:
    """What a run shares with others, from fine to coarse.

    An update costs much the same on another part of a family of data sets; an epoch, or a fit, does not. Of a fit the
    settings change less than of a network its size, which may cost a hundred times as much or as little.
    """
    facts = essential(known)
    groups = [facts.get(group, {}) for group in ("model", "dataset", "norm")]
    names = tuple(str(group.get("name")) for group in groups)
    common = (*names, str(facts.get("batch_size")), str(facts.get("precision")))
    model, data, norm = (json.dumps(group, sort_keys=True) for group in groups)
    yield Like((*common, data, model, norm), None, False)
    yield Like((*common, data, model), None, False)
    yield Like((*common, model), ("step",), True)
    yield Like((*common, data), ("run",), True)


def rates(store: Store) -> dict[Key, float]:
    """Seconds per unit of budget ("run" where it is nothing) by what runs share, over a store's finished runs."""
    spent: dict[Key, tuple[float, float]] = {}
    for record in store.records():
        seconds, steps = record.facts.get("seconds", 0.0), record.facts.get("steps", 0)
        if record.status != "finished" or not seconds:
            continue
        amounts = {**record.config.get("budget", {}), "step": steps} if steps else {"run": 1}
        for like in likes(record.config):
            for unit in amounts if like.units is None else amounts.keys() & like.units:
                before = spent.get((*like.key, unit), (0.0, 0.0))
                spent[(*like.key, unit)] = (before[0] + seconds, before[1] + amounts[unit])
    return {key: seconds / amount for key, (seconds, amount) in spent.items()}


def estimate(known: Mapping[str, Any], found: Mapping[Key, float]) -> Estimate:
    """How long a run with these facts may take, from the finest rate that `rates` found."""
    [(unit, amount)] = known["budget"].items()
    for like in likes(known):
        rate = found.get((*like.key, unit if amount else "run"))
        if rate is not None:
            return Estimate(rate * (amount or 1), like.rough)
    return Estimate(None, False)
