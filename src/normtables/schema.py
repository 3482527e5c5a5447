"""The settings of a run with their types and defaults, and the words some of them take. Imports no torch."""

from dataclasses import dataclass, field
from enum import Enum
from typing import Any

from hydra.core.config_store import ConfigStore
from omegaconf import II, MISSING, OmegaConf

from normtables import processes
from normtables.places import RESULTS, content, default_root
from normtables.processes import PER_DEVICE, SYNCHRONISED

INITS = ("torch", "glorot_uniform", "he_normal", "lecun_normal")
PRECISIONS = ("float32", "float64", "bfloat16")
CHOICES = {"init": INITS, "precision": PRECISIONS, "batch_statistics": (SYNCHRONISED, PER_DEVICE)}


@dataclass
class Seeds:
    """Where randomness comes from: weights and dropout; order of examples; the data's own draw (splits, subsets)."""

    weights: int = II("seed")
    order: int = II("seed")
    data: int = 0


@dataclass
class Data:
    """Where data sets lie on this machine."""

    root: str = "${data_root:}"


class Auto(Enum):
    """A switch that the program may set itself."""

    auto = "auto"
    on = "on"
    off = "off"


@dataclass
class Runtime:
    """How this machine runs it: never part of a run's identity."""

    device: str = "auto"
    threads: int = 1
    channels_last: Auto = Auto.auto
    compile: bool = False
    checkpoint: float = 30.0
    keep_weights: bool = False
    progress: Auto = Auto.auto


@dataclass
class Settings:
    """The typed root of a run's configuration; groups are checked against the registered factory's signature."""

    model: Any = MISSING
    norm: Any = MISSING
    dataset: Any = MISSING
    optim: Any = MISSING
    schedule: Any = MISSING
    runtime: Runtime = field(default_factory=Runtime)
    tracker: Any = MISSING
    seed: int = 0
    seeds: Seeds = field(default_factory=Seeds)
    budget: str = MISSING
    evaluate: str = "1 epoch"
    batch_size: int = 100
    init: str = "torch"
    precision: str = "float32"
    tf32: bool = False
    deterministic: bool = True
    batch_statistics: str = SYNCHRONISED
    processes: int = II("processes:")
    data: Data = field(default_factory=Data)
    results: str = str(RESULTS)
    frozen: str = ""


def register_schema() -> None:
    """Make the typed root and the resolvers known to Hydra; calling it again changes nothing."""
    OmegaConf.register_new_resolver("data_root", lambda: str(default_root()), replace=True)
    OmegaConf.register_new_resolver("processes", processes.size, replace=True)
    OmegaConf.register_new_resolver("digest", content, replace=True)
    ConfigStore.instance().store(name="schema", node=Settings)
