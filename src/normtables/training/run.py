"""From a configuration to a record: build the parts, run the loop, keep what it leaves."""

import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import torch
from omegaconf import DictConfig, OmegaConf
from torch import Tensor, nn

from normtables.config import duration, facts, id_of, steps_of
from normtables.data import load
from normtables.errors import UserError
from normtables.models import MODELS, initialise, pretrained
from normtables.models.marks import hold_lengths
from normtables.norms import METHODS, Kit
from normtables.norms.modes import evaluating
from normtables.optim import OPTIMIZERS, SCHEDULES
from normtables.records import CHECKPOINT, CONFIG, Record, Store, write_whole
from normtables.schema import Auto
from normtables.tasks import TASKS, Extending, Lasting, Paced, Task
from normtables.trackers import TRACKERS, Told
from normtables.training import checkpoints, divided, fitted, history, loop, machine
from normtables.training.ledger import begun, failed, forget
from normtables.training.loop import Diverged, Position
from normtables.training.stopping import heard
from normtables.training.tensors import digest_of, on
from normtables.world import ALONE, World, joined

Row = dict[str, float]

Report = Callable[[str, int, int, Row], None]  # (run id, updates done, updates in all, newest row)


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
    with joined(lambda: machine.choose_device(cfg.runtime.device)) as world, ExitStack() as held:
        record = world.first(lambda: begun(store, run, held))
        if record:
            return record
        try:
            divided.check(cfg, world)
            training = Training(cfg, known, folder := store.folder(run), report, world)
            if world.leads:
                write_whole(folder / CONFIG, OmegaConf.to_yaml(OmegaConf.create(known), sort_keys=True))
            record = training.record()
        except Exception as problem:
            error = world.cause(problem)
            if not isinstance(error, UserError):
                error = failed(store, known, error)
            elif world.leads:
                forget(store, run)
            if error is problem:
                raise
            raise error from problem
        if world.leads:
            store.write(record)
            training.close()
    return record


class Training:
    """One run: its parts, its position and its history. Of several processes each has one; the first one writes."""

    def __init__(
        self, cfg: DictConfig, known: dict[str, Any], folder: Path, report: Report, world: World = ALONE
    ) -> None:
        self.known, self.folder, self.report, self.runtime = known, folder, report, cfg.runtime
        self.world, self.shared = world, divided.facts(cfg, world)
        chosen: Any = OmegaConf.to_container(cfg.tracker) if world.leads else {"name": "none"}
        self.results, self.tracker = Path(cfg.results), Told(TRACKERS.build(chosen))
        self.run = id_of(known)
        self.device = machine.choose_device(cfg.runtime.device)
        machine.prepare(cfg.runtime.threads, cfg.tf32, cfg.deterministic)
        self.dtype = machine.DTYPES[cfg.precision]
        data = load(known["dataset"], Path(cfg.data.root), cfg.seeds.data)
        batch = cfg.batch_size if duration(cfg.budget, "budget")[0] else 1  # what is fitted at once has none
        self.task: Task = TASKS.build(
            known["dataset"]["task"], on(data, self.device, self.dtype), batch, cfg.seeds.order
        )
        self.saved = checkpoints.read(folder / CHECKPOINT, self.run, self.device, world)
        if isinstance(self.task, Lasting):
            self.task.open(folder, self.saved and self.saved["task"])
        self.steps = steps_of(cfg.budget, "budget", self.task.clock)
        self.every = steps_of(cfg.evaluate, "evaluate", self.task.clock)
        divided.divide(self.task, cfg, self.steps, world)
        if isinstance(self.task, Paced):
            self.task.pace(self.steps)
        torch.manual_seed(cfg.seeds.weights)
        self.method = METHODS.build(known["norm"])
        self.model = self.build(cfg)
        fitted.check(self.model, self.task, self.steps)
        self.optimizer = self.method.optimizer(self.model, OPTIMIZERS.build(known["optim"], self.model))
        hold_lengths(self.model, self.optimizer)
        self.parallel = divided.parallel(self.model, self.optimizer, cfg, world)
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
        with self.world.alone():
            self.method.prepare(model, self.forward(model), self.task.clock)
        divided.join_layers(model, self.task, cfg, self.world, self.device)
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
        if self.world.leads:
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
        """Go through all pauses, evaluating and saving; how it ended and why. A signal to stop is followed there."""
        self.kept = self.began
        try:
            with heard() as stop:
                for position in self.pauses():
                    if position.step % self.every == 0 or position.step == self.steps:
                        self.evaluate()
                    asked, due = self.world.first(lambda: (stop.asked, self.due()))
                    if asked or due:
                        self.save()
                        self.kept = time.perf_counter()
                    if asked:
                        raise stop.error(asked)
        except Diverged as why:
            return "diverged", str(why)
        return "finished", ""

    def pauses(self) -> Iterator[Position]:
        """The loop, on a stream that begins where the position stands; a model that is fitted has one pause."""
        if not self.steps:
            return fitted.fitted(self.model, self.task, self.known["seeds"]["weights"], self.position)
        self.stream = self.task.batches(self.model, self.position.step)
        parts = self.task, self.stream, self.parallel, self.optimizer, self.factor
        return loop.train(*parts, self.steps, self.every, self.position, self.world)

    def factor(self, step: int) -> float:
        """The schedule's factor on the learning rate after so many updates and the history so far."""
        return self.schedule(step, self.rows)

    def seconds(self) -> float:
        """Seconds of training and evaluation so far, those of interrupted processes included."""
        return self.before + time.perf_counter() - self.began

    def evaluate(self) -> None:
        """Add a row to the history; a schedule that then wants no more updates ends the run."""
        step, means = self.position.step, self.position.means()
        row = self.world.first(lambda: self.row(means))
        if step < self.steps and self.schedule(step, [*self.rows, row]) == 0:
            self.position.stopped = True
            row |= self.world.first(lambda: self.scores(last=True))
        self.rows.append(row)
        if not self.world.leads:
            return
        history.append(self.folder, self.rows[-1], first=len(self.rows) == 1)
        self.tracker.tell("row", row)
        self.report(self.run, step, self.steps, self.rows[-1])

    def row(self, means: list[float]) -> Row:
        """A row of the history, from what training left and what the task measures now."""
        step = self.position.step
        scores = self.scores(last=step == self.steps)
        units = {unit: step / steps for unit, steps in self.task.clock.items() if unit != "step"}
        rate = self.optimizer.param_groups[0]["lr"]
        row = {"step": step, **units, "seconds": round(self.seconds(), 3), "lr": rate}
        return row | (self.task.trained(means) if self.steps else {}) | scores

    def scores(self, last: bool) -> Row:
        """The task's metrics; before the last evaluation the method may settle the model."""
        if last:
            with torch.no_grad():
                self.method.settle(self.model, self.forward(self.model), self.task.clock)
        with evaluating(self.model):
            return self.task.evaluate(self.model)

    def due(self) -> bool:
        """Whether it is time for a checkpoint, or the task asks for one."""
        late = time.perf_counter() - self.kept >= self.runtime.checkpoint
        return late or (isinstance(self.task, Lasting) and self.task.due())

    def save(self) -> None:
        """Write a checkpoint from which the run goes on to the same numbers, bit for bit on the CPU."""
        state = {
            "run": self.run,
            "model": divided.state_of(self.model, self.world),
            "optimizer": self.optimizer.state_dict(),
            "task": self.task.state() if isinstance(self.task, Lasting) else {},
            "position": vars(self.position),
            "rows": self.rows,
            "seconds": self.seconds(),
            "random": torch.get_rng_state(),
            "random_cuda": divided.random_state(self.device),
        }
        if self.world.leads:
            checkpoints.write(self.folder / CHECKPOINT, state)

    def resume(self) -> None:
        """Take up the checkpoint where there is one; raises UserError where it does not fit."""
        if self.saved is None:
            return
        state, self.saved = self.saved, None
        try:
            divided.load(self.model, state["model"], self.world)
            self.optimizer.load_state_dict(state["optimizer"])
        except Exception as error:
            raise checkpoints.damaged(self.folder / CHECKPOINT, error) from error
        self.position = Position(**state["position"])
        self.rows, self.before = state["rows"], state["seconds"]
        torch.set_rng_state(state["random"].cpu())
        if state["random_cuda"]:
            torch.cuda.set_rng_state(state["random_cuda"][0].cpu(), self.device)

    def close(self) -> None:
        """Remove what only an unfinished run needs."""
        (self.folder / CHECKPOINT).unlink(missing_ok=True)
        if isinstance(self.task, Lasting):
            self.task.close()

    def result(self, status: str, reason: str) -> Record:
        """The record of the run as it stands."""
        seconds = self.seconds()
        weights = digest_of(state := divided.state_of(self.model, self.world))
        if self.runtime.keep_weights and self.world.leads:
            torch.save(state, self.folder / "weights.pt")
        score = {"name": self.task.score, "better": self.task.better, "chance": self.task.chance}
        facts = machine.describe(self.model, self.device, self.runtime) | self.shared
        facts |= {"steps": self.position.step, "stopped": self.position.stopped, "seconds": round(seconds, 3)}
        facts |= {"steps_per_second": round(self.position.step / seconds, 3), "weights": weights}
        return Record(self.run, status, reason, self.known, score, self.final(), facts)

    def final(self) -> Row:
        """The newest scores."""
        return {k: v for k, v in self.rows[-1].items() if "/" in k} if self.rows else {}
