"""The machine a run uses and the facts that its record keeps of it."""

import ctypes
import os
import platform
import subprocess
from collections.abc import Mapping
from functools import cache
from importlib.metadata import version
from typing import Any

import torch
from torch import nn

from normtables import __version__, processes
from normtables.errors import UserError
from normtables.places import ROOT

M_TRIM_THRESHOLD, M_MMAP_MAX = -1, -4  # mallopt's names in glibc's malloc.h
DTYPES = {"float32": torch.float32, "float64": torch.float64, "bfloat16": torch.float32}


def choose_device(name: str) -> torch.device:
    """The device that runtime.device names, of several processes each one's own; raises UserError where there is none
    such."""
    if name == "auto":
        return choose_device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise UserError(f"runtime.device={name}: auto, cpu, cuda or cuda:1") from error
    if device.type == "cuda" and processes.size() > 1:
        device = own_device(device)
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise UserError(f"runtime.device={name}: torch sees {torch.cuda.device_count()} CUDA devices here")
    return device


def own_device(device: torch.device) -> torch.device:
    """The CUDA device of this process among those that make a run together: one each, or the only one that it sees."""
    if device.index is not None:
        raise UserError(f"runtime.device={device}: {processes.size()} processes take a device each: cuda")
    return torch.device("cuda", processes.local_rank() if torch.cuda.device_count() > 1 else 0)


def prepare(threads: int, tf32: bool, deterministic: bool) -> None:
    """Set torch's global switches for the run that follows; every run sets them all, so none leaks into the next."""
    if threads < 1:
        raise UserError(f"runtime.threads={threads}: at least 1")
    keep_memory()
    torch.set_num_threads(threads)
    torch.set_float32_matmul_precision("high" if tf32 else "highest")
    torch.backends.cudnn.allow_tf32 = tf32
    if torch.cuda.is_available():  # on the CPU the layers used here have no other kernels, and asking takes seconds
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
        torch.use_deterministic_algorithms(deterministic, warn_only=True)
    torch.backends.cudnn.benchmark = not deterministic


@cache
def keep_memory() -> None:
    """Let glibc keep freed memory: else it takes every tensor above 32 MB anew from the system, page by page, which is
    half of the time of an update whose layers are that large. Nothing happens on systems without mallopt."""
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError, TypeError):  # macOS, musl; Windows refuses None
        return
    mallopt(M_MMAP_MAX, 0)
    mallopt(M_TRIM_THRESHOLD, 2**31 - 1)


@cache
def versions() -> dict[str, str]:
    """Versions of what computes the numbers."""
    installed = {name: version(name) for name in ("torch", "torchvision", "numpy", "scikit-learn")}
    return {"normtables": __version__, "python": platform.python_version(), **installed}


@cache
def checkout() -> dict[str, Any]:
    """The commit of the checkout and whether tracked files outside results/ differ from it; empty without git."""
    try:
        commit = git("rev-parse", "HEAD")
        changed = git("status", "--porcelain", "--untracked-files=no", "--", ".", ":!results")
    except (OSError, subprocess.CalledProcessError):
        return {"commit": "", "dirty": True}
    return {"commit": commit, "dirty": bool(changed)}


def git(*words: str) -> str:
    """What a git command prints, run in the checkout."""
    return subprocess.run(["git", *words], cwd=ROOT, check=True, capture_output=True, text=True).stdout.strip()


def processor(device: torch.device) -> str:
    """The name of the processor that a device is."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    try:
        with open("/proc/cpuinfo") as file:
            names = [line.split(":", 1)[1].strip() for line in file if line.startswith("model name")]
    except OSError:
        names = []
    return names[0] if names else platform.processor() or platform.machine()


def describe(model: nn.Module, device: torch.device, runtime: Mapping[str, Any]) -> dict[str, Any]:
    """The facts of a record that are known before training."""
    return {
        "parameters": sum(p.numel() for p in model.parameters()),
        "device": f"{device.type} ({processor(device)})",
        "threads": runtime["threads"],
        "compile": runtime["compile"],
        "versions": versions(),
        **checkout(),
    }
