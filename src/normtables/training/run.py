"""From a configuration to a record: build the parts, run the loop, keep what it leaves."""

import hashlib
import time
import traceback
from collections.abc import Callable, Iterator
from dataclasses import fields, is_dataclass, replace
from pathlib import Path
from typing import Any

import torch
from omegaconf import DictConfig, OmegaConf
from torch import Tensor, nn

from normtables.config import Auto, facts, id_of, steps_of
from normtables.data import load
from normtables.errors import UserError
from normtables.models import MODELS, initialise, pretrained
from normtables.models.marks import hold_lengths
from normtables.norms import METHODS, Kit
from normtables.norms.modes import evaluating
from normtables.optim import OPTIMIZERS, SCHEDULES
from normtables.records import DONE, Held, Record, Store, write_whole
from normtables.tasks import TASKS, Extending, Lasting, Paced, Task
from normtables.trackers import TRACKERS, Told
from normtables.training import checkpoints, fitted, history, loop, machine
from normtables.training.loop import Diverged, Position

Row = dict[str, float]
CHECKPOINT = "checkpoint.pt"

Report = Callable[[str, int, int, Row], None]  # (run id, updates done, updates in all, newest row)


class Failed(Exception):
    """A run that stopped on an unexpected error; its record says so."""


def silent(run: str, step: int, steps: int, row: Row) -> None:
    """A report to nobody."""


def execute(cfg: DictConfig, report: Report = silent) -> Record:
    """The record of a configuration: read where the run is done already, computed otherwise.

    Raises UserError for what the user can mend (nothing is left behind), Held where another process is at the run, and
    Failed for any other error (recorded).
    """
    known = facts(cfg)
    run = id_of(known)
    store = Store(cfg.results)
    record = store.read(run)
    if record and record.status in DONE:
        return record
    with store.claim(run) as mine:
        if not mine:
            raise Held(f"run {run} is being computed by another process; the same command reads its record later")
        record = store.read(run)
        if record and record.status in DONE:  # another process made it between the look and the claim
            return record
        folder = store.folder(run)
        for part in folder.glob("*.part"):
            part.unlink()  # half-written by a process that was killed; a claim has one holder
        try:
            training = Training(cfg, known, folder, report)
            write_whole(folder / "config.yaml", OmegaConf.to_yaml(OmegaConf.create(known), sort_keys=True))
            record = training.record()
        except UserError:
            raise
        except Exception as error:
            write_whole(folder / "log.txt", traceback.format_exc())
            reason = f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else 'no message'}"
            store.write(Record(run, "failed", reason, known))
            raise Failed(f"run {run} failed: {reason}; see {folder / 'log.txt'}") from error
        store.write(record)
        training.close()
    return record


class Training:
    """One run: its parts, its position and its history."""

    def __init__(self, cfg: DictConfig, known: dict[str, Any], folder: Path, report: Report) -> None:
        self.known, self.folder, self.report, self.runtime = known, folder, report, cfg.runtime
        chosen: Any = OmegaConf.to_container(cfg.tracker)
        self.results, self.tracker = Path(cfg.results), Told(TRACKERS.build(chosen))
        self.run = id_of(known)
        self.device = machine.choose_device(cfg.runtime.device)
        machine.prepare(cfg.runtime.threads, cfg.tf32, cfg.deterministic)
        self.dtype = machine.DTYPES[cfg.precision]
        data = load(known["dataset"], Path(cfg.data.root), cfg.seeds.data)
        self.task: Task = TASKS.build(
            known["dataset"]["task"], on(data, self.device, self.dtype), cfg.batch_size, cfg.seeds.order
        )
        self.saved = checkpoints.read(folder / CHECKPOINT, self.run, self.device)
        if isinstance(self.task, Lasting):
            self.task.open(folder, self.saved and self.saved["task"])
        self.steps = steps_of(cfg.budget, "budget", self.task.clock)
        self.every = steps_of(cfg.evaluate, "evaluate", self.task.clock)
        if isinstance(self.task, Paced):
            self.task.pace(self.steps)
        torch.manual_seed(cfg.seeds.weights)
        self.method = METHODS.build(known["norm"])
        self.model = self.build(cfg)
        fitted.check(self.model, self.task, self.steps)
        self.optimizer = self.method.optimizer(self.model, OPTIMIZERS.build(known["optim"], self.model))
        hold_lengths(self.model, self.optimizer)
        self.schedule = SCHEDULES.build(known["schedule"], self.task.clock, self.steps)
        self.position = Position(losses=torch.zeros((), device=self.device, dtype=self.dtype))
        self.rows: list[Row] = []
        self.before = 0.0  # seconds spent by earlier, interrupted processes
        self.stream: Iterator[Any] = iter(())

    def build(self, cfg: DictConfig) -> nn.Module:
        """The model on its device, initialised, prepared by the method, wrapped for precision and speed."""
        model = MODELS.build(self.known["model"], Kit(self.method), self.task.sizes)
        initialise(model, cfg.init)
        self.method.init(model)
        pretrained.load(model, Path(cfg.data.root))
        if isinstance(self.task, Extending):
            model = self.task.extend(model)
        model = model.to(self.device, self.dtype)
        if Auto(cfg.runtime.channels_last) is not Auto.off and len(self.task.sizes["inputs"]) == 3:
            model = model.to(memory_format=torch.channels_last)
        if cfg.precision == "bfloat16":
            inner = torch.autocast(self.device.type, torch.bfloat16)(model.forward)
            model.forward = lambda *inputs: inner(*inputs).float()  # losses are taken in float32
        self.method.prepare(model, self.forward(model), self.task.clock)
        if cfg.runtime.compile:
            model.compile()
        return model

    def forward(self, model: nn.Module) -> Callable[[], Tensor]:
        """A closure that sends the next training batch, from the first on, through the model and gives the loss."""
        stream = self.task.batches(model, 0)
        return lambda: self.task.loss(model, next(stream))

    def record(self) -> Record:
        """Train from the checkpoint or the start to the budget or the schedule's end; a loss that is not finite ends
        the run as diverged."""
        self.resume()
        history.write(self.folder, self.rows)
        self.tracker.tell("begin", self.results, self.run, self.known)
        self.began = time.perf_counter()
        status, reason = "interrupted", ""
        try:
            status, reason = self.train()
        finally:
            self.tracker.tell("end", status, self.final())
        return self.result(status, reason)

    def train(self) -> tuple[str, str]:
        """Go through all pauses, evaluating and saving; how it ended and why."""
        saved = self.began
        try:
            for position in self.pauses():
                if position.step % self.every == 0 or position.step == self.steps:
                    self.evaluate()
                if time.perf_counter() - saved >= self.runtime.checkpoint or self.due():
                    self.save()
                    saved = time.perf_counter()
        except Diverged as why:
            return "diverged", str(why)
        return "finished", ""

    def pauses(self) -> Iterator[Position]:
        """The loop, on a stream that begins where the position stands; a model that is fitted has one pause."""
        if not self.steps:
            return fitted.fitted(self.model, self.task, self.known["seeds"]["weights"], self.position)
        self.stream = self.task.batches(self.model, self.position.step)
        return loop.train(
            self.task, self.stream, self.model, self.optimizer, self.factor, self.steps, self.every, self.position
        )

    def factor(self, step: int) -> float:
        """The schedule's factor on the learning rate after so many updates and the history so far."""
        return self.schedule(step, self.rows)

    def seconds(self) -> float:
        """Seconds of training and evaluation so far, those of interrupted processes included."""
        return self.before + time.perf_counter() - self.began

    def evaluate(self) -> None:
        """Add a row to the history; a schedule that then wants no more updates ends the run."""
        step = self.position.step
        scores = self.scores(last=step == self.steps)
        units = {unit: step / steps for unit, steps in self.task.clock.items() if unit != "step"}
        rate = self.optimizer.param_groups[0]["lr"]
        row = {"step": step, **units, "seconds": round(self.seconds(), 3), "lr": rate}
        row |= (self.task.trained(self.position.means()) if self.steps else {}) | scores
        if step < self.steps and self.schedule(step, [*self.rows, row]) == 0:
            self.position.stopped = True
            row |= self.scores(last=True)
        self.rows.append(row)
        history.append(self.folder, self.rows[-1], first=len(self.rows) == 1)
        self.tracker.tell("row", row)
        self.report(self.run, step, self.steps, self.rows[-1])

    def scores(self, last: bool) -> Row:
        """The task's metrics; before the last evaluation the method may settle the model."""
        if last:
            with torch.no_grad():
                self.method.settle(self.model, self.forward(self.model), self.task.clock)
        with evaluating(self.model):
            return self.task.evaluate(self.model)

    def due(self) -> bool:
        """Whether the task asks for a checkpoint."""
        return isinstance(self.task, Lasting) and self.task.due()

    def save(self) -> None:
        """Write a checkpoint from which the run goes on to the same numbers, bit for bit on the CPU."""
        state = {
            "run": self.run,
            "model": self.model.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "task": self.task.state() if isinstance(self.task, Lasting) else {},
            "position": vars(self.position),
            "rows": self.rows,
            "seconds": self.seconds(),
            "random": torch.get_rng_state(),
            "random_cuda": torch.cuda.get_rng_state_all() if self.device.type == "cuda" else [],
        }
        checkpoints.write(self.folder / CHECKPOINT, state)

    def resume(self) -> None:
        """Take up the checkpoint where there is one; raises UserError where it does not fit."""
        if self.saved is None:
            return
        state, self.saved = self.saved, None
        try:
            self.model.load_state_dict(state["model"])
            self.optimizer.load_state_dict(state["optimizer"])
        except Exception as error:
            raise checkpoints.damaged(self.folder / CHECKPOINT, error) from error
        self.position = Position(**state["position"])
        self.rows, self.before = state["rows"], state["seconds"]
        torch.set_rng_state(state["random"].cpu())
        if state["random_cuda"]:
            torch.cuda.set_rng_state_all([s.cpu() for s in state["random_cuda"]])

    def close(self) -> None:
        """Remove what only an unfinished run needs."""
        (self.folder / CHECKPOINT).unlink(missing_ok=True)
        if isinstance(self.task, Lasting):
            self.task.close()

    def result(self, status: str, reason: str) -> Record:
        """The record of the run as it stands."""
        seconds = self.seconds()
        if self.runtime.keep_weights:
            torch.save(self.model.state_dict(), self.folder / "weights.pt")
        score = {"name": self.task.score, "better": self.task.better, "chance": self.task.chance}
        facts = machine.describe(self.model, self.device, self.runtime)
        facts |= {"steps": self.position.step, "stopped": self.position.stopped, "seconds": round(seconds, 3)}
        facts |= {"steps_per_second": round(self.position.step / seconds, 3), "weights": digest_of(self.model)}
        return Record(self.run, status, reason, self.known, score, self.final(), facts)

    def final(self) -> Row:
        """The newest scores."""
        return {k: v for k, v in self.rows[-1].items() if "/" in k} if self.rows else {}


def on(data: Any, device: torch.device, dtype: torch.dtype) -> Any:
    """A data set (nested dataclasses) with its tensors on a device, floating-point ones in the run's precision."""
    if isinstance(data, torch.Tensor):
        return data.to(device, dtype) if data.is_floating_point() else data.to(device)
    if is_dataclass(data) and not isinstance(data, type):
        return replace(data, **{f.name: on(getattr(data, f.name), device, dtype) for f in fields(data)})
    return data


def digest_of(model: nn.Module) -> str:
    """Sixteen digits of the SHA-256 of all weights and buffers, in order."""
    digest = hashlib.sha256()
    for name, tensor in model.state_dict().items():
        digest.update(name.encode())
        digest.update(
            tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().tobytes()
            if tensor.dim()
            else str(tensor.item()).encode()
        )
    return digest.hexdigest()[:16]
