"""The thin entry behind `normtables run`: what Hydra and its launchers pickle. Imports no torch before a run starts."""

import os
import sys
from collections.abc import Sequence
from typing import Any

import hydra
from omegaconf import DictConfig, OmegaConf

from normtables.config import MACHINE, Composer, Settings, register_schema, require_checkout
from normtables.errors import UserError
from normtables.places import CONF


def run(arguments: Sequence[str]) -> None:
    """`normtables run ARGUMENTS`: check every setting first; one run is made here, a sweep is handed to Hydra."""
    require_checkout()
    register_schema()
    words, folders = without_folders(arguments)
    settings = [w for w in words if not w.startswith("-") and w not in ("job", "hydra", "all")]
    if not any(word.startswith("+sweep=") for word in words):  # a sweep file's settings come first: checked there
        configs = check(settings, folders)
        if len(settings) == len(words):
            if len(configs) > 1:
                raise UserError(f"these settings make {len(configs)} runs: add -m for a sweep")
            make(configs[0])
            return
    os.environ["HYDRA_FULL_ERROR"] = "1"  # errors come to us, not to Hydra's printer
    before, sys.argv = sys.argv, ["normtables run", *for_hydra(words, settings, folders)]
    try:
        job()
    finally:
        sys.argv = before


def for_hydra(words: Sequence[str], settings: Sequence[str], folders: Sequence[str]) -> list[str]:
    """The words as Hydra gets them; in a sweep the settings go to the sweeper, not into the sweep's own defaults."""
    search = [f"hydra.searchpath=[{','.join('file://' + f for f in folders)}]"] if folders else []
    if not any(word in ("-m", "--multirun") for word in words) and not any(w.startswith("+sweep=") for w in words):
        return [*words, *search]
    ours = [w for w in settings if not w.startswith(("hydra.", "hydra/", "+hydra", "+sweep="))]
    kept = [w for w in words if w not in ours or w.startswith("results=")]
    quoted = ",".join("'" + w.replace("\\", "\\\\").replace("'", "\\'") + "'" for w in ours)
    return [*kept, *search, f"hydra.sweeper.settings=[{quoted}]"]


def without_folders(arguments: Sequence[str]) -> tuple[list[str], list[str]]:
    """The words without `--conf-dir DIR`, and those folders."""
    words, folders = [], []
    rest = iter(arguments)
    for word in rest:
        if word == "--conf-dir":
            folders.append(os.path.abspath(next(rest, "")))
        else:
            words.append(word)
    return words, folders


def check(settings: Sequence[str], folders: Sequence[str]) -> list[DictConfig]:
    """The configuration of every run that the settings ask for; raises UserError for the first that cannot be."""
    from normtables.sweep import grid

    composer = Composer(folders)
    return [composer.config(point) for point in grid(settings, composer)]


@hydra.main(config_path=str(CONF), config_name="config", version_base="1.3")
def job(cfg: DictConfig) -> str:
    """One run of a sweep, from the frozen configuration that it names; the record's status."""
    return make(cfg)


def make(cfg: DictConfig) -> str:
    """Make a run and show it; the record's status."""
    from normtables.progress import board
    from normtables.training.run import execute

    if cfg.frozen:
        cfg = thaw(cfg)
    with board(1) as shown:
        record = execute(cfg, shown.row)
        shown.end(record.id, record.status, record.reason, record.final, record.facts["seconds"])
    return record.status


def thaw(cfg: DictConfig) -> DictConfig:
    """The configuration kept in the file that `frozen` names; raises UserError where it cannot be read.

    The config.yaml in a run's folder says nothing of the machine: paths, device and tracker are those given beside it.
    """
    here = {key: cfg[key] for key in MACHINE if key != "frozen"}
    try:
        kept: Any = OmegaConf.load(cfg.frozen)
        for key in ("budget", "evaluate"):
            if isinstance(kept[key], DictConfig):
                [(unit, amount)] = kept[key].items()
                kept[key] = f"{amount}{unit}"
        return OmegaConf.merge(OmegaConf.structured(Settings), here, kept)  # type: ignore[return-value]
    except Exception as error:
        raise UserError(f"frozen={cfg.frozen}: {(str(error).splitlines() or ['cannot be read'])[0]}") from error
