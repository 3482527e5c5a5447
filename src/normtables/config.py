"""How a run's settings are composed and checked, and what names a run. Imports no torch."""

import hashlib
import json
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from normtables.errors import UserError, nearest
from normtables.places import CONF
from normtables.processes import PER_DEVICE
from normtables.schema import CHOICES, register_schema

GROUPS = ("model", "norm", "dataset", "optim", "schedule", "tier", "runtime", "tracker")

NUMBER = re.compile(r"[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)(e[+-]?[0-9]+)?", re.IGNORECASE)

# Sections and keys that cannot change a number: paths, machine, mirrors. `seed` acts through `seeds` alone.
MACHINE = ("data", "results", "runtime", "tracker", "seed", "frozen")

# Settings added after the first records, with the value at which each changes nothing and is left out of the hash.
NEUTRAL: dict[str, Any] = {
    "norm.ghost": 0,
    "norm.update": True,
    "norm.use": "batch",
    "norm.flow": True,
    "norm.noise": "alpha",
    "model.dropout": 0,
    "optim.clip": None,
    "schedule.start": None,
    "dataset.task.batches": "shuffled",
    "dataset.task.gap": 0,
    "dataset.task.augment": "none",
    "dataset.prep": "none",
    "dataset.size": 8,
    "dataset.digest": "",
}


def require_checkout() -> None:
    """Raise UserError where conf/ is not beside the package, as in an install that is not editable."""
    if not (CONF / "config.yaml").exists():
        raise UserError("normtables works from a checkout: clone the repository and `pip install -e .` in it")


def duration(text: str, what: str) -> tuple[float, str]:
    """`"100 epochs"` to (100.0, "epoch"); raises UserError for anything but a positive number and one unit. A budget
    may be 0: that of a model which is fitted at once."""
    found = re.fullmatch(r"\s*((?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:e[+-]?[0-9]+)?)[ _]*([a-z]+)\s*", str(text))
    amount = float(found[1]) if found else 0.0
    if not found or not (amount or what == "budget") or not math.isfinite(amount):
        raise UserError(f"{what}={text}: write a positive number and a unit, for instance {what}=10epochs")
    return amount, found[2] if found[2] == "s" else found[2].removesuffix("s")


def spelled(known: Mapping[str, float]) -> str:
    """A duration of the facts, {unit: amount}, as a user writes it."""
    [(unit, amount)] = known.items()
    return f"{amount} {unit}"


def steps_of(text: str, what: str, clock: Mapping[str, int]) -> int:
    """A duration in updates, at least 1 but for nothing; raises UserError for a unit that the task's clock lacks."""
    amount, unit = duration(text, what)
    if unit not in clock:
        raise UserError(f"{what}={text}: this task counts in {', '.join(clock)}{nearest(unit, clock)}")
    return max(1, round(amount * clock[unit])) if amount else 0


def check(cfg: DictConfig) -> None:
    """Raise UserError for root values that no run can have."""
    for key, names in CHOICES.items():
        if cfg[key] not in names:
            raise UserError(f"{key}={cfg[key]}: choose one of {', '.join(names)}{nearest(cfg[key], names)}")
    for key in ("budget", "evaluate"):
        duration(cfg[key], key)
    for key in ("model", "norm", "dataset", "dataset.task"):
        if OmegaConf.select(cfg, f"{key}.version") is None:
            raise UserError(f"{key} has no version; its file under conf/ needs one, the code's: version: 1")
    if cfg.batch_size < 1:
        raise UserError(f"batch_size={cfg.batch_size}: at least 1")
    for key, seed in [("seed", cfg.seed), *((f"seeds.{k}", v) for k, v in cfg.seeds.items())]:
        if not 0 <= seed < 2**31:
            raise UserError(f"{key}={seed}: a seed is a whole number from 0 to {2**31 - 1}")


def plain(value: Any) -> Any:
    """One spelling per value: integral floats as integers, mappings sorted by json later."""
    if isinstance(value, Mapping):
        return {str(k): plain(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [plain(v) for v in value]
    return int(value) if isinstance(value, float) and value.is_integer() else value


def facts(cfg: DictConfig) -> dict[str, Any]:
    """Every resolved setting that can change a number, as plain data; synchronised processes compute as one does."""
    try:
        whole = OmegaConf.to_container(cfg, resolve=True, throw_on_missing=True)
    except OmegaConfBaseException as error:
        raise UserError(f"configuration: {one_line(error)}") from error
    assert isinstance(whole, dict)
    kept = {str(k): plain(v) for k, v in whole.items() if k not in MACHINE and k != "hydra"}
    for key in ("budget", "evaluate"):
        amount, unit = duration(kept[key], key)
        kept[key] = {unit: plain(amount)} if amount else {"step": 0}
    if kept["batch_statistics"] != PER_DEVICE or kept["processes"] == 1:
        del kept["batch_statistics"], kept["processes"]
    return kept


def essential(known: Mapping[str, Any]) -> dict[str, Any]:
    """A copy of these facts without the settings at their neutral value: what facts of any age have in common."""
    kept: dict[str, Any] = json.loads(json.dumps(known))
    for path, neutral in NEUTRAL.items():
        *parents, key = path.split(".")
        node = kept
        for parent in parents:
            node = node.get(parent, {})
        if key in node and node[key] == neutral:
            del node[key]
    return kept


def id_of(known: Mapping[str, Any]) -> str:
    """The 12-digit id of a run with these facts; settings at their neutral value are left out."""
    return hashlib.sha256(json.dumps(essential(known), sort_keys=True).encode()).hexdigest()[:12]


def run_id(cfg: DictConfig) -> str:
    """The id of a composed configuration."""
    return id_of(facts(cfg))


def one_line(error: BaseException) -> str:
    """The first informative lines of a Hydra or OmegaConf error, joined."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return " ".join(line for line in lines if not line.startswith(("full_key", "object_type", "reference_type")))


@contextmanager
def hydra_at(folder: Path) -> Iterator[None]:
    """Hydra initialised on `folder` for a while, whatever it was before."""
    before = GlobalHydra.get_state()
    GlobalHydra.instance().clear()
    try:
        with initialize_config_dir(str(folder), version_base="1.3"):
            yield
    finally:
        GlobalHydra.set_state(before)


class Composer:
    """Turns settings into configurations; composes once per set of group choices and sets values after that."""

    def __init__(self, conf_dirs: Sequence[str | Path] = ()) -> None:
        require_checkout()
        register_schema()
        self.folders = [CONF, *(Path(d).resolve() for d in conf_dirs)]
        for folder in self.folders:
            if not folder.is_dir():
                raise UserError(f"--conf-dir {folder}: no such folder")
        self._composed: dict[tuple[tuple[str, str], ...], DictConfig] = {}

    def choices(self, group: str) -> list[str]:
        """The names that `group=` takes."""
        return sorted({p.stem for folder in self.folders for p in (folder / group).glob("*.yaml")})

    def config(self, settings: Mapping[str, Any]) -> DictConfig:
        """The configuration with these settings on top of the defaults; UserError for unknown or ill-typed ones."""
        groups = {k: str(v) for k, v in settings.items() if k in GROUPS}
        for group, name in groups.items():
            names = self.choices(group)
            if name not in names:
                raise UserError(f"no {group} {name!r}{nearest(name, names)}; there are: {', '.join(names)}")
        cfg = self._compose(groups).copy()
        for key, value in settings.items():
            if key not in GROUPS:
                put(cfg, key, value)
        check(cfg)
        return cfg

    def id(self, settings: Mapping[str, Any]) -> str:
        """The run id of these settings."""
        return run_id(self.config(settings))

    def version(self, group: str, name: str) -> int:
        """The version that a file of a group states; 0 where there is no such file."""
        paths = [folder / group / f"{name}.yaml" for folder in self.folders]
        found = [path for path in paths if path.exists()]
        return int(OmegaConf.select(OmegaConf.load(found[0]), "version")) if found else 0

    def _compose(self, groups: Mapping[str, str]) -> DictConfig:
        key = tuple(sorted(groups.items()))
        if key not in self._composed:
            overrides = [f"{group}={name}" for group, name in groups.items()]
            path = ",".join(f"file://{f}" for f in self.folders[1:])
            try:
                with hydra_at(CONF):
                    self._composed[key] = compose("config", [*overrides, f"hydra.searchpath=[{path}]"])
            except (HydraException, OmegaConfBaseException) as error:
                raise UserError(f"configuration ({' '.join(overrides)}): {one_line(error)}") from error
        return self._composed[key]


def put(cfg: DictConfig, key: str, value: Any) -> None:
    """Set `key` (dotted) to a plain value; raises UserError that names the nearest key where there is no such one."""
    node: Any = cfg
    parts = key.split(".")
    for depth, part in enumerate(parts):
        names = [str(k) for k in node] if isinstance(node, DictConfig) else []
        if part not in names:
            where = ".".join(parts[:depth]) or "the configuration"
            raise UserError(f"{where} has no setting {part!r}{nearest(part, names)}; it has: {', '.join(names)}")
        parent, node = node, OmegaConf.select(node, part)
    if isinstance(value, str) and NUMBER.fullmatch(value):
        value = float(value)  # YAML reads 1e-1 as text
    try:
        parent[parts[-1]] = value
    except (OmegaConfBaseException, ValueError) as error:
        raise UserError(f"{key}={value}: {one_line(error)}") from error
