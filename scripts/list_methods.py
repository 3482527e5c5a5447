"""Writes docs/methods.md: every registered method, its paper and formula, and what can be measured about it.

Paper and formula are the first paragraph of the registered function's docstring, "paper: formula". Whether training and
test compute the same, whether examples see each other and how many parameters come on top is measured on small
networks; the cost is read from docs/costs.csv, which `bench_norms.py --costs` writes.
"""

import argparse
import csv
import inspect
import re
from collections.abc import Iterator
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn import functional

from normtables.models import initialise
from normtables.norms import METHODS, Kit, Method

DOCS = Path(__file__).resolve().parents[1] / "docs"
PARAGRAPH = re.compile(r"(?P<paper>[^:]+): (?P<formula>.*=.*)\.")
CLOCK = {"step": 1, "epoch": 2}
HEADER = """# Methods

Every method that `norm=NAME` knows, with its default options; the files under `conf/norm/` list the options. Made by
`make docs`, which measures what can be measured:

- *training = test*: after three updates of a small network with convolution, linear and LSTM layers and no dropout, the
  same inputs give the same outputs in both modes.
- *sees the batch*: in training mode an example's outputs change when the other examples change.
- *parameters*: trained numbers more than with `none`, for each channel of a hidden layer (where the shift of a norm
  layer takes the place of the bias), each output of the last layer and each hidden unit of an LSTM.
- *cost*: an update of weight layer, norm and ReLU over that of `bn`, on one thread of a CPU: a 3 x 3 convolution, 64
  channels, [32, 64, 32, 32], and a linear layer, 512 units, [4096, 512]; forward, backward and the optimizer's step.
  [speed.md](speed.md) says on which machine and has the rest.

"""
FOOTER = """
AdaBN and precise BN take the running statistics of `bn`, `brn`, `dbn` and `l1bn` anew over given examples:
`normtables.norms.statistics.reestimate`, for any network that has such layers.
"""
COLUMNS = ("method", "paper", "formula", "training = test", "sees the batch", "parameters", "cost")


class Small(nn.Module):
    """[n, 3, 4, 4] to [n, 2] through every kind of layer that a kit has but dropout and pooling."""

    def __init__(self, kit: Kit) -> None:
        super().__init__()
        self.inputs = kit.inputs()
        self.conv, self.act = kit.conv(3, 8, 3, padding=1), kit.norm_act(8, 2)
        self.lstm = kit.recurrent(32, 8)
        self.rest = nn.Sequential(kit.linear(8, 8), kit.norm_act(8), kit.head(8, 2))

    def forward(self, x: Tensor) -> Tensor:
        """The rows of the image are the positions of the sequence."""
        x = self.act(self.conv(self.inputs(x)))
        y, _ = self.lstm(x.permute(2, 0, 1, 3).flatten(2))
        return self.rest(y[-1])


def trained(method: Method) -> Small:
    """A small network after three updates, as a run makes it."""
    model = Small(Kit(method))
    initialise(model, "glorot_uniform")
    method.init(model)

    def loss() -> Tensor:
        return functional.cross_entropy(model(torch.randn(16, 3, 4, 4) + 1), torch.randint(2, [16]))

    method.prepare(model, loss, CLOCK)
    optimizer = method.optimizer(model, torch.optim.SGD(model.parameters(), lr=0.1))
    for _ in range(3):
        optimizer.zero_grad()
        loss().backward()
        optimizer.step()
    with torch.no_grad():
        method.settle(model, loss, CLOCK)
    return model


def outputs(model: nn.Module, x: Tensor, training: bool) -> Tensor:
    """What the model gives in a mode; its state stays."""
    state = {name: buffer.clone() for name, buffer in model.named_buffers()}
    with torch.no_grad():
        return functional_call(model.train(training), state, (x,))


def differ(one: Tensor, other: Tensor) -> bool:
    """Whether two outputs differ by more than rounding."""
    return not torch.allclose(one, other, rtol=1e-4, atol=1e-5)


def behaviour(method: Method) -> tuple[bool, bool]:
    """Whether training and test compute the same, and whether an example sees the others in training."""
    torch.manual_seed(0)
    model, x = trained(method), torch.randn(16, 3, 4, 4)
    others = torch.cat([x[:1], torch.randn(15, 3, 4, 4) * 2 + 1])
    training = outputs(model, x, True)
    return not differ(training, outputs(model, x, False)), differ(training[:1], outputs(model, others, True)[:1])


def parameters(method: Method) -> tuple[float, ...]:
    """Trained numbers for each channel of a hidden layer, output of the last and unit of an LSTM, 8 of each."""
    kit = Kit(method)
    parts = nn.Sequential(kit.conv(3, 8, 3), kit.norm_act(8, 2)), kit.head(8, 8), kit.recurrent(8, 8)
    return tuple(sum(p.numel() for p in part.parameters()) / 8 for part in parts)


def added(method: Method) -> str:
    """The parameters that a method adds to those of the plain network."""
    plain = parameters(METHODS.build({"name": "none"}))
    changes = (more - less for more, less in zip(parameters(method), plain))
    return ", ".join(f"{change:+.3g}" if change else "0" for change in changes)


def described(name: str) -> tuple[str, str]:
    """Paper and formula of a method by its docstring; raises ValueError where that does not begin with both."""
    doc = inspect.getdoc(METHODS[name].factory) or ""
    found = PARAGRAPH.fullmatch(" ".join(doc.split("\n\n")[0].split()))
    if found is None:
        raise ValueError(f"the docstring of {name} does not begin with 'paper: formula.'")
    return found["paper"], found["formula"]


def costs(path: Path) -> dict[str, str]:
    """Each method's costs over bn, of convolution and linear blocks."""
    found: dict[str, list[str]] = {"bn": ["1", "1"]}
    with path.open(encoding="utf-8", newline="") as file:
        for line in csv.DictReader(file):
            found.setdefault(line["method"], []).append(line["over_bn"])
    return {name: " / ".join(values) for name, values in found.items()}


def rows(path: Path) -> Iterator[tuple[str, ...]]:
    """The table's rows, costs from a file."""
    cost = costs(path)
    for name in METHODS:
        method = METHODS.build({"name": name})
        paper, formula = described(name)
        same, sees = ("yes" if is_so else "no" for is_so in behaviour(method))
        yield f"`{name}`", paper, f"`{formula}`", same, sees, added(method), cost.get(name, "not measured")


def page(path: Path) -> str:
    """The whole page as markdown."""
    lines = [COLUMNS, ("---",) * len(COLUMNS), *rows(path)]
    table = "".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |\n" for line in lines)
    return HEADER + table + FOOTER


def main() -> None:
    """Write the page."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--costs", type=Path, default=DOCS / "costs.csv", metavar="FILE", help="from bench_norms.py")
    parser.add_argument("--page", type=Path, default=DOCS / "methods.md", metavar="FILE", help="what is written")
    options = parser.parse_args()
    options.page.write_text(page(options.costs), encoding="utf-8")


if __name__ == "__main__":
    main()
