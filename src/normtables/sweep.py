"""`normtables run`: command-line words to runs; a grid or a table's runs, frozen, to any Hydra launcher."""

import fnmatch
import hashlib
import itertools
import json
import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Glob, Override, QuotedString
from hydra.errors import HydraException
from hydra.plugins.launcher import Launcher
from omegaconf import DictConfig, OmegaConf

from normtables.config import GROUPS, Composer, run_id
from normtables.errors import UserError
from normtables.progress import say
from normtables.records import DONE, Store, write_whole

Settings = dict[str, Any]


class Unfinished(Exception):
    """Some runs failed; the text names each with its reason and the command that makes it again. Exit status 1."""


def parsed(arguments: Sequence[str]) -> list[Override]:
    """Command-line words as Hydra's overrides; raises UserError for one that is none."""
    try:
        return OverridesParser.create().parse_overrides(list(arguments))
    except HydraException as error:
        raise UserError(
            f"{str(error).splitlines()[0]}; settings are written key=value, for instance norm=bn optim.lr=0.1, "
            "and text with ^ or spaces in two kinds of quotes: norm.alpha=\"'1/m^2'\""
        ) from error


def plain(value: Any) -> Any:
    """A parsed value without Hydra's wrappers."""
    if isinstance(value, QuotedString):
        return value.text
    if isinstance(value, list):
        return [plain(v) for v in value]
    return {str(k): plain(v) for k, v in value.items()} if isinstance(value, dict) else value


def is_ours(override: Override) -> bool:
    """Whether an override is a setting of a run, neither Hydra's own nor the choice of a sweep file."""
    key = override.key_or_group
    return key not in ("hydra", "sweep") and not key.startswith(("hydra.", "hydra/"))


def values(override: Override, composer: Composer) -> list[Any]:
    """The values an override stands for, one or several; raises UserError for what a grid cannot take."""
    if override.is_delete():
        raise UserError(f"{override.input_line}: settings can be set, not deleted")
    if not override.is_sweep_override():
        return [plain(override.value())]
    if isinstance(override.value(), Glob):
        names = composer.choices(override.key_or_group)
        glob: Any = override.value()
        found = [n for n in names if any(fnmatch.fnmatch(n, p) for p in glob.include)]
        return [n for n in found if not any(fnmatch.fnmatch(n, p) for p in glob.exclude)]
    if not override.is_discrete_sweep():
        raise UserError(f"{override.input_line}: a grid takes lists, choice(), range() and glob()")
    return [plain(v) for v in override.sweep_iterator()]


def grid(arguments: Sequence[str], composer: Composer) -> list[Settings]:
    """Every combination of the values, the last argument varying fastest."""
    ours = [o for o in parsed(arguments) if is_ours(o)]
    keys = [o.key_or_group for o in ours]
    chosen = itertools.product(*(values(o, composer) for o in ours))
    return [{k: str(v) if k in GROUPS else v for k, v in zip(keys, point)} for point in chosen]


def with_table(table: int | str, points: list[Settings], composer: Composer) -> list[Settings]:
    """The runs of a table, each with each point of the grid on top; `tier` comes from the points, laptop by default."""
    from normtables.tables.plan import plan
    from normtables.tables.spec import load

    spec = load(table)
    found = []
    for point in points:
        runs = plan(spec, str(point.get("tier", "laptop")), composer).runs.values()
        found += [{**run.settings, **point} for run in runs]
    return found


def sweep(
    arguments: Sequence[str], table: int | None, name: str | None, config: DictConfig, launcher: Launcher
) -> list[str]:
    """Make the runs that the arguments ask for and are not there yet; write the summary; the ids of all of them.

    Raises Unfinished at the end when runs failed.
    """
    folders = [str(path).removeprefix("file://") for path in config.hydra.searchpath]
    composer = Composer(folders)
    points = grid(arguments, composer)
    settings = with_table(table, points, composer) if table is not None else points
    configs: dict[str, tuple[DictConfig, Settings]] = {}
    spelled = json.dumps(sorted(arguments))
    title = name or (f"table_{table:02}" if table else hashlib.sha256(spelled.encode()).hexdigest()[:8])
    for chosen in settings:
        cfg = grouped(composer.config(chosen), title)
        configs.setdefault(run_id(cfg), (cfg, chosen))
    first = next(iter(configs.values()))[0]
    store = Store(first.results)
    folder = Path(first.results) / "sweeps" / title
    todo = [run for run in configs if store.state(run) not in DONE]
    say(f"{len(configs)} runs, {len(configs) - len(todo)} of them done already")
    jobs = [[f"frozen={freeze(configs[run][0], folder / 'configs' / f'{run}.yaml')}"] for run in todo]
    from normtables.report.manifest import Wanted, announced
    from normtables.report.sweep import summarise

    words = ["normtables", "run", "-m", *([f"+sweep=table_{table:02}"] if table is not None else []), *arguments]
    wanted = {run: Wanted(text) for run, text in labels({run: chosen for run, (_, chosen) in configs.items()}).items()}
    with announced(folder, shlex.join(words), 0, wanted) as told:
        outcomes = launcher.launch(jobs, 0) if jobs else []
        reasons = {run: one_line(outcome) for run, outcome in itertools.zip_longest(todo, outcomes)}
        failed = {run: why for run, why in reasons.items() if store.state(run) not in DONE}
        for run, why in failed.items():
            told.fail(run, why)
    say(f"summary: {summarise(list(configs), store, folder)}")
    report_failures(failed, folder)
    return list(configs)


def labels(runs: Mapping[str, Settings]) -> dict[str, str]:
    """What to call each run: the settings in which it differs from another, as in `norm=bn, seed=0`."""
    values: dict[str, set[str]] = {}
    for key, value in itertools.chain.from_iterable(chosen.items() for chosen in runs.values()):
        values.setdefault(key, set()).add(repr(value))
    differ = {key for key, found in values.items() if len(found) > 1}
    return {run: ", ".join(f"{k}={v}" for k, v in chosen.items() if k in differ) for run, chosen in runs.items()}


def grouped(cfg: DictConfig, group: str, *tags: str) -> DictConfig:
    """A configuration whose tracker, where it knows groups and has none, shows its runs under this one."""
    if cfg.tracker.get("group", "") is None:
        cfg.tracker.group, cfg.tracker.tags = group, [*cfg.tracker.tags, *tags]
    return cfg


def freeze(cfg: DictConfig, path: Path) -> Path:
    """Keep a whole configuration in a file, so that later edits of conf/ do not reach its run."""
    write_whole(path, OmegaConf.to_yaml(cfg, resolve=True))
    return path.resolve()


def one_line(outcome: Any) -> str:
    """Why a job returned nothing, in a line."""
    try:
        return f"ended as {outcome.return_value}"
    except BaseException as error:
        return (str(error).splitlines() or [type(error).__name__])[0]


def report_failures(reasons: dict[str, str], folder: Path) -> None:
    """Raise Unfinished when there is any."""
    if reasons:
        again = {run: f"normtables run frozen={folder / 'configs' / f'{run}.yaml'}" for run in reasons}
        lines = [f"{run}: {why}\n  again: {again[run]}" for run, why in reasons.items()]
        raise Unfinished("\n".join([f"{len(reasons)} runs failed:", *lines]))
