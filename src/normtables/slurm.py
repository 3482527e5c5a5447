"""Runs sent to Slurm: short ones packed into the tasks of an array; a task that is cut off goes on in the next one."""

import json
import math
import re
import subprocess
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from normtables.errors import UserError
from normtables.places import CONF
from normtables.progress import say
from normtables.records import Store, write_whole
from normtables.registry import check_options
from normtables.sweep import freeze

LARGEST = 1000  # tasks of an array where the cluster does not say
WAIT = 10.0  # seconds between two looks at a run that another task still holds


@dataclass(frozen=True, kw_only=True)
class Cluster:
    """What a task asks for: see conf/launcher/slurm.yaml."""

    partition: str | None
    account: str | None
    minutes: int
    work: float
    seconds: float
    cpus: int
    gpus: int
    memory: float | None
    parallel: int
    requeues: int
    setup: list[str]


def cluster(settings: Mapping[str, Any]) -> Cluster:
    """The file's settings with these (`launcher.key`: value) on top; UserError for unknown and ill-typed ones."""
    options: dict[str, Any] = OmegaConf.to_container(OmegaConf.load(CONF / "launcher" / "slurm.yaml"))  # type: ignore
    options |= {key.removeprefix("launcher."): value for key, value in settings.items()}
    check_options(Cluster, options, "launcher slurm")
    found = Cluster(**options)
    for key in ("minutes", "work", "seconds", "cpus", "parallel"):
        if not getattr(found, key) > 0:
            raise UserError(f"launcher.{key}={getattr(found, key)}: a number above 0")
    if found.work >= found.minutes:
        raise UserError(f"launcher.work={found.work}: less than the time limit, launcher.minutes={found.minutes}")
    return found


class Pack:
    """What a task does: one run after another.

    submitit asks `checkpoint` what is to be done after a time limit or a preemption: the same once more, where the runs
    that are done are passed over and the one that was cut off goes on from its own checkpoint.
    """

    def __call__(self, paths: Sequence[str]) -> None:
        """Make the runs of these frozen configurations; one that another task still holds waits."""
        left = [Path(path) for path in paths]
        while left:
            before, left = left, [path for path in left if not taken(path)]
            if left == before:
                time.sleep(WAIT)

    def checkpoint(self, paths: Sequence[str]) -> Any:
        """What submitit submits when the task is cut off."""
        from submitit.helpers import DelayedSubmission

        return DelayedSubmission(self, paths)


def taken(path: Path) -> bool:
    """Make the run of a frozen configuration; False where another task holds it."""
    cfg = OmegaConf.load(path)
    assert isinstance(cfg, DictConfig)
    if Store(cfg.results).state(path.stem) == "running":
        return False
    make(path.stem, cfg)
    return True


def make(run: str, cfg: DictConfig) -> None:
    """Make a run; a failure costs itself and is told in the task's log."""
    from normtables.training.ledger import Failed
    from normtables.training.run import execute

    try:
        record = execute(cfg)
        say(f"{run} {record.status}")
    except (Failed, UserError) as error:
        say(f"{run} failed: {error}")


def packed(runs: Sequence[str], seconds: Mapping[str, float], asked: Cluster) -> list[list[str]]:
    """Runs in their order, as many to a task as its work takes; a run of unknown length counts as asked.seconds."""
    packs: list[list[str]] = []
    room = 0.0
    for run in runs:
        known = seconds.get(run, math.nan)
        need = asked.seconds if math.isnan(known) else known
        if not packs or need > room:
            packs.append([])
            room = 60 * asked.work
        packs[-1].append(run)
        room -= need
    return packs


def send(configs: Mapping[str, DictConfig], seconds: Mapping[str, float], asked: Cluster, folder: Path) -> None:
    """Submit the runs that wait for no task yet, and leave.

    folder: frozen configurations, logs and `sent.json`, which notes the task of each run. Raises UserError where Slurm
    or submitit is missing or refuses.
    """
    queued = waiting(folder)
    todo = [run for run in configs if run not in queued]
    packs = packed(todo, seconds, asked)
    for start in range(0, len(packs), limit := largest_array()):
        part = packs[start : start + limit]
        paths = [[str(freeze(configs[run], folder / "configs" / f"{run}.yaml")) for run in pack] for pack in part]
        ids = submitted(paths, asked, folder)
        queued |= {run: job for pack, job in zip(part, ids) for run in pack}
        write_whole(folder / "sent.json", json.dumps(queued, indent=1) + "\n")
    say(f"{len(todo)} runs sent to Slurm in {len(packs)} tasks, {len(configs) - len(todo)} were waiting there already")


def waiting(folder: Path) -> dict[str, str]:
    """Run to task, for the runs sent before whose tasks Slurm still has queued or running."""
    try:
        sent: dict[str, str] = json.loads((folder / "sent.json").read_bytes())
    except FileNotFoundError:
        return {}
    alive = set(asked_of("squeue", "--me", "--array", "--noheader", "--format=%i").split())
    return {run: job for run, job in sent.items() if job in alive}


def largest_array() -> int:
    """How many tasks an array may have here."""
    found = re.search(r"MaxArraySize\s*=\s*([0-9]+)", asked_of("scontrol", "show", "config"))
    return int(found[1]) if found else LARGEST


def asked_of(*command: str) -> str:
    """What a command of Slurm's prints; raises UserError where it is missing or fails."""
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout
    except FileNotFoundError as error:
        raise UserError(f"there is no {command[0]} here: --launcher slurm works where Slurm's commands are") from error
    except subprocess.CalledProcessError as error:
        first = (error.stderr.strip().splitlines() or ["no message"])[0]
        raise UserError(f"{command[0]} failed: {first}") from error


def submitted(packs: Sequence[Sequence[str]], asked: Cluster, folder: Path) -> list[str]:
    """One array; the task of each pack, as squeue names it."""
    try:
        import submitit
    except ImportError as error:
        raise UserError("--launcher slurm needs submitit, the extra `slurm`: pip install -e '.[slurm]'") from error
    executor = submitit.SlurmExecutor(folder=folder / "logs" / "%A", max_num_timeout=asked.requeues)
    wanted: dict[str, Any] = {
        "partition": asked.partition,
        "account": asked.account,
        "cpus_per_task": asked.cpus,
        "gpus_per_node": asked.gpus or None,
        "mem": asked.memory and f"{asked.memory:g}GB",
    }
    executor.update_parameters(
        job_name=folder.name.replace(" ", "_"),
        time=asked.minutes,
        signal_delay_s=min(90, 20 * asked.minutes),
        array_parallelism=asked.parallel,
        setup=["export OMP_NUM_THREADS=1", *asked.setup],
        **{key: value for key, value in wanted.items() if value is not None},
    )
    try:
        jobs = executor.map_array(Pack(), packs)
    except Exception as error:
        raise UserError(f"Slurm refuses: {' '.join(str(error).split())[:300]}") from error
    return [job.job_id for job in jobs]
