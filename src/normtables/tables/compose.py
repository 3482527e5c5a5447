"""The facts of many similar runs, quickly: what each plain setting changes is composed once, the rest is merging."""

import json
from collections.abc import Iterator, Mapping
from typing import Any

from normtables.config import GROUPS, Composer, facts

Changes = list[tuple[tuple[str, ...], Any]]


class Facts:
    """Composes once per set of group choices and once per plain setting on it (4 ms each), then merges plain data.

    Sound because settings act on each other only through interpolation: two settings that touch the same fact (one of
    them may leave it as it was) are composed together in full.
    """

    def __init__(self, composer: Composer) -> None:
        self.composer = composer
        self._bases: dict[str, dict[str, Any]] = {}
        self._changes: dict[str, Changes] = {}

    def of(self, settings: Mapping[str, Any]) -> dict[str, Any]:
        """The facts of a run with these settings; UserError for what is unknown or ill-typed."""
        groups = {key: value for key, value in settings.items() if key in GROUPS}
        single = {key: self._changed(groups, key, value) for key, value in settings.items() if key not in GROUPS}
        touched = [{(*key.split("."),), *(path for path, _ in changes)} for key, changes in single.items()]
        if overlap(touched):
            return facts(self.composer.config(settings))
        merged = copied(self._base(groups))
        for changes in single.values():
            for path, value in changes:
                node = merged
                for part in path[:-1]:
                    node = node[part]
                node[path[-1]] = value
        return merged

    def _base(self, groups: Mapping[str, Any]) -> dict[str, Any]:
        key = json.dumps(groups, sort_keys=True, default=str)
        if key not in self._bases:
            self._bases[key] = facts(self.composer.config(groups))
        return self._bases[key]

    def _changed(self, groups: Mapping[str, Any], key: str, value: Any) -> Changes:
        spelled = json.dumps([groups, key, value], sort_keys=True, default=str)
        if spelled not in self._changes:
            known = facts(self.composer.config({**groups, key: value}))
            self._changes[spelled] = list(changes(self._base(groups), known))
        return self._changes[spelled]


def changes(before: Any, after: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    """Paths and new values where two facts differ; mappings with other keys are replaced whole."""
    if isinstance(before, dict) and isinstance(after, dict) and before.keys() == after.keys():
        for key in before:
            yield from changes(before[key], after[key], (*path, key))
    elif json.dumps(before, sort_keys=True) != json.dumps(after, sort_keys=True):
        yield path, after


def overlap(touched: list[set[tuple[str, ...]]]) -> bool:
    """Whether two of these sets of paths hold the same path, or one that lies inside another's."""
    owner: dict[tuple[str, ...], int] = {}
    for i, paths in enumerate(touched):
        if any(owner.setdefault(path, i) != i for path in paths):
            return True
    return any(owner.get(path[:n], i) != i for path, i in owner.items() for n in range(1, len(path)))


def copied(value: Any) -> Any:
    """Plain nested mappings copied; lists are shared, nobody changes them."""
    return {key: copied(v) for key, v in value.items()} if isinstance(value, dict) else value
