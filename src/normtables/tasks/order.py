"""The order in which training examples are seen: a function of seed and epoch alone."""

from collections.abc import Callable, Iterator

import torch
from torch import Tensor


def source(seed: int, epoch: int) -> torch.Generator:
    """Where an epoch's order is drawn from."""
    return torch.Generator().manual_seed(seed * 1_000_003 + epoch)


def shuffled(examples: int, seed: int, epoch: int) -> Tensor:
    """All examples in random order."""
    return torch.randperm(examples, generator=source(seed, epoch))


def by_class(targets: Tensor, batch_size: int, seed: int, epoch: int) -> Tensor:
    """Shuffled examples sorted by class and cut into batches, the batches in random order."""
    generator = source(seed, epoch)
    order = torch.randperm(len(targets), generator=generator).to(targets.device)
    order = order[torch.argsort(targets[order], stable=True)]
    first = int(torch.randint(len(order) % batch_size + 1, (), generator=generator))  # which are left out
    batches = order[first : first + len(order) // batch_size * batch_size].view(-1, batch_size)
    return batches[torch.randperm(len(batches), generator=generator).to(order.device)].flatten()


def drawn(order: Callable[[int], Tensor], batches: int, batch_size: int, step: int) -> Iterator[tuple[int, Tensor]]:
    """Endless (update, indices of its batch) from update `step` on; `order` gives an epoch's, in so many `batches`."""
    epoch, first = divmod(step, batches)
    while True:
        indices = order(epoch)
        for i in range(first, batches):
            yield epoch * batches + i, indices[i * batch_size : (i + 1) * batch_size]
        epoch, first = epoch + 1, 0
