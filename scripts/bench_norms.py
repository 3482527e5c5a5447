"""Measures the normalization methods forward and backward against torch's batch norm and against plain layers.

Prints a markdown table; asserts nothing. Variants take turns on one thread; on the CPU their times are the process's
CPU seconds, which other programs disturb less, and on a CUDA device, where there is one, seconds on the wall.
"""

import csv
import shutil
import statistics
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import SGD, Optimizer

from measure import Row, Times, interleaved, options, ratios, row, show
from normtables.norms import METHODS, Kit, as_it_is

Layers = dict[str, nn.Module]
LIBRARY = {"forward": "batch", "gradient": "batch", "averaged": "inverse_sigma", "epsilon_in": "variance"}
PAST = {"warmup": 0, "r_until": 0, "d_until": 0}  # the published limits from the first pass on


@dataclass(frozen=True)
class Variant:
    """A norm layer: method, options, and `floor`, its least number of passes over the activations both ways.

    A pass reads or writes each value once, and no more than one example's values stay in a cache. Statistics of the
    batch are complete only when x was read, their gradients only when x and g = dL/dy were:

        8: x, x -> y; g x, g x -> dx       batch statistics with their gradient
        9: x, x, x -> y; g x, g x -> dx    the same where the scale is measured from the mean
        6: x, x -> y; g x -> dx            without the gradient of the statistics (g x: that of the gain)
        7: x, x, x -> y; g x -> dx         both
        6: x, x -> y; g, g -> dx           the mean alone
        5: x -> y; g x -> dx               an example's own statistics, or none
    """

    method: str
    options: Mapping[str, Any]
    floor: int
    aim: str = ""


VARIANTS = {
    "bn": Variant("bn", {}, 8),
    "bn, ghost=32": Variant("bn", {"ghost": 32}, 8),
    "bn, use=running": Variant("bn", {"use": "running"}, 8),
    "bn, flow=false": Variant("bn", {"flow": False}, 6),
    "dbn": Variant("dbn", {}, 6, "at most 1.5"),
    "dbn, gradient=batch": Variant("dbn", {"gradient": "batch"}, 8, "at most 1.5"),
    "dbn, forward=batch": Variant("dbn", {"forward": "batch"}, 6, "at most 1.5"),
    "dbn, as in Table 3": Variant("dbn", LIBRARY, 8, "at most 1.5"),
    "brn, warming up": Variant("brn", {}, 8, "at most 1.5"),
    "brn, past its warm-up": Variant("brn", PAST, 8, "at most 1.5"),
    "brn, flow=false": Variant("brn", {"flow": False}, 6, "at most 1.5"),
    "l1bn": Variant("l1bn", {}, 9, "at most 1.5"),
    "l1bn, flow=false": Variant("l1bn", {"flow": False}, 7, "at most 1.5"),
    "normprop's gain and shift": Variant("normprop", {}, 5, "at most 1.5"),
    "wn_mean's centring": Variant("wn_mean", {}, 6),
    "ln": Variant("ln", {}, 5),
    "gn": Variant("gn", {}, 5),
    "inorm": Variant("inorm", {}, 5),
}
COMPILED = ("dbn", "dbn, gradient=batch", "brn, past its warm-up", "l1bn", "normprop's gain and shift", "ln", "gn")


@dataclass(frozen=True)
class Effort:
    """How much is measured: rounds, and the shapes of activations, of a convolution's inputs and of sequences."""

    rounds: int
    images: tuple[int, ...]  # [n, channels, height, width]
    rows: tuple[int, ...]  # [n, features]
    conv: int  # examples for convolutions
    sequences: tuple[int, ...]  # [time, n, features]
    compiled: bool


FULL = Effort(25, (128, 64, 32, 32), (4096, 512), 32, (35, 20, 200), shutil.which("c++") is not None)
QUICK = Effort(2, (4, 16, 5, 5), (8, 16), 4, (3, 4, 16), False)


@dataclass(frozen=True)
class Cost(Row):
    """A row that also says what a method's block costs relative to bn's."""

    method: str = ""
    block: str = ""


def finished(device: torch.device) -> None:
    """Wait until the device has done what it was told."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def timed(turns: Mapping[str, Callable[[], None]], rounds: int, device: torch.device) -> dict[str, Times]:
    """Seconds of every turn in every round, by the device's clock."""
    return interleaved(turns, rounds, time.process_time if device.type == "cpu" else time.perf_counter)


def both_ways(layer: nn.Module, x: Tensor, optimizer: Optimizer | None = None) -> Callable[[], None]:
    """One turn: forward and backward, and a step of the optimizer if there is one."""

    def forward() -> Tensor:
        y = layer(x)
        return y[0] if isinstance(y, tuple) else y  # an LSTM returns its state too

    push = torch.randn_like(forward())

    def turn() -> None:
        x.grad = None
        layer.zero_grad()
        forward().backward(push)
        if optimizer is not None:
            optimizer.step()
        finished(x.device)

    return turn


def inputs(shape: tuple[int, ...], device: torch.device) -> Tensor:
    """Gaussian numbers that get a gradient."""
    return torch.randn(shape, device=device).requires_grad_()


def against(base: str, times: Mapping[str, Times], place: str) -> Iterator[tuple[str, Row]]:
    """(name, row of its times over those of `base`) for all others."""
    below = 1000 * statistics.median(times[base])
    for name, found in times.items():
        if name != base:
            aim = VARIANTS[name].aim if name in VARIANTS else ""
            detail = f"{1000 * statistics.median(found):.3g} over {below:.3g} ms"
            yield name, row(f"{name}, over {base}, {place}", aim, ratios(found, times[base]), ".2f", detail=detail)


def norm_layers(x: Tensor) -> Layers:
    """torch's batch norm for x, and all variants."""
    dims, channels = x.dim() - 2, x.shape[1]
    layers: Layers = {"torch's batch norm": (nn.BatchNorm2d if dims else nn.BatchNorm1d)(channels)}
    for name, variant in VARIANTS.items():
        layers[name] = METHODS.build({"name": variant.method, **variant.options}).norm(channels, dims)
    return {name: layer.to(x.device) for name, layer in layers.items()}


def copies(x: Tensor) -> dict[str, Callable[[], None]]:
    """Turns that copy x into memory that is there, and into memory that is asked for."""
    data, there = x.detach(), x.detach().clone()

    def copy() -> None:
        there.copy_(data)
        finished(x.device)

    def clone() -> None:
        data.clone()
        finished(x.device)

    return {"there": copy, "new": clone}


def norms(effort: Effort, device: torch.device) -> Iterator[Row]:
    """Norm layers on activations over torch's batch norm, and over the floor of bytes moved at a copy's bandwidth."""
    for shape in (effort.images, effort.rows):
        x, place = inputs(shape, device), f"{list(shape)} on {device}"
        turns = {name: both_ways(layer, x) for name, layer in norm_layers(x).items()}
        times = timed(turns | copies(x), effort.rounds, device)
        moved = {name: times.pop(name) for name in ("there", "new")}
        for name, found in moved.items():
            rates = [2e-9 * x.numel() * x.element_size() / t for t in found]
            yield row(f"copying into memory that is {name}, {place}", "", rates, ".3g", "GB/s")
        for name, line in against("torch's batch norm", times, place):
            passes = VARIANTS[name].floor
            floor = passes * statistics.median(moved["there"]) / 2  # a copy is two passes
            over = statistics.median(times[name]) / floor
            yield replace(line, detail=f"{line.detail}; {over:.1f} times the floor of {passes} passes")


def compiled(effort: Effort, device: torch.device) -> Iterator[Row]:
    """Compiled norm layers over torch's batch norm compiled, and that over itself; nothing without a C++ compiler."""
    torch._dynamo.config.recompile_limit = 100  # many layers share a function
    for shape in (effort.images, effort.rows) if effort.compiled else ():
        x, base = inputs(shape, device), "torch's batch norm"
        layers = {name: layer for name, layer in norm_layers(x).items() if name in (base, *COMPILED)}
        turns = {f"{name}, compiled": both_ways(torch.compile(layer), x) for name, layer in layers.items()}
        times = timed({f"{base}, eager": both_ways(layers[base], x)} | turns, effort.rounds, device)
        yield from (line for _, line in against(f"{base}, compiled", times, f"{list(shape)} on {device}"))


def layers_of(names: list[str], shape: tuple[int, ...], block: bool) -> Layers:
    """Methods' 3x3 convolutions or square linear layers for inputs of a shape; blocks: with norm and nonlinearity."""
    layers: Layers = {}
    width, dims = shape[1], len(shape) - 2
    for name in names:
        kit = Kit(METHODS.build({"name": name}))
        layer = kit.conv(width, width, 3, padding=1) if dims else kit.linear(width, width)
        layers[name] = nn.Sequential(layer, kit.norm_act(width, dims)) if block else layer
        kit.method.init(layers[name])
    return layers


def weights(effort: Effort, device: torch.device) -> Iterator[Row]:
    """Layers whose weights a method computes, over the plain layer."""
    names = [name for name in METHODS if METHODS.build({"name": name}).wrap is not as_it_is]
    for shape in ((effort.conv, *effort.images[1:]), effort.rows):
        x = inputs(shape, device)
        turns = {
            name: both_ways(layer.to(device), x) for name, layer in layers_of(["none", *names], shape, False).items()
        }
        turns["the plain layer"] = turns.pop("none")
        times = timed(turns, effort.rounds, device)
        yield from (line for _, line in against("the plain layer", times, f"{list(shape)} on {device}"))


def blocks(effort: Effort, device: torch.device) -> Iterator[Row]:
    """An update of weight layer, norm and nonlinearity, over that of bn; the optimizer is the method's over SGD."""
    for kind, shape in (("convolution", (effort.conv, *effort.images[1:])), ("linear", effort.rows)):
        x, turns = inputs(shape, device), {}
        for name, layer in layers_of(list(METHODS), shape, block=True).items():
            layer.to(device)
            optimizer = SGD(layer.parameters(), lr=1e-6, momentum=0.9)
            turns[name] = both_ways(layer, x, METHODS.build({"name": name}).optimizer(layer, optimizer))
        times = timed(turns, effort.rounds, device)
        for name, line in against("bn", times, f"{kind} block {list(shape)} on {device}"):
            aim = "at most 1.5" if name in ("brn", "dbn", "l1bn", "normprop") else ""
            yield Cost(**vars(replace(line, aim=aim)), method=name, block=kind)


def recurrent(effort: Effort, device: torch.device) -> Iterator[Row]:
    """LSTM layers with batch normalization over torch's."""
    x = inputs(effort.sequences, device)
    width, base = x.shape[-1], "torch's LSTM"
    layers: Layers = {base: nn.LSTM(width, width)}
    for variant in ("frame_wise", "per_step"):
        method = METHODS.build({"name": "bn_recurrent", "variant": variant})
        layers[f"bn_recurrent, {variant}"] = method.recurrent(width, width)
    times = timed({name: both_ways(layer.to(device), x) for name, layer in layers.items()}, effort.rounds, device)
    yield from (line for _, line in against(base, times, f"{list(x.shape)} on {device}"))


PARTS = {"norms": norms, "compiled": compiled, "weights": weights, "blocks": blocks, "recurrent": recurrent}


def write_costs(path: Path, rows: list[Row]) -> None:
    """What a block costs relative to bn's on the CPU, as `list_methods.py` reads it."""
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["method", "block", "over_bn", "quartiles"])
        for line in rows:
            if isinstance(line, Cost) and line.what.endswith("on cpu"):
                writer.writerow([line.method, line.block, line.measured, line.spread])


def main() -> None:
    """Measure the parts that the command line names, all by default."""
    asked = options(__doc__, list(PARTS), "costs")
    torch.set_num_threads(1)
    torch.manual_seed(0)
    effort = QUICK if asked.quick else FULL
    devices = [torch.device(name) for name in ("cpu", *["cuda"] * torch.cuda.is_available())]
    rows = [line for device in devices for part in asked.parts for line in PARTS[part](effort, device)]
    show(f"Normalization, torch {torch.__version__}, 1 thread", rows)
    if asked.costs:
        write_costs(asked.costs, rows)


if __name__ == "__main__":
    main()
