"""Diminishing batch normalization against Algorithm 1 of Ma & Klabjan in NumPy, and against torch's layers."""

import itertools
from functools import partial

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from normtables.errors import UserError
from normtables.norms import METHODS

EPSILON = 0.05  # large, so that a misplaced one is seen
READINGS = list(
    itertools.product(
        ("average", "batch"),
        ("none", "batch"),
        ("sigma", "variance", "inverse_sigma"),
        ("sigma", "variance"),
        (0.3, "1/m"),
    )
)
LIBRARY = {"forward": "batch", "gradient": "batch", "averaged": "inverse_sigma", "epsilon_in": "variance"}
SHAPES = ([6, 3], [4, 3, 2], [3, 3, 2, 2])


def build(channels=3, dims=0, **options):
    return METHODS.build({"name": "dbn", "epsilon": EPSILON, **options}).norm(channels, dims).double()


def along(x, values):
    """Per-channel values in the shape of x."""
    return values.reshape([1, -1] + [1] * (x.ndim - 2))


class Reference:
    """One layer of Algorithm 1 with the readings' options, statistics as in the paper's text, all in float64."""

    def __init__(self, mu, stat, alpha, forward, gradient, averaged, epsilon_in, period=1):
        self.mu, self.stat, self.m = mu, stat, 0
        self.alpha, self.forward, self.gradient, self.averaged = alpha, forward, gradient, averaged
        self.epsilon_in, self.period = epsilon_in, period

    def root(self, variance):
        return np.sqrt(variance + EPSILON) if self.epsilon_in == "variance" else np.sqrt(variance) + EPSILON

    def measure(self, x):
        rows = np.moveaxis(x, 1, -1).reshape(-1, x.shape[1])
        mean = rows.sum(0) / len(rows)
        variance = ((rows - mean) ** 2).sum(0) / len(rows)
        stat = {"sigma": np.sqrt(variance), "variance": variance, "inverse_sigma": 1 / self.root(variance)}
        return mean, stat[self.averaged]

    def denominator(self, stat):
        if self.averaged == "inverse_sigma":
            return 1 / stat
        return self.root(stat if self.averaged == "variance" else stat**2)

    def weight(self):
        index = -(-self.m // self.period)
        return {"1/m": 1 / index, "1/m^2": 1 / index**2}.get(self.alpha, self.alpha)

    def averaged_with(self, mean, stat):
        a = self.weight()
        return a * mean + (1 - a) * self.mu, a * stat + (1 - a) * self.stat

    def output(self, x, gamma, beta, mean, stat):
        return along(x, gamma) * (x - along(x, mean)) / along(x, self.denominator(stat)) + along(x, beta)

    def train(self, x, gamma, beta, push):
        """One training pass: outputs and the derivatives of (outputs * push).sum() by central differences."""
        self.m += 1
        fixed = self.measure(x)

        def loss(x_, gamma_, beta_):
            batch = self.measure(x_) if self.gradient == "batch" else fixed
            used = batch if self.forward == "batch" else self.averaged_with(*batch)
            return (self.output(x_, gamma_, beta_, *used) * push).sum()

        used = fixed if self.forward == "batch" else self.averaged_with(*fixed)
        y = self.output(x, gamma, beta, *used)
        grads = [differences(loss, i, x, gamma, beta) for i in range(3)]
        self.mu, self.stat = self.averaged_with(*fixed)
        return y, grads


def differences(f, which, *arguments, step=1e-5):
    found = np.zeros_like(arguments[which])
    for index in np.ndindex(found.shape):
        sides = []
        for sign in (1, -1):
            moved = [a.copy() for a in arguments]
            moved[which][index] += sign * step
            sides.append(f(*moved))
        found[index] = (sides[0] - sides[1]) / (2 * step)
    return found


def compare(layer, reference, shape, passes, seed=0):
    rng = np.random.default_rng(seed)
    for _ in range(passes):
        x, push = rng.normal(2, 3, shape), rng.normal(size=shape)
        gamma, beta = rng.normal(1, 0.3, 3), rng.normal(size=3)
        with torch.no_grad():
            layer.weight.copy_(torch.tensor(gamma))
            layer.bias.copy_(torch.tensor(beta))
        inputs = torch.tensor(x, requires_grad=True)
        outputs = layer(inputs)
        got = torch.autograd.grad((outputs * torch.tensor(push)).sum(), [inputs, layer.weight, layer.bias])
        y, grads = reference.train(x, gamma, beta, push)
        np.testing.assert_allclose(outputs.detach(), y, rtol=1e-10, atol=1e-10)
        for ours, theirs in zip(got, grads):
            np.testing.assert_allclose(ours, theirs, rtol=1e-6, atol=1e-6)
        np.testing.assert_allclose(layer.mu, reference.mu, rtol=1e-10)
        np.testing.assert_allclose(layer.scale, reference.stat, rtol=1e-10)
    layer.eval()
    x = rng.normal(2, 3, shape)
    expected = reference.output(x, gamma, beta, reference.mu, reference.stat)
    np.testing.assert_allclose(layer(torch.tensor(x)).detach(), expected, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize(("forward", "gradient", "averaged", "epsilon_in", "alpha"), READINGS)
def test_every_reading_is_algorithm_1_with_its_options(forward, gradient, averaged, epsilon_in, alpha):
    shape = SHAPES[READINGS.index((forward, gradient, averaged, epsilon_in, alpha)) % len(SHAPES)]
    options = {"forward": forward, "gradient": gradient, "averaged": averaged, "epsilon_in": epsilon_in, "alpha": alpha}
    layer = build(dims=len(shape) - 2, **options)
    compare(layer, Reference(np.zeros(3), np.ones(3), **options), shape, passes=3)


@pytest.mark.parametrize("alpha", [1, 0.001, 0, "1/m", "1/m^2"])
@pytest.mark.parametrize("initial", ["unit", "zero", "random"])
def test_every_alpha_from_every_beginning(alpha, initial):
    options = {"alpha": alpha, "forward": "average", "gradient": "none", "averaged": "sigma", "epsilon_in": "sigma"}
    layer = build(initial=initial, **options)
    mu, stat = layer.mu.numpy().copy(), layer.scale.numpy().copy()
    if initial != "random":
        assert (mu == 0).all()
        assert (stat == (initial == "unit")).all()
    compare(layer, Reference(mu, stat, **options), SHAPES[0], passes=4)


@pytest.mark.parametrize("alpha", ["1/m", "1/m^2"])
def test_m_can_count_epochs(alpha):
    options = {"alpha": alpha, "forward": "average", "gradient": "none", "averaged": "sigma", "epsilon_in": "sigma"}
    method = METHODS.build({"name": "dbn", "epsilon": EPSILON, "count": "epoch", **options})
    model = nn.Sequential(method.norm(3, 0)).double()
    method.prepare(model, lambda: torch.zeros(()), {"step": 1, "epoch": 3})
    compare(model[0], Reference(np.zeros(3), np.ones(3), period=3, **options), SHAPES[0], passes=8)


def test_without_being_asked_m_counts_updates():
    method = METHODS.build({"name": "dbn", "alpha": "1/m"})
    model = nn.Sequential(method.norm(3, 0))
    method.prepare(model, lambda: torch.zeros(()), {"step": 1, "epoch": 3})
    assert model[0].period == 1


def test_a_random_beginning_is_drawn_between_0_and_1_by_the_weights_seed():
    first, second, third = (build(500, initial="random") for seed in (1, 1, 2) if torch.manual_seed(seed))
    for values in (first.mu, first.scale):
        assert 0 <= values.min() < 0.02 < 0.98 < values.max() <= 1
    assert not torch.equal(first.mu, first.scale)
    assert torch.equal(first.mu, second.mu)
    assert not torch.equal(first.mu, third.mu)


@settings(max_examples=20, deadline=None, derandomize=True)  # central differences fail at tiny spreads
@given(
    n=st.integers(2, 5),
    space=st.lists(st.integers(1, 3), max_size=2),
    reading=st.sampled_from(READINGS),
    seed=st.integers(0, 99),
)
def test_any_shape(n, space, reading, seed):
    options = dict(zip(("forward", "gradient", "averaged", "epsilon_in", "alpha"), reading))
    layer = build(dims=len(space), **options)
    compare(layer, Reference(np.zeros(3), np.ones(3), **options), [n, 3, *space], passes=2, seed=seed)


@pytest.mark.parametrize("options", [{}, {"alpha": 0.1}, {"alpha": 0, "forward": "batch"}, {"alpha": "1/m"}], ids=str)
@pytest.mark.parametrize("shape", [[1, 3], [1, 3, 1, 1]], ids=str)
def test_one_value_per_channel_is_refused(options, shape):
    """It has no spread: averaged, sigma would go to 0."""
    layer = build(dims=len(shape) - 2, **options)
    with pytest.raises(UserError, match="one value per channel") as error:
        layer(torch.randn(shape, dtype=torch.float64))
    assert "\n" not in str(error.value)
    assert layer.eval()(torch.randn(shape, dtype=torch.float64)).shape == torch.Size(shape)


def test_a_lambda_that_never_moves_takes_one_example():
    layer = build(alpha=0, initial="random")
    x = torch.randn(1, 3, dtype=torch.float64)
    torch.testing.assert_close(layer(x), layer.eval()(x))


# against torch's layers

TORCH = {0: nn.BatchNorm1d, 1: nn.BatchNorm1d, 2: nn.BatchNorm2d}


@pytest.mark.parametrize("dims", [0, 1, 2])
@pytest.mark.parametrize("averaged", ["sigma", "variance", "inverse_sigma"])
@pytest.mark.parametrize("forward", ["batch", "average"])  # alpha = 1: the average is the batch
def test_alpha_1_through_the_batch_is_torchs_layer_in_training(dims, averaged, forward):
    layer = build(dims=dims, **LIBRARY | {"averaged": averaged, "forward": forward})
    assert layer.fused == (averaged == "inverse_sigma" and forward == "batch")
    torchs = TORCH[dims](3, eps=EPSILON).double()
    for one in (layer, torchs):
        nn.init.normal_(one.weight, generator=torch.Generator().manual_seed(1))
        nn.init.normal_(one.bias, generator=torch.Generator().manual_seed(2))
    found = []
    x, push = torch.randn(SHAPES[dims], dtype=torch.float64) * 3 + 1, torch.randn(SHAPES[dims], dtype=torch.float64)
    for one in (layer, torchs):
        inputs = x.clone().requires_grad_()
        outputs = one(inputs)
        found.append([outputs, *torch.autograd.grad((outputs * push).sum(), [inputs, one.weight, one.bias])])
    for ours, theirs in zip(*found):
        torch.testing.assert_close(ours, theirs)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("alpha", [0.25, "1/m^2"])
def test_the_fused_path_is_the_formula(dtype, alpha):
    fused, plain = (build(alpha=alpha, **LIBRARY).to(dtype) for _ in range(2))
    assert fused.fused
    plain.fused = False
    for _ in range(3):
        x = torch.randn(8, 3, dtype=dtype) * 2 - 1
        found = []
        for layer in (fused, plain):
            inputs = x.clone().requires_grad_()
            outputs = layer(inputs)
            found.append([outputs, *torch.autograd.grad(outputs.pow(3).sum(), [inputs, layer.weight, layer.bias])])
        for one, other in zip(*found):
            torch.testing.assert_close(one, other)
        torch.testing.assert_close(fused.state_dict(), plain.state_dict())


def test_gradcheck_of_the_whole_layer():
    """torch's own numerical check, where the gradient is the whole one: through the batch's part of the statistics."""
    for averaged, forward in itertools.product(("sigma", "variance", "inverse_sigma"), ("average", "batch")):
        options = LIBRARY | {"averaged": averaged, "forward": forward, "alpha": 0.4}
        layer = partial(build, **options)  # a new one each time: a pass moves the statistics
        x = torch.randn(5, 3, dtype=torch.float64, requires_grad=True)
        assert torch.autograd.gradcheck(lambda x, layer=layer: layer()(x), x)


# state


@pytest.mark.parametrize("options", [{}, LIBRARY, {"forward": "batch"}], ids=["algorithm", "library", "batch"])
def test_alpha_0_never_moves_lambda(options):
    layer = build(alpha=0, initial="random", **options)
    before = layer.mu.clone(), layer.scale.clone()
    for _ in range(3):
        layer(torch.randn(5, 3, dtype=torch.float64) * 9 + 4)
    assert torch.equal(layer.mu, before[0])
    assert torch.equal(layer.scale, before[1])


@pytest.mark.parametrize("options", [{}, LIBRARY], ids=["algorithm", "library"])
def test_evaluation_uses_lambda_and_leaves_it(options):
    layer = build(alpha=0.5, **options)
    layer(torch.randn(5, 3, dtype=torch.float64) * 2 + 1)
    before = {k: v.clone() for k, v in layer.state_dict().items()}
    layer.eval()
    x = torch.randn(4, 3, dtype=torch.float64)
    alone = torch.cat([layer(row[None]) for row in x])
    torch.testing.assert_close(layer(x), alone)
    torch.testing.assert_close(layer.state_dict(), before, rtol=0, atol=0)


@pytest.mark.parametrize(
    "options", [{"alpha": "1/m"}, {"alpha": "1/m^2", "count": "epoch"}, {"alpha": "1/m", **LIBRARY}]
)
def test_a_state_dict_carries_everything(options):
    layer, other = (build(initial="random", **options) for _ in range(2))
    layer.period.fill_(2)
    for _ in range(3):
        layer(torch.randn(5, 3, dtype=torch.float64))
    other.load_state_dict(layer.state_dict())
    assert (other.passes, other.period) == (3, 2)
    for _ in range(3):
        x = torch.randn(5, 3, dtype=torch.float64)
        assert torch.equal(layer(x), other(x))
    torch.testing.assert_close(layer.state_dict(), other.state_dict(), rtol=0, atol=0)


def test_statistics_hold_no_graph():
    layer = build(alpha=0.5, gradient="batch")
    for _ in range(2):
        x = torch.randn(5, 3, dtype=torch.float64, requires_grad=True)
        layer(x).sum().backward()
    assert not layer.mu.requires_grad
    assert not layer.scale.requires_grad
    assert {name for name, _ in layer.named_buffers()} == {"mu", "scale", "passes", "period"}


@pytest.mark.parametrize("averaged", ["sigma", "variance", "inverse_sigma"])
@pytest.mark.parametrize("gradient", ["none", "batch"])
def test_a_constant_channel_stays_finite(averaged, gradient):
    """A dead ReLU behind the nonlinearity: variance exactly 0, where the root has no derivative."""
    layer = build(averaged=averaged, gradient=gradient, epsilon=1e-4)
    x = torch.zeros(5, 3, dtype=torch.float64, requires_grad=True)
    y = layer(x)
    y.sum().backward()
    assert torch.isfinite(y).all()
    assert torch.isfinite(x.grad).all()


@pytest.mark.parametrize("options", [{}, LIBRARY, {"gradient": "batch"}], ids=["algorithm", "library", "gradient"])
def test_half_precision_inputs_keep_full_statistics(options):
    layer = METHODS.build({"name": "dbn", "alpha": 0.5, **options}).norm(3, 0)
    y = layer(torch.randn(8, 3).bfloat16())
    y.float().sum().backward()
    assert y.dtype == torch.bfloat16
    assert layer.mu.dtype == layer.scale.dtype == torch.float32


@pytest.mark.parametrize("options", [{}, {"alpha": "1/m"}, {"alpha": "1/m", "gradient": "batch"}, LIBRARY], ids=str)
def test_a_compiled_layer_has_the_same_gradient(options):
    """Its backward pass may compute parts of the forward pass again, from the state as it was."""
    layer, other = (build(**options) for _ in range(2))
    compiled = torch.compile(layer, fullgraph=True, backend="aot_eager")
    for _ in range(2):
        x = torch.randn(7, 3, dtype=torch.float64, requires_grad=True)
        found = [[y := one(x), *torch.autograd.grad(y.pow(3).sum(), x)] for one in (compiled, other)]
        for ours, theirs in zip(*found):
            torch.testing.assert_close(ours, theirs)
    torch.testing.assert_close(layer.state_dict(), other.state_dict())


# options


def test_the_layer_stands_where_position_says():
    for position in ("before", "after"):
        method = METHODS.build({"name": "dbn", "position": position})
        assert method.after == (position == "after")
        assert method.shifts


@pytest.mark.parametrize("alpha", [2, -0.1, 1.0001, "1/n", "1", "", float("nan"), float("inf"), True, None, [1]])
def test_a_bad_alpha_is_refused(alpha):
    with pytest.raises(UserError, match="alpha") as error:
        METHODS.build({"name": "dbn", "alpha": alpha})
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    "options",
    [
        {"epsilon": 0},
        {"epsilon": -1.0},
        {"forward": "lambda"},
        {"gradient": True},
        {"count": "step"},
        {"initial": "one"},
        {"averaged": "std"},
        {"position": "between"},
        {"epsilon_in": "root"},
    ],
    ids=str,
)
def test_bad_readings_are_refused(options):
    with pytest.raises(UserError, match=next(iter(options))):
        METHODS.build({"name": "dbn", **options})
