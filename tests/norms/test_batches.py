"""Methods with batch statistics and their shared options against NumPy in float64, and against torch's layers."""

import copy
import itertools
import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.func import functional_call, grad, stack_module_state, vmap

from normtables.errors import UserError
from normtables.norms import METHODS
from normtables.norms.batches import Options, chunks
from normtables.norms.bn import OptionBatchNorm

EPSILON, MOMENTUM = 0.05, 0.3  # large, so that misplaced ones are seen
SHAPES = {0: [7, 3], 1: [5, 3, 2], 2: [5, 3, 2, 2]}
FAST = {"r_max": 1.2, "d_max": 0.4, "warmup": 1, "r_until": 3, "d_until": 2}  # both limits bind, and are inactive first
SHARED = [
    {"ghost": ghost, "update": update, "use": use, "flow": flow}
    for ghost, update, use, flow in itertools.product((0, 3), (True, False), ("batch", "running"), (True, False))
]
CASES = [("bn", o) for o in SHARED] + [("l1bn", o) for o in SHARED]
CASES += [("brn", FAST | {k: o[k] for k in ("ghost", "update", "flow")}) for o in SHARED if o["use"] == "batch"]
TYPICAL = [("bn", {"ghost": 3}), ("bn", {"flow": False}), ("bn", {"use": "running"}), ("brn", FAST)]
TYPICAL += [("brn", {**FAST, "ghost": 3, "flow": False}), ("l1bn", {}), ("l1bn", {"ghost": 3, "use": "running"})]
SCALES = {"bn": "running_var", "brn": "running_std", "l1bn": "running_scale"}


def build(name, dims=0, channels=3, **options):
    settings = {"name": name, "epsilon": EPSILON, "momentum": MOMENTUM, **options}
    layer = METHODS.build(settings).norm(channels, dims).double()
    for parameter in layer.parameters():
        nn.init.normal_(parameter, 1, 0.5)
    return layer


def rows(x):
    return np.moveaxis(x, 1, 0).reshape(x.shape[1], -1)


def along(x, values):
    return values.reshape([1, -1] + [1] * (x.ndim - 2))


class Reference:
    """A layer as its paper writes it, options by their own words, derivatives by central differences."""

    def __init__(self, name, ghost=0, update=True, use="batch", flow=True, **limits):
        self.name, self.ghost, self.update, self.use, self.flow, self.limits = name, ghost, update, use, flow, limits
        self.mean, self.scale, self.passes = np.zeros(3), np.ones(3), 0

    def measure(self, x):
        values = rows(x)
        mean = values.mean(1)
        centred = values - mean[:, None]
        variance = (centred**2).mean(1)
        scale = {"bn": variance, "brn": np.sqrt(variance + EPSILON)}
        return mean, scale.get(self.name, math.sqrt(math.pi / 2) * abs(centred).mean(1))

    def denominator(self, scale):
        return {"bn": np.sqrt(scale + EPSILON), "brn": scale, "l1bn": scale + EPSILON}[self.name]

    def blend(self, state, stats, values):
        scale = stats[1] * values / (values - 1) if self.name == "bn" else stats[1]
        return (1 - MOMENTUM) * state[0] + MOMENTUM * stats[0], (1 - MOMENTUM) * state[1] + MOMENTUM * scale

    def corrections(self, stats, state):
        if self.name != "brn":
            return 1.0, 0.0
        start = self.limits["warmup"]
        shares = [
            min(1, max(0, (self.passes - start) / (self.limits[k] - start) if self.limits[k] > start else 1))
            for k in ("r_until", "d_until")
        ]
        r_max, d_max = 1 + shares[0] * (self.limits["r_max"] - 1), shares[1] * self.limits["d_max"]
        r = np.minimum(np.maximum(stats[1] / state[1], 1 / r_max), r_max)
        return r, np.minimum(np.maximum((stats[0] - state[0]) / state[1], -d_max), d_max)

    def parts(self, x):
        size = -(-len(x) // self.ghost) if self.ghost else 1
        return np.array_split(x, size)

    def whole(self, x, gamma, beta, held):
        """The outputs of a training pass; what the gradient does not see comes from `held`, one entry per chunk."""
        ys = []
        for part, (constants, r, d, state) in zip(self.parts(x), held):
            stats = self.measure(part) if self.flow else constants
            new = self.blend(state, stats, rows(part).shape[1]) if self.update else state
            mean, scale = stats if self.use == "batch" else new
            normal = (part - along(part, mean)) / along(part, self.denominator(scale))
            normal = normal * along(part, r + np.zeros(3)) + along(part, d + np.zeros(3))
            ys.append(along(part, gamma) * normal + along(part, beta))
        return np.concatenate(ys)

    def train(self, x, gamma, beta, push):
        self.passes += 1
        held = []
        for part in self.parts(x):
            stats, state = self.measure(part), (self.mean, self.scale)
            held.append((stats, *self.corrections(stats, state), state))
            if self.update:
                self.mean, self.scale = self.blend(state, stats, rows(part).shape[1])

        def loss(*arguments):
            return (self.whole(*arguments, held) * push).sum()

        return self.whole(x, gamma, beta, held), [differences(loss, i, x, gamma, beta) for i in range(3)]

    def test(self, x, gamma, beta):
        normal = (x - along(x, self.mean)) / along(x, self.denominator(self.scale))
        return along(x, gamma) * normal + along(x, beta)


def differences(f, which, *arguments, step=1e-6):
    found = np.zeros_like(arguments[which])
    for index in np.ndindex(found.shape):
        sides = []
        for sign in (1, -1):
            moved = [a.copy() for a in arguments]
            moved[which][index] += sign * step
            sides.append(f(*moved))
        found[index] = (sides[0] - sides[1]) / (2 * step)
    return found


@pytest.mark.parametrize(("number", "name", "options"), [(i, *case) for i, case in enumerate(CASES)])
def test_every_option_is_what_it_says(number, name, options):
    shape = SHAPES[number % 3]
    layer, reference, rng = (
        build(name, number % 3, **options),
        Reference(name, **options),
        np.random.default_rng(number),
    )
    gamma, beta = layer.weight.detach().numpy(), layer.bias.detach().numpy()
    for _ in range(3):
        x, push = rng.normal(2, 3, shape), rng.normal(size=shape)
        inputs = torch.tensor(x, requires_grad=True)
        outputs = layer(inputs)
        got = torch.autograd.grad((outputs * torch.tensor(push)).sum(), [inputs, layer.weight, layer.bias])
        y, grads = reference.train(x, gamma, beta, push)
        np.testing.assert_allclose(outputs.detach(), y, rtol=1e-10, atol=1e-10)
        for ours, theirs in zip(got, grads):
            np.testing.assert_allclose(ours, theirs, rtol=1e-5, atol=1e-6)
        np.testing.assert_allclose(layer.running_mean, reference.mean, rtol=1e-10)
        np.testing.assert_allclose(getattr(layer, SCALES[name]), reference.scale, rtol=1e-10)
    layer.eval()
    x = rng.normal(2, 3, shape)
    np.testing.assert_allclose(layer(torch.tensor(x)).detach(), reference.test(x, gamma, beta), rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize(("name", "options"), [("bn", {"ghost": 3}), ("l1bn", {}), ("l1bn", {"ghost": 4})], ids=str)
@pytest.mark.parametrize("dims", SHAPES)
def test_gradcheck(name, options, dims):
    layer = build(name, dims, **options)
    x = torch.randn(SHAPES[dims], dtype=torch.float64, requires_grad=True)

    def forward(x, weight, bias):
        return functional_call(copy.deepcopy(layer), {"weight": weight, "bias": bias}, x)

    assert torch.autograd.gradcheck(forward, (x, layer.weight, layer.bias))


# against torch's layers

LAYERS = {0: nn.BatchNorm1d, 1: nn.BatchNorm1d, 2: nn.BatchNorm2d}


def beside(ours, theirs, x, push):
    """Outputs and gradients of two layers with the parameters of the first."""
    theirs.load_state_dict(
        theirs.state_dict() | {k: v for k, v in ours.state_dict().items() if k in ("weight", "bias")}
    )
    found = []
    for layer in (ours, theirs):
        inputs = x.clone().requires_grad_()
        outputs = layer(inputs)
        found.append([outputs, *torch.autograd.grad((outputs * push).sum(), [inputs, layer.weight, layer.bias])])
    return zip(*found)


@pytest.mark.parametrize("dims", SHAPES)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_renorm_without_leeway_is_torchs_batch_norm(dims, dtype):
    ours = build("brn", dims, r_max=1, d_max=0, warmup=0, r_until=0, d_until=0).to(dtype)
    theirs = LAYERS[dims](3, eps=EPSILON).to(dtype)
    for _ in range(3):
        x, push = torch.randn(SHAPES[dims], dtype=dtype) * 3 + 1, torch.randn(SHAPES[dims], dtype=dtype)
        for one, other in beside(ours, theirs, x, push):
            assert torch.equal(one, other)


@pytest.mark.parametrize("dims", SHAPES)
def test_without_options_the_optional_layer_is_torchs(dims):
    ours = OptionBatchNorm(3, EPSILON, MOMENTUM, Options())
    theirs = LAYERS[dims](3, eps=EPSILON, momentum=MOMENTUM)
    for _ in range(2):
        for one, other in beside(ours, theirs, torch.randn(SHAPES[dims]) + 1, torch.randn(SHAPES[dims])):
            assert torch.equal(one, other)
    assert all(torch.equal(v, theirs.state_dict()[k]) for k, v in ours.state_dict().items())
    x = torch.randn(SHAPES[dims])
    assert torch.equal(ours.eval()(x), theirs.eval()(x))


def test_options_change_the_layer_and_not_its_state():
    plain, optional = (METHODS.build({"name": "bn", **o}).norm(4, 2) for o in ({}, {"ghost": 2}))
    assert isinstance(plain, nn.BatchNorm2d)
    assert isinstance(METHODS.build({"name": "bn"}).norm(4, 0), nn.BatchNorm1d)
    optional.load_state_dict(plain.state_dict())
    plain.load_state_dict(optional.state_dict())


@pytest.mark.parametrize("dims", SHAPES)
def test_ghost_batches_are_torchs_layer_on_each_chunk(dims):
    """Hoffer et al. 2017, Algorithm 1; the running averages take the chunks one after the other."""
    ours, theirs = METHODS.build({"name": "bn", "ghost": 3}).norm(3, dims), LAYERS[dims](3)
    x = torch.randn([8, *SHAPES[dims][1:]])
    y = torch.cat([theirs(part) for part in (x[:3], x[3:6], x[6:])])
    torch.testing.assert_close(ours(x), y, rtol=0, atol=0)
    torch.testing.assert_close(ours.state_dict(), theirs.state_dict(), rtol=0, atol=0)


@pytest.mark.parametrize("name", ["brn", "l1bn"])
def test_ghost_batches_are_the_layer_on_each_chunk(name):
    limits = {"r_max": 3, "d_max": 5, "warmup": 0, "r_until": 0, "d_until": 0} if name == "brn" else {}
    ghost, whole = build(name, ghost=4, **limits), build(name, **limits)
    whole.load_state_dict(ghost.state_dict())
    x = torch.randn(10, 3, dtype=torch.float64)
    torch.testing.assert_close(ghost(x), torch.cat([whole(part) for part in (x[:4], x[4:7], x[7:])]))
    assert torch.equal(ghost.running_mean, whole.running_mean)


@settings(deadline=None)
@given(n=st.integers(1, 40), ghost=st.integers(0, 50))
def test_chunks_are_nearly_equal_and_in_order(n, ghost):
    x = torch.arange(n)[:, None]
    parts = chunks(x, ghost)
    sizes = [len(part) for part in parts]
    assert torch.equal(torch.cat(parts), x)
    assert max(sizes) - min(sizes) <= 1
    assert len(parts) == (math.ceil(n / ghost) if ghost else 1)
    assert max(sizes) <= (ghost or n)


def test_the_whole_batch_is_not_copied():
    x = torch.randn(4, 3)
    assert chunks(x, 0)[0] is x
    assert chunks(x, 4)[0] is x


# modes, types, layouts, transforms


@pytest.mark.parametrize(("name", "options"), TYPICAL, ids=str)
def test_test_mode_repeats_a_training_pass_that_left_its_statistics(name, options):
    """With momentum 1 the running statistics are the last chunk's; the batch is one chunk here."""
    if name == "brn":
        options = options | {"r_max": 1, "d_max": 0}
    layer = build(name, **options | {"momentum": 1.0, "ghost": 0})
    x = torch.randn(200, 3, dtype=torch.float64) * 2 + 1
    y = layer(x)
    torch.testing.assert_close(layer.eval()(x), y, rtol=0, atol=0.02 if name == "bn" else 1e-9)


@pytest.mark.parametrize(("name", "options"), TYPICAL, ids=str)
def test_state_makes_a_round_trip(name, options):
    layer, other = build(name, 2, **options), build(name, 2, **options)
    for _ in range(3):
        layer(torch.randn(SHAPES[2], dtype=torch.float64) * 2)
    other.load_state_dict(copy.deepcopy(layer.state_dict()))
    for training in (True, True, False):
        x = torch.randn(SHAPES[2], dtype=torch.float64) * 2
        assert torch.equal(layer.train(training)(x), other.train(training)(x))
    torch.testing.assert_close(layer.state_dict(), other.state_dict(), rtol=0, atol=0)
    assert not any(buffer.requires_grad for buffer in layer.buffers())


@pytest.mark.parametrize(("name", "options"), TYPICAL, ids=str)
@pytest.mark.parametrize(("dtype", "close"), [(torch.float32, 1e-5), (torch.bfloat16, 0.05)], ids=str)
def test_other_types_compute_the_same(name, options, dtype, close):
    """bfloat16 under autocast: statistics and parameters in float32."""
    exact = build(name, 2, **options)
    layer = copy.deepcopy(exact).float()
    x = (torch.randn(SHAPES[2]) + 1).to(dtype).requires_grad_()
    exact_x = x.detach().double().requires_grad_()
    with torch.autocast("cpu", torch.bfloat16, enabled=dtype is torch.bfloat16):
        y = layer(x)
    exact_y = exact(exact_x)
    assert y.dtype == dtype
    push = torch.randn_like(y)
    y.backward(push)
    exact_y.backward(push.double())
    torch.testing.assert_close(y.double(), exact_y, rtol=close, atol=close)
    torch.testing.assert_close(x.grad.double(), exact_x.grad, rtol=close, atol=close)
    torch.testing.assert_close(layer.weight.grad.double(), exact.weight.grad, rtol=close, atol=close)
    for ours, theirs in zip(layer.buffers(), exact.buffers()):
        assert ours.dtype == (torch.float32 if theirs.is_floating_point() else torch.int64)
        torch.testing.assert_close(ours.double(), theirs.double(), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(("name", "options"), TYPICAL, ids=str)
def test_channels_last_stays_and_computes_the_same(name, options):
    layer = build(name, 2, **options)
    other = copy.deepcopy(layer)
    x = torch.randn(5, 3, 4, 2, dtype=torch.float64, requires_grad=True)
    last = x.detach().clone(memory_format=torch.channels_last).requires_grad_()
    y, y_last = layer(x), other(last)
    for one in (y, y_last):
        one.pow(3).sum().backward()
    assert y_last.is_contiguous(memory_format=torch.channels_last)
    torch.testing.assert_close(y, y_last)
    torch.testing.assert_close(x.grad, last.grad)


@pytest.mark.parametrize(("name", "options"), TYPICAL, ids=str)
@pytest.mark.parametrize("dims", [0, 2])
@pytest.mark.filterwarnings("error")
def test_stacked_members_compute_as_each_alone(name, options, dims):
    """torch.func.vmap over parameters, buffers and inputs; no operation falls back to a loop, which warns.

    functional_call leaves new buffers in the dictionary that it is given, so that has to be one.
    """
    layers = [build(name, dims, **options) for _ in range(3)]
    parameters, buffers = stack_module_state(layers)
    parameters = {k: v.detach() for k, v in parameters.items()}
    x = torch.randn(3, *SHAPES[dims], dtype=torch.float64)

    def loss(parameters, buffers, x):
        state = parameters | buffers
        return functional_call(layers[0], state, x).pow(3).sum(), {k: state[k] for k in buffers}

    alone = [copy.deepcopy(layer) for layer in layers]
    grads, buffers = vmap(grad(loss, argnums=(0, 2), has_aux=True))(parameters, buffers, x)
    for i, layer in enumerate(alone):
        inputs = x[i].clone().requires_grad_()
        layer(inputs).pow(3).sum().backward()
        torch.testing.assert_close(grads[1][i], inputs.grad)
        torch.testing.assert_close(
            {k: v[i] for k, v in grads[0].items()}, {k: p.grad for k, p in layer.named_parameters()}
        )
        torch.testing.assert_close({k: v[i] for k, v in buffers.items()}, dict(layer.named_buffers()))


@pytest.mark.parametrize(("name", "options"), [TYPICAL[0], TYPICAL[3], TYPICAL[5]], ids=str)
def test_compiles_in_one_graph(name, options):
    layer = build(name, **options)
    other = copy.deepcopy(layer)
    compiled = torch.compile(layer, fullgraph=True, backend="aot_eager")
    for _ in range(2):
        x = torch.randn(SHAPES[0], dtype=torch.float64, requires_grad=True)
        found = []
        for one in (compiled, other):
            y = one(x)
            found.append([y, *torch.autograd.grad(y.pow(3).sum(), [x])])
        for ours, theirs in zip(*found):
            torch.testing.assert_close(ours, theirs)
    torch.testing.assert_close(layer.state_dict(), other.state_dict())


@settings(max_examples=40, deadline=None)
@given(
    name=st.sampled_from(["bn", "brn", "l1bn"]),
    shape=st.lists(st.integers(1, 5), min_size=2, max_size=4),
    ghost=st.integers(0, 4),
    dtype=st.sampled_from([torch.float32, torch.float64]),
)
def test_any_shape(name, shape, ghost, dtype):
    """Every channel of every chunk has mean beta = 0, or the shape has no statistics and is refused."""
    layer = METHODS.build({"name": name, "ghost": ghost}).norm(shape[1], len(shape) - 2).to(dtype)
    x = (torch.randn(shape, dtype=dtype) + 1).requires_grad_()
    least = min(len(part) for part in chunks(x, ghost)) * math.prod(shape[2:])
    if least < 2:
        with pytest.raises(UserError, match="one value per channel"):
            layer(x)
        return
    y = layer(x)
    assert (y.shape, y.dtype) == (x.shape, dtype)
    for part in chunks(y.detach(), ghost):
        torch.testing.assert_close(
            part.transpose(0, 1).flatten(1).mean(1), torch.zeros(shape[1], dtype=dtype), rtol=0, atol=1e-4
        )
    y.pow(2).sum().backward()
    assert torch.isfinite(x.grad).all()


@pytest.mark.parametrize("name", ["bn", "brn", "l1bn"])
def test_one_value_per_channel_is_refused_in_one_line(name):
    for layer, x in (
        (build(name), torch.randn(1, 3)),
        (build(name, 1), torch.randn(1, 3, 1)),
        (build(name, 2), torch.randn(1, 3, 1, 1)),
        (build(name, flow=False), torch.randn(1, 3)),
        (build(name, ghost=1), torch.randn(4, 3)),
    ):
        with pytest.raises(UserError, match="one value per channel") as error:
            layer(x.double())
        assert "\n" not in str(error.value)
        assert layer.eval()(x.double()).shape == x.shape


def test_a_frozen_layer_takes_one_example_and_is_the_layer_in_test_mode():
    layer = build("bn", update=False, use="running")
    layer.running_mean.uniform_()
    layer.running_var.uniform_(1, 2)
    before = copy.deepcopy(layer.state_dict())
    x = torch.randn(1, 3, dtype=torch.float64)
    y = layer(x)
    torch.testing.assert_close(layer.state_dict(), before, rtol=0, atol=0)
    assert torch.equal(y, layer.eval()(x))


@pytest.mark.parametrize("name", ["bn", "brn", "l1bn"])
@pytest.mark.parametrize("options", [{}, {"flow": False}, {"ghost": 4}], ids=str)
def test_a_constant_channel_stays_finite(name, options):
    layer = METHODS.build({"name": name, **options}).norm(3, 0)
    x = torch.full((8, 3), 2.5, requires_grad=True)
    y = layer(x)
    y.pow(2).sum().backward()
    assert (y.abs() < 1e-4).all()
    assert torch.isfinite(x.grad).all()


# options


@pytest.mark.parametrize("name", ["brn", "l1bn"])
def test_the_layer_stands_where_position_says(name):
    for position in ("before", "after"):
        method = METHODS.build({"name": name, "position": position})
        assert method.after == (position == "after")
        assert method.shifts


@pytest.mark.parametrize(
    ("name", "options"),
    [
        *[(name, {"ghost": value}) for name in ("bn", "brn", "l1bn") for value in (-1, 2.5, True)],
        *[(name, {"update": 1}) for name in ("bn", "brn", "l1bn")],
        *[(name, {"use": "average"}) for name in ("bn", "l1bn")],
        *[(name, {"flow": "no"}) for name in ("bn", "brn", "l1bn")],
        *[(name, {"epsilon": v}) for name in ("bn", "brn", "l1bn") for v in (0, -1.0, float("nan"), float("inf"))],
        *[(name, {"momentum": v}) for name in ("bn", "brn", "l1bn") for v in (0, 1.1, float("nan"), None)],
        *[(name, {"position": "between"}) for name in ("brn", "l1bn")],
    ],
    ids=str,
)
def test_bad_options_are_refused(name, options):
    with pytest.raises(UserError, match=next(iter(options))) as error:
        METHODS.build({"name": name, **options})
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("known", "options"),
    [
        ("f9dcb52d80bd", {"norm": "bn"}),
        (
            "1d8e843206be",
            {"norm": "bn", "norm.epsilon": 1e-3, "norm.momentum": 0.01, "norm.position": "after", "seed": 4},
        ),
        ("7f9212315892", {"norm": "dbn"}),
        ("5e1d7d97c3e0", {"norm": "dbn", "norm.forward": "batch", "norm.gradient": "batch", "norm.alpha": "1/m"}),
    ],
    ids=str,
)
def test_runs_from_before_the_options_keep_their_ids(composer, known, options):
    if "seed" in options:
        options = options | {"dataset": "mnist"}
    assert composer.id(options) == known


def test_every_option_away_from_its_neutral_value_is_another_run(composer):
    options = [{}, {"norm.ghost": 10}, {"norm.update": False}, {"norm.use": "running"}, {"norm.flow": False}]
    assert len({composer.id({"norm": "bn", **o}) for o in options}) == len(options)
    assert composer.id({"norm": "bn"} | {"norm.ghost": 0, "norm.update": True}) == composer.id({"norm": "bn"})
