"""The thin entry behind `normtables run`: what Hydra and its launchers pickle. Imports no torch before a run starts."""

import json
import os
import sys
from collections.abc import Sequence
from typing import Any, NoReturn

import hydra
from hydra._internal.utils import get_args_parser
from hydra.core.config_store import ConfigStore
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf

from normtables.config import Composer, one_line, require_checkout
from normtables.errors import UserError
from normtables.places import CONF
from normtables.schema import register_schema
from normtables.sweep import planned, show, thaw
from normtables.words import Asked, read

FROZEN = "frozen"


def run(arguments: Sequence[str]) -> None:
    """`normtables run ARGUMENTS`: check every setting first; one run is made here, a sweep is handed to Hydra."""
    require_checkout()
    register_schema()
    asked = read(arguments)
    if asked.dry or not asked.many:
        runs = planned(asked, Composer(asked.folders))
        if len(runs) > 1 and not asked.many:
            raise UserError(f"these settings make {len(runs)} runs: add -m for a sweep")
        if asked.dry:
            show(runs)
            return
        if not asked.hydra:
            make(next(iter(runs.values())).config)
            return
    through_hydra(asked)


def check_flags(words: Sequence[str]) -> None:
    """UserError for an option that Hydra does not have; it would print all of its own."""
    parser = get_args_parser()

    def refuse(message: str) -> NoReturn:
        raise UserError(f"run: {message}; see normtables run --help")

    parser.error = refuse  # type: ignore[method-assign]
    parser.parse_args(list(words))


def through_hydra(asked: Asked) -> None:
    """Give the words to Hydra, which makes the launcher and then calls the sweeper."""
    check_flags(asked.hydra)
    register_frozen(asked)
    os.environ["HYDRA_FULL_ERROR"] = "1"  # errors come to us, not to Hydra's printer
    before, sys.argv = sys.argv, ["normtables run", *for_hydra(asked)]
    try:
        job()
    except HydraException as error:
        raise UserError(one_line(error)) from error
    finally:
        sys.argv = before


def register_frozen(asked: Asked) -> None:
    """Make the configuration of a sweep known: conf/config.yaml's words to Hydra, ours to the sweeper, no groups.

    `results` stands in it, for on the command line it would be a group where a user's folder has one of that name.
    A job reads its settings from the file that `frozen` names and nothing under conf/, which may change meanwhile.
    """
    whole: Any = OmegaConf.to_container(OmegaConf.load(CONF / "config.yaml"))
    own = [entry for entry in whole["defaults"] if str(entry) in ("schema", "_self_") or "override" in str(entry)]
    told = json.dumps(asked.words).replace("${", "$\\u007b")  # as it is: what interpolates does so in each run
    settings = whole["hydra"] | {"sweeper": {"words": told}}
    node = {"defaults": own, "hydra": settings} | ({"results": asked.results} if asked.results else {})
    ConfigStore.instance().store(name=FROZEN, node=node)


def for_hydra(asked: Asked) -> list[str]:
    """The words as Hydra gets them; in a sweep the settings go to the sweeper, and only it looks at them."""
    search = [f"hydra.searchpath=[{','.join('file://' + f for f in asked.folders)}]"] if asked.folders else []
    if not asked.many or any(word.startswith("-") for word in asked.hydra):  # Hydra's own --help, --cfg and the like
        return [*asked.settings, *asked.hydra, *search]
    return ["-m", f"--config-name={FROZEN}", *asked.hydra, *search]


@hydra.main(config_path=str(CONF), config_name="config", version_base="1.3")
def job(cfg: DictConfig) -> str:
    """One run of a sweep, from the frozen configuration that it names; the record's status."""
    return make(thaw(cfg) if cfg.frozen else cfg)


def make(cfg: DictConfig) -> str:
    """Make a run and show it; the record's status."""
    from normtables.progress import board
    from normtables.training.run import execute

    with board(1) as shown:
        record = execute(cfg, shown.row)
        shown.end(record.id, record.status, record.reason, record.final, record.facts["seconds"])
    return record.status
