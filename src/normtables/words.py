"""The words behind `normtables run`: which are settings of runs, which are Hydra's, and the grid they span."""

import fnmatch
import hashlib
import itertools
import json
import os
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Glob, Override, QuotedString
from hydra.errors import HydraException

from normtables.config import GROUPS, Composer
from normtables.errors import UserError

Settings = dict[str, Any]
MANY, DRY = ("-m", "--multirun"), "--dry-run"
RESULTS = "results"


@dataclass(frozen=True)
class Asked:
    """What the words behind `normtables run` ask for: settings of runs, words for Hydra, folders of YAML, a sweep, and
    the folder of results where they name one."""

    words: tuple[str, ...]
    settings: tuple[str, ...]
    hydra: tuple[str, ...]
    folders: tuple[str, ...]
    sweep: str = ""
    many: bool = False
    dry: bool = False
    results: str = ""

    @property
    def title(self) -> str:
        """The sweep's name and a hash of all else that can change its runs, whatever the order of the settings."""
        said = [word for word in self.settings if key_of(word) != RESULTS]
        rest = [*sorted(said, key=key_of), *self.folders]
        digest = hashlib.sha256(json.dumps(rest).encode()).hexdigest()[:8]
        return "_".join(filter(None, (self.sweep, digest if rest or not self.sweep else "")))


def read(words: Sequence[str]) -> Asked:
    """The words in their kinds; raises UserError for two sweeps at once and for results in no folder or in several."""
    settings, hydra, folders, sweeps, rest = [], [], [], [], iter(words)
    for word in rest:
        key, value = key_of(word), word.partition("=")[2]
        if word == "--conf-dir":
            folders.append(os.path.abspath(next(rest, "")))
        elif key == "sweep":
            sweeps.append(value)
        elif word.startswith("-") or key in ("job", "hydra", "all") or key.startswith(("hydra.", "hydra/")):
            hydra.append(word)
        else:
            settings.append(word)
    if len(sweeps) > 1:
        raise UserError(f"sweep={','.join(sweeps)}: one sweep at a time")
    return Asked(
        words=tuple(words),
        settings=tuple(settings),
        hydra=tuple(word for word in hydra if word not in (*MANY, DRY)),
        folders=tuple(folders),
        sweep="".join(sweeps),
        many=bool(sweeps) or any(word in hydra for word in MANY),
        dry=DRY in hydra,
        results=folder_of([word for word in settings if key_of(word) == RESULTS]),
    )


def key_of(word: str) -> str:
    """The setting that a word is about."""
    return word.lstrip("+~").partition("=")[0]


def folder_of(words: Sequence[str]) -> str:
    """The folder of results that the last of these words names, nothing without words; raises UserError for no folder
    and for a grid of them."""
    said = parsed(words)
    for word in said:
        if word.is_sweep_override() or word.value() in ("", None):
            raise UserError(f"{word.input_line}: name one folder for all runs")
    return str(plain(said[-1].value())) if said else ""


def parsed(arguments: Sequence[str]) -> list[Override]:
    """Command-line words as Hydra's overrides; raises UserError for one that is none."""
    try:
        return OverridesParser.create().parse_overrides(list(arguments))
    except HydraException as error:
        why = re.sub(r"^\w+Exception: ", "", str(error).splitlines()[0])
        raise UserError(
            f"{why}; settings are written key=value, for instance norm=bn optim.lr=0.1, "
            "and text with ^, ~ or spaces in two kinds of quotes: norm.alpha=\"'1/m^2'\""
        ) from error


def plain(value: Any) -> Any:
    """A parsed value without Hydra's wrappers."""
    if isinstance(value, QuotedString):
        return value.text
    if isinstance(value, list):
        return [plain(v) for v in value]
    return {str(k): plain(v) for k, v in value.items()} if isinstance(value, dict) else value


def values(override: Override, composer: Composer) -> list[Any]:
    """The values an override stands for, one or several; raises UserError for none and for what a grid cannot take."""
    if override.is_delete():
        raise UserError(f"{override.input_line}: settings can be set, not deleted")
    found = list(taken(override, composer))
    if not found:
        raise UserError(f"{override.input_line}: that is no value at all, and so no run")
    return found


def taken(override: Override, composer: Composer) -> Iterator[Any]:
    """The values as the override lists them."""
    if not override.is_sweep_override():
        yield plain(override.value())
    elif isinstance(override.value(), Glob):
        names = composer.choices(override.key_or_group)
        glob: Any = override.value()
        found = [n for n in names if any(fnmatch.fnmatch(n, p) for p in glob.include)]
        yield from (n for n in found if not any(fnmatch.fnmatch(n, p) for p in glob.exclude))
    elif override.is_discrete_sweep():
        yield from map(plain, override.sweep_iterator())
    else:
        raise UserError(f"{override.input_line}: a grid takes lists, choice(), range() and glob()")


def grid(arguments: Sequence[str], composer: Composer) -> list[Settings]:
    """Every combination of the values, the last argument varying fastest."""
    ours = parsed(arguments)
    keys = [o.key_or_group for o in ours]
    chosen = itertools.product(*(values(o, composer) for o in ours))
    return [{k: str(v) if k in GROUPS else v for k, v in zip(keys, point)} for point in chosen]
