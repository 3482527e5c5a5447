"""What batch statistics are computed by: torch's kernels, with the gradient of the formula, and few passes over x."""

import pytest
import torch
from torch.autograd import gradcheck, gradgradcheck
from torch.func import vmap
from torch.utils._python_dispatch import TorchDispatchMode

from normtables.norms import METHODS
from normtables.norms.batches import affine, along, axes, moments

SHAPES = ([6, 3], [4, 3, 2], [3, 3, 2, 2])
PAST = {"warmup": 0, "r_until": 0, "d_until": 0}


def values(*shape):
    return torch.randn(shape, dtype=torch.float64, requires_grad=True)


@pytest.mark.parametrize("shape", SHAPES)
def test_affine_is_the_formula_with_the_gradient_of_all_four(shape):
    x, mean, gain, bias = values(*shape), values(3), values(3), values(3)
    torch.testing.assert_close(affine(x, mean, gain, bias), (x - along(x, mean)) * along(x, gain) + along(x, bias))
    assert gradcheck(affine, (x, mean, gain, bias))
    assert gradgradcheck(affine, (x, mean, gain, bias))


@pytest.mark.parametrize("shape", SHAPES)
def test_moments_are_mean_and_biased_variance_with_their_gradient(shape):
    x = values(*shape)
    variance, mean = torch.var_mean(x, axes(x), correction=0)
    torch.testing.assert_close(moments(x, x.dtype), (mean, variance))
    assert gradcheck(lambda x: moments(x, x.dtype), x)
    assert gradgradcheck(lambda x: moments(x, x.dtype), x)


def test_moments_far_from_zero_keep_their_digits():
    """A sum of squares would lose all digits here."""
    x = torch.randn(1000, 3) + 1e4
    variance, mean = torch.var_mean(x.double(), 0, correction=0)
    torch.testing.assert_close(moments(x, torch.float32), (mean.float(), variance.float()), rtol=1e-3, atol=0)


@pytest.mark.parametrize("member", [0, 1, 2, -1])
@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_moments_of_stacked_members_are_those_of_each_alone(member, layout):
    parts = [torch.randn(4, 3, 2, 2).contiguous(memory_format=layout) for _ in range(5)]
    found = vmap(lambda x: moments(x, torch.float32), in_dims=member)(torch.stack(parts, member))
    for ours, theirs in zip(found, zip(*[moments(part, torch.float32) for part in parts])):
        torch.testing.assert_close(ours, torch.stack(theirs))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_has_full_statistics(dtype):
    x = (torch.randn(50, 3) + 1).to(dtype)
    variance, mean = torch.var_mean(x.float(), 0, correction=0)
    torch.testing.assert_close(moments(x, torch.float32), (mean, variance))
    assert affine(x, mean, variance, mean).dtype == dtype


def test_compiled_they_are_the_formula():
    x, mean, gain, bias = values(6, 3), values(3), values(3), values(3)
    for one in (lambda: moments(x, x.dtype), lambda: affine(x, mean, gain, bias)):
        torch.testing.assert_close(torch.compile(one, fullgraph=True, backend="aot_eager")(), one())


class Kernels(TorchDispatchMode):
    """The names of what reads or writes tensors of a size."""

    def __init__(self, size):
        super().__init__()
        self.size, self.names = size, []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        met = [*args, *(out if isinstance(out, tuple | list) else [out])]
        if any(isinstance(one, torch.Tensor) and one.numel() == self.size for one in met):
            self.names.append(func.overloadpacket.__name__)
        return out


STATISTICS, FORWARD, BACKWARD = "batch_norm_update_stats", "native_batch_norm", "native_batch_norm_backward"
ONE_PASS = [STATISTICS, FORWARD, BACKWARD]
WITH_STATISTICS = [*ONE_PASS, FORWARD, "add"]  # the statistics' gradient, and the sum of both


@pytest.mark.parametrize(
    ("name", "options", "kernels"),
    [
        ("bn", {}, [FORWARD, BACKWARD]),
        ("bn", {"flow": False}, ONE_PASS),
        ("bn", {"use": "running"}, WITH_STATISTICS),
        ("dbn", {}, ONE_PASS),
        ("dbn", {"forward": "batch"}, ONE_PASS),
        ("dbn", {"alpha": "1/m", "averaged": "variance"}, ONE_PASS),
        ("dbn", {"gradient": "batch"}, WITH_STATISTICS),
        ("brn", {}, ONE_PASS),
        ("brn", PAST, ONE_PASS),
        ("brn", {"flow": False}, ONE_PASS),
        ("normprop", {}, [FORWARD, BACKWARD]),
    ],
    ids=str,
)
def test_activations_are_touched_by_as_few_kernels_as_there_can_be(name, options, kernels):
    """Each is a pass or more over memory, which is all that a norm layer costs; bench_norms.py has the times."""
    layer = METHODS.build({"name": name, **options}).norm(4, 2)
    x = torch.randn(5, 4, 3, 3, requires_grad=True)
    push = torch.ones_like(x)
    with Kernels(x.numel()) as found:
        layer(x).backward(push)
    passive = {"detach", "view", "alias", "new_zeros"}  # they read nothing of it
    assert [kernel for kernel in found.names if kernel not in passive] == kernels
