"""The processes that make a run together: whose part of a batch is which, and what they tell each other."""

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor
from torch.autograd import Function

from normtables import processes
from normtables.errors import Elsewhere, UserError

T = TypeVar("T")
Store = Any  # torch.distributed.Store, which torch built without it lacks

TIMEOUT = timedelta(hours=2)  # the others wait while the first process evaluates
BACKENDS = {"cpu": "gloo", "cuda": "cpu:gloo,cuda:nccl"}
FAILURE = "normtables/failure"  # what the first process to fail says of it, in the store that all see


class Sum(Function):
    """The sum over all processes; so is its gradient. torch.distributed.nn has the same, but deprecated."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        """A new tensor, the same in every process."""
        total = x.clone(memory_format=torch.contiguous_format)
        dist.all_reduce(total)
        return total

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        """What all processes' losses want of this process's x."""
        return Sum.apply(grad)


class World:
    """One process by default, whose part is everything and who hears nobody else.

    rank, size: this process's number and how many there are; inside `alone` those of a single one.
    """

    def __init__(self, rank: int = 0, size: int = 1, store: Store | None = None) -> None:
        self.rank, self.size, self.store = rank, size, store

    @property
    def leads(self) -> bool:
        """Whether this process writes what the run leaves."""
        return self.rank == 0

    @contextmanager
    def alone(self) -> Iterator[None]:
        """Be the only process for a while: whole batches, statistics of what is at hand."""
        before = self.rank, self.size
        self.rank, self.size = 0, 1
        try:
            yield
        finally:
            self.rank, self.size = before

    def part(self, count: int) -> slice:
        """Which of `count` examples are this process's: equal parts in the order of the ranks."""
        share = count // self.size
        return slice(self.rank * share, (self.rank + 1) * share)

    def gather(self, x: Tensor) -> Tensor:
        """Every process's x, [size, ...], with the gradient; the same numbers in each process, to the last bit."""
        rows = [torch.zeros_like(x) for _ in range(self.size)]
        rows[self.rank] = x
        return Sum.apply(torch.stack(rows))

    def mean(self, x: Tensor) -> Tensor:
        """The mean of x over the processes, with the gradient."""
        return x if self.size == 1 else self.gather(x).mean(0)

    def whole(self, x: Tensor, dim: int) -> Tensor:
        """The parts of all processes one behind the other."""
        return x if self.size == 1 else torch.cat(self.gather(x).unbind(), dim)

    def first(self, make: Callable[[], T]) -> T:
        """What `make` gives in the first process, which calls it alone, for every process."""
        if self.size == 1:
            return make()
        found: list[T | None] = [None]
        if self.leads:
            with self.alone():
                found = [make()]
        dist.broadcast_object_list(found, src=0, device=torch.device("cpu"))
        return found[0]  # type: ignore[return-value]

    def cause(self, error: Exception) -> Exception:
        """What to raise for an error here: itself, or Elsewhere where another process was the first to fail."""
        if self.store is None or isinstance(error, Elsewhere):
            return error
        if lost(error):
            error = UserError("a process of this run was killed; the same command goes on from the last checkpoint")
        status = 2 if isinstance(error, UserError) else 1
        try:
            first = json.loads(self.store.compare_set(FAILURE, "", json.dumps([self.rank, status])))
        except RuntimeError:  # the store went with the process that kept it
            return error
        return error if first[0] == self.rank else Elsewhere(first[1])


ALONE = World()


def lost(error: Exception) -> bool:
    """Whether this is what a process hears when another one is gone."""
    return isinstance(error, dist.DistError) or (isinstance(error, RuntimeError) and "/gloo/" in str(error))


@contextmanager
def joined(choose: Callable[[], torch.device]) -> Iterator[World]:
    """The processes that torchrun started, met, each with the device that it chooses; this one alone where there are no
    others.

    Where several fail, or one does and the others notice, all but the first raise Elsewhere.
    """
    if processes.size() == 1:
        yield ALONE
        return
    from torch.distributed.rendezvous import rendezvous  # there is none in a torch built without it

    store, rank, size = next(rendezvous("env://", timeout=TIMEOUT))
    world = World(rank, size, store)
    processes.meet()
    try:
        device = choose()
        if device.type == "cuda":
            torch.cuda.set_device(device)
        dist.init_process_group(BACKENDS[device.type], store=store, rank=rank, world_size=size, timeout=TIMEOUT)
        yield world
    except Exception as error:
        if (first := world.cause(error)) is error:
            raise
        raise first from error
    dist.destroy_process_group()  # after an error the others may be stuck: they end with their processes
