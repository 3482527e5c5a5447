"""LSTM layers with batch normalization against float64 loops over steps and examples, and against torch's LSTM."""

import copy
import itertools

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from normtables.errors import UserError
from normtables.norms import METHODS, Kit, bn_recurrent
from normtables.training.run import execute

VARIANTS = ["frame_wise", "per_step"]


def method(**options):
    return METHODS.build({"name": "bn_recurrent", **options})


def build(variant, inputs=3, hidden=4, seed=0, dtype=torch.float64, **options):
    """A layer with all of its parameters away from their beginnings."""
    torch.manual_seed(seed)
    layer = Kit(method(variant=variant, **options)).recurrent(inputs, hidden).to(dtype)
    with torch.no_grad():
        for name, parameter in layer.named_parameters():
            if not name.startswith("weight"):
                parameter.add_(0.3 * torch.randn_like(parameter))
    return layer


def states(n, hidden=4, dtype=torch.float64):
    return tuple(torch.randn(1, n, hidden, dtype=dtype) for _ in range(2))


# an independent reference


def plain_norm(x, gamma, beta, kind):
    """[n, features] by the formulas of the two papers, with the batch's statistics."""
    mean = sum(x) / len(x)
    variance = sum((row - mean) ** 2 for row in x) / len(x)
    if kind == "frame_wise":  # the authors' code: the mean of (x - m)^2 + 1e-6, root, and 1e-6 once more
        return gamma * (x - mean) / (variance.add(1e-6).sqrt() + 1e-6) + beta
    return gamma * (x - mean) / (variance + 1e-5).sqrt() + beta


def plain(variant, layer, x, h, c, norm=plain_norm):
    """Step by step, gate by gate."""
    p = dict(layer.named_parameters())
    hidden = h.shape[-1]
    outputs, h, c = [], h[0], c[0]
    for frame in x:
        gates = []
        for k in range(4):
            at = slice(k * hidden, (k + 1) * hidden)
            w, u = frame @ p["weight_ih_l0"][at].T, h @ p["weight_hh_l0"][at].T
            w = norm(w, p["norm_ih.gamma"][at], p["norm_ih.beta"][at], variant)
            if variant == "per_step":
                u = norm(u, p["norm_hh.gamma"][at], 0, variant)
            gates.append(w + u)
        i, f, g, o = gates
        c = f.sigmoid() * c + i.sigmoid() * g.tanh()
        inner = norm(c, p["norm_c.gamma"], p["norm_c.beta"], variant) if variant == "per_step" else c
        h = o.sigmoid() * inner.tanh()
        outputs.append(h)
    return torch.stack(outputs), (h[None], c[None])


def with_gradients(call, layer, x, state):
    inputs = [x.clone().requires_grad_(), *(s.clone().requires_grad_() for s in state)]
    outputs, (h, c) = call(inputs[0], (inputs[1], inputs[2]))
    generator = torch.Generator().manual_seed(1)
    push = [torch.randn(y.shape, dtype=y.dtype, generator=generator) for y in (outputs, h, c)]
    total = sum((y * g).sum() for y, g in zip((outputs, h, c), push))
    return [outputs, h, c, *torch.autograd.grad(total, [*inputs, *layer.parameters()])]


def same(layer, variant, x, state):
    got = with_gradients(layer, layer, x, state)
    expected = with_gradients(lambda x, s: plain(variant, layer, x, *s), layer, x, state)
    for one, other in zip(got, expected):
        torch.testing.assert_close(one, other)


@pytest.mark.parametrize("variant", VARIANTS)
def test_training_is_the_plain_loop(variant):
    same(build(variant), variant, torch.randn(5, 6, 3, dtype=torch.float64), states(6))


@given(time=st.integers(1, 4), n=st.integers(2, 5), inputs=st.integers(1, 4), hidden=st.integers(1, 4))
@settings(max_examples=15, deadline=None)
@pytest.mark.parametrize("variant", VARIANTS)
def test_any_shape_and_a_small_spread(variant, time, n, inputs, hidden):
    """Inputs so alike that both epsilons count."""
    layer = build(variant, inputs, hidden)
    same(layer, variant, 0.01 * torch.randn(time, n, inputs, dtype=torch.float64), states(n, hidden))


@pytest.mark.parametrize("variant", VARIANTS)
def test_a_state_that_is_not_given_is_zero(variant):
    layer = build(variant)
    x = torch.randn(3, 5, 3, dtype=torch.float64)
    zeros = torch.zeros(1, 5, 4, dtype=torch.float64)
    torch.testing.assert_close(layer(x), layer(x, (zeros, zeros)), rtol=0, atol=0)


@pytest.mark.parametrize("variant", VARIANTS)
def test_gradcheck(variant):
    layer = build(variant, 2, 2, momentum=1e-9)
    x = torch.randn(3, 3, 2, dtype=torch.float64, requires_grad=True)
    state = [s.requires_grad_() for s in states(3, 2)]
    assert torch.autograd.gradcheck(lambda x, h, c: layer(x, (h, c))[0], (x, *state))


def test_gradcheck_of_what_a_batch_is_normalised_by():
    """Of each result; training itself pushes nothing back through the mean."""
    x = torch.randn(2, 4, 3, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(bn_recurrent.Centre.apply, x, check_batched_grad=True)


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_without_normalization_it_is_torchs_lstm(variant, dtype, monkeypatch):
    monkeypatch.setattr(
        bn_recurrent.StepNorm,
        "normalise",
        lambda self, x, rows: (x if self.beta is None else x + self.beta, (x[..., :1, :], x[..., :1, :])),
    )
    layer = build(variant, dtype=dtype, evaluation="batch")
    if variant == "per_step":
        nn.init.zeros_(layer.norm_c.beta)
    lstm = nn.LSTM(3, 4).to(dtype)
    with torch.no_grad():
        lstm.weight_ih_l0.copy_(layer.weight_ih_l0)
        lstm.weight_hh_l0.copy_(layer.weight_hh_l0)
        lstm.bias_ih_l0.copy_(layer.norm_ih.beta)
        lstm.bias_hh_l0.zero_()
    x, state = torch.randn(6, 5, 3, dtype=dtype), states(5, dtype=dtype)
    torch.testing.assert_close(layer(x, state), lstm(x, state))
    torch.testing.assert_close(layer(x), lstm(x))


def test_the_way_in_is_one_product_for_all_steps(monkeypatch):
    calls = []
    linear = nn.functional.linear
    monkeypatch.setattr(nn.functional, "linear", lambda x, *rest: calls.append(x.shape) or linear(x, *rest))
    build("frame_wise")(torch.randn(7, 5, 3, dtype=torch.float64))
    assert calls == [(7, 5, 3)]


# statistics by position


def frame_statistics(layer, x):
    """Mean and spread of W x at each position, as the averages hold them: [time, 4 hidden] each."""
    gates = x @ layer.weight_ih_l0.detach().T
    variance = gates.var(1, correction=0)
    return gates.mean(1), (variance + 1e-6).sqrt() if isinstance(layer.norm_ih, bn_recurrent.FrameNorm) else variance


@pytest.mark.parametrize("variant", VARIANTS)
def test_averages_over_training_by_position(variant):
    """From mean 0 and spread 1; a short sequence leaves later positions, a long one what is beyond `steps`."""
    layer = build(variant, steps=4, momentum=0.25)
    mean, spread = torch.zeros(4, 16, dtype=torch.float64), torch.ones(4, 16, dtype=torch.float64)
    for time in (2, 3, 6, 2):
        x = torch.randn(time, 5, 3, dtype=torch.float64) + 1
        layer(x)
        new = frame_statistics(layer, x)
        n = min(time, 4)
        mean[:n] += 0.25 * (new[0][:n] - mean[:n])
        spread[:n] += 0.25 * (new[1][:n] - spread[:n])
        torch.testing.assert_close(layer.norm_ih.mean, mean)
        torch.testing.assert_close(layer.norm_ih.spread, spread)
    assert layer.norm_ih.reached == 4


@pytest.mark.parametrize("variant", VARIANTS)
def test_evaluation_with_the_averages_of_a_batch_is_training_on_it(variant):
    """momentum 1 on one batch: the population is that batch, in every norm of the layer."""
    layer = build(variant, momentum=1.0)
    x, state = torch.randn(5, 6, 3, dtype=torch.float64), states(6)
    expected = layer(x, state)
    layer.eval()
    torch.testing.assert_close(layer(x, state), expected)


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize(("trained", "steps", "last"), [(3, 10, 2), (6, 4, 3)])
def test_positions_beyond_take_the_last_average(variant, trained, steps, last):
    layer = build(variant, steps=steps, momentum=1.0)
    layer(torch.randn(trained, 6, 3, dtype=torch.float64))
    mean, spread = layer.norm_ih.rows(8)
    kept = [min(t, last) for t in range(8)]
    torch.testing.assert_close(mean[:, 0], layer.norm_ih.mean[kept])
    torch.testing.assert_close(spread[:, 0], layer.norm_ih.spread[kept])
    layer.eval()
    assert torch.isfinite(layer(torch.randn(8, 2, 3, dtype=torch.float64))[0]).all()


@pytest.mark.parametrize("variant", VARIANTS)
def test_population_evaluation_changes_nothing_and_sees_one_sequence_at_a_time(variant):
    layer = build(variant)
    layer(torch.randn(5, 6, 3, dtype=torch.float64))
    layer.eval()
    before = copy.deepcopy(layer.state_dict())
    x, (h, c) = torch.randn(5, 6, 3, dtype=torch.float64), states(6)
    apart = [layer(x[:, k : k + 1], (h[:, k : k + 1], c[:, k : k + 1]))[0] for k in range(6)]
    torch.testing.assert_close(layer(x, (h, c))[0], torch.cat(apart, 1))
    assert all(torch.equal(before[k], v) for k, v in layer.state_dict().items())


@pytest.mark.parametrize("variant", VARIANTS)
def test_batch_evaluation_is_training_without_a_trace(variant):
    layer = build(variant, evaluation="batch")
    before = copy.deepcopy(layer.state_dict())
    x, state = torch.randn(5, 6, 3, dtype=torch.float64), states(6)
    expected = layer(x, state)
    torch.testing.assert_close(layer.eval()(x, state), expected, rtol=0, atol=0)
    assert all(torch.equal(before[k], v) for k, v in layer.state_dict().items())


class Given:
    """A norm for `plain` with statistics that are given, [time, 4 hidden] each."""

    def __init__(self, mean, spread):
        self.mean, self.spread, self.calls = mean, spread, itertools.count()

    def __call__(self, w, gamma, beta, kind):
        t, gate = divmod(next(self.calls), 4)
        at = slice(4 * gate, 4 * gate + 4)
        return gamma * (w - self.mean[t, at]) / (self.spread[t, at] + 1e-6) + beta


def test_published_evaluation_is_nine_tenths_of_the_batch():
    """The validation graph of Laurent's code: buffers from zeros, updated with what each batch was normalised with."""
    layer = build("frame_wise", evaluation="published", steps=3)
    layer(torch.randn(3, 6, 3, dtype=torch.float64))  # training leaves no trace
    layer.eval()
    mean = spread = torch.zeros(3, 16, dtype=torch.float64)
    for _ in range(3):
        x, state = torch.randn(3, 6, 3, dtype=torch.float64), states(6)
        new = frame_statistics(layer, x)
        mean, spread = 0.1 * mean + 0.9 * new[0], 0.1 * spread + 0.9 * new[1]
        expected = plain("frame_wise", layer, x, *state, norm=Given(mean, spread))
        torch.testing.assert_close(layer(x, state), expected)
        torch.testing.assert_close(layer.norm_ih.mean, mean)
        torch.testing.assert_close(layer.norm_ih.spread, spread)


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("evaluation", ["population", "published"])
def test_a_state_dict_carries_everything(variant, evaluation):
    layer, other = (build(variant, seed=seed, evaluation=evaluation) for seed in (0, 1))
    for training in (True, False):
        layer.train(training)(torch.randn(5, 6, 3, dtype=torch.float64))
    other.load_state_dict(copy.deepcopy(layer.state_dict()))
    for training in (True, False, False):
        x = torch.randn(4, 6, 3, dtype=torch.float64)
        assert torch.equal(layer.train(training)(x)[0], other.train(training)(x)[0])
    torch.testing.assert_close(layer.state_dict(), other.state_dict(), rtol=0, atol=0)


def test_averages_hold_no_graph():
    layer = build("per_step")
    for _ in range(2):
        layer(torch.randn(3, 5, 3, dtype=torch.float64, requires_grad=True))[0].sum().backward()
    assert not any(buffer.requires_grad for buffer in layer.buffers())


@pytest.mark.parametrize("variant", VARIANTS)
def test_a_sequence_in_two_parts_is_the_whole(variant):
    """Each position has the statistics of its own batch, so cutting a sequence changes nothing but the averages."""
    layer = build(variant)
    x, state = torch.randn(6, 5, 3, dtype=torch.float64), states(5)
    first, middle = layer(x[:4], state)
    second, last = layer(x[4:], middle)
    whole, end = layer(x, state)
    torch.testing.assert_close(torch.cat([first, second]), whole)
    torch.testing.assert_close(last, end)


# how it begins, and what else the method is


def test_the_papers_beginnings():
    frame, step = (Kit(method(variant=variant)).recurrent(3, 50) for variant in VARIANTS)
    assert {n for n, _ in frame.named_parameters()} == {
        *("weight_ih_l0", "weight_hh_l0"),
        *("norm_ih.gamma", "norm_ih.beta"),
    }
    assert (frame.norm_ih.gamma == 1).all()
    assert (frame.norm_ih.beta == 0).all()
    assert {n for n, _ in step.named_parameters()} == {
        *("weight_ih_l0", "weight_hh_l0", "norm_ih.gamma", "norm_ih.beta", "norm_hh.gamma"),
        *("norm_c.gamma", "norm_c.beta"),
    }
    for norm in (step.norm_ih, step.norm_hh, step.norm_c):
        assert (norm.gamma == 0.1).all()
    assert step.norm_ih.beta.tolist() == [0.0] * 50 + [1.0] * 50 + [0.0] * 100
    assert (step.norm_c.beta == 0).all()
    for layer in (frame, step):
        for weight in (layer.weight_ih_l0, layer.weight_hh_l0):
            assert 0.95 * 50**-0.5 < weight.abs().max() <= 50**-0.5
    assert (Kit(method(gamma=0.5)).recurrent(3, 2).norm_ih.gamma == 0.5).all()


def test_the_default_of_a_kit_is_torchs_lstm():
    layer = Kit(METHODS.build({"name": "none"})).recurrent(3, 4)
    assert isinstance(layer, nn.LSTM)
    outputs, (h, c) = layer(torch.randn(5, 2, 3))
    assert (outputs.shape, h.shape, c.shape) == ((5, 2, 4), (1, 2, 4), (1, 2, 4))


@pytest.mark.parametrize("variant", VARIANTS)
def test_shapes_are_those_of_torchs_lstm(variant):
    outputs, (h, c) = build(variant, dtype=torch.float32)(torch.randn(5, 2, 3))
    assert (outputs.shape, h.shape, c.shape) == ((5, 2, 4), (1, 2, 4), (1, 2, 4))
    torch.testing.assert_close(outputs[-1], h[0])


def test_layers_that_are_not_recurrent_are_batch_normalization(small):
    chosen = method(momentum=0.25)
    assert isinstance(chosen.norm(4, 2), nn.BatchNorm2d)
    assert chosen.norm(4, 0).momentum == 0.25
    assert chosen.shifts
    weights = {execute(small(norm=name)).facts["weights"] for name in ("bn", "bn_recurrent")}
    assert len(weights) == 1


@pytest.mark.parametrize("variant", VARIANTS)
def test_a_single_sequence_needs_averages(variant):
    x = torch.randn(3, 1, 3, dtype=torch.float64)
    for evaluation, training in itertools.product(("population", "batch", "published"), (True, False)):
        layer = build(variant, evaluation=evaluation).train(training)
        if evaluation == "population" and not training:
            assert layer(x)[0].shape == (3, 1, 4)
        else:
            with pytest.raises(UserError, match="batch_size") as error:
                layer(x)
            assert "\n" not in str(error.value)


@pytest.mark.parametrize("variant", VARIANTS)
def test_autocast_keeps_full_statistics(variant):
    layer = build(variant, dtype=torch.float32)
    x = torch.randn(4, 6, 3)
    expected = copy.deepcopy(layer)(x)[0]
    with torch.autocast("cpu", torch.bfloat16):
        outputs, _ = layer(x)
        outputs.float().sum().backward()
    assert layer.norm_ih.mean.dtype == torch.float32
    torch.testing.assert_close(outputs.float(), expected, rtol=0.1, atol=0.05)
    assert all(torch.isfinite(p.grad).all() for p in layer.parameters())


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("training", [True, False])
def test_members_can_be_stacked(variant, training):
    layers = [build(variant, seed=seed).train(training) for seed in range(3)]
    parameters, buffers = torch.func.stack_module_state(layers)
    x = torch.randn(4, 6, 3, dtype=torch.float64)

    def call(parameters, buffers):
        return torch.func.functional_call(layers[0], (parameters, buffers), (x,))[0]

    got = torch.func.vmap(call)(parameters, buffers)
    torch.testing.assert_close(got, torch.stack([layer(x)[0] for layer in layers]))


@pytest.mark.parametrize("variant", VARIANTS)
def test_compiled_without_graph_breaks(variant):
    layer = build(variant)
    compiled = torch.compile(copy.deepcopy(layer), backend="eager", fullgraph=True)
    for training in (True, False):
        x = torch.randn(2, 6, 3, dtype=torch.float64)
        torch.testing.assert_close(compiled.train(training)(x), layer.train(training)(x))


@pytest.mark.parametrize(
    "options",
    [
        {"variant": "sequence_wise"},
        {"evaluation": "test"},
        {"steps": 0},
        {"steps": 1.5},
        {"gamma": float("nan")},
        {"momentum": 0},
        {"momentum": 1.5},
    ],
    ids=str,
)
def test_bad_options_are_refused(options):
    with pytest.raises(UserError, match=next(iter(options))) as error:
        method(**options)
    assert "\n" not in str(error.value)
