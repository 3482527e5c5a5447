"""Maxout units: the layer against explicit maxima, and what each method makes of them."""

import math

import pytest
import torch
from scipy import integrate, special
from torch import nn

from normtables.errors import UserError
from normtables.norms import METHODS, Kit, Maxout
from normtables.norms.hg import moments_of
from normtables.norms.normprop import moments

SHAPES = ([3], [3, 5], [3, 4, 5])


def kit(name, **options):
    return Kit(METHODS.build({"name": name, **options}))


def pieces_of(x, pieces):
    """[n, pieces * channels, ...] to one tensor for each piece."""
    channels = x.shape[1] // pieces
    return [x[:, i * channels : (i + 1) * channels] for i in range(pieces)]


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("pieces", [1, 2, 5])
@pytest.mark.parametrize("channels_last", [False, True])
def test_units_are_the_largest_of_their_pieces(shape, pieces, channels_last):
    x = torch.randn(6, pieces * shape[0], *shape[1:], dtype=torch.float64)
    if channels_last and x.dim() == 4:
        x = x.to(memory_format=torch.channels_last)
    x.requires_grad_()
    y = Maxout(pieces)(x)
    expected = torch.stack(pieces_of(x, pieces)).amax(0)
    assert torch.equal(y, expected)
    push = torch.randn_like(y)
    found, wanted = (torch.autograd.grad((out * push).sum(), x)[0] for out in (y, expected))
    assert torch.equal(found, wanted)
    if channels_last and x.dim() == 4:
        assert y.is_contiguous(memory_format=torch.channels_last)


def test_a_tie_goes_to_one_piece():
    x = torch.zeros(1, 4, requires_grad=True)
    Maxout(2)(x).sum().backward()
    assert sorted(x.grad[0].tolist()) == [0, 0, 1, 1]


@pytest.mark.parametrize("name", METHODS)
@pytest.mark.parametrize("dims", [0, 1, 2])
def test_every_method_takes_maxout_units(name, dims):
    layers = kit(name).norm_maxout(3, 2, dims)
    x = torch.randn(6, 6, *[4] * dims, requires_grad=True)
    y = layers(x)
    assert y.shape == (6, 3, *[4] * dims)
    y.square().sum().backward()
    assert all(torch.isfinite(p.grad).all() for p in (x, *layers.parameters()))


def test_the_norm_layer_sees_all_pieces_in_front_and_the_units_behind():
    before, after = (kit("bn", position=position).norm_maxout(3, 5) for position in ("before", "after"))
    assert isinstance(before[1], Maxout)
    assert isinstance(after[0], Maxout)
    assert (before[0].num_features, after[1].num_features) == (15, 3)


def test_a_norm_layer_without_a_nonlinearity():
    for name in ("bn", "normprop", "snn", "hg"):
        method = METHODS.build({"name": name})
        assert type(Kit(method).norm(3, 2)) is type(method.norm(3, 2))
    assert isinstance(kit("snn").norm(3), nn.Identity)


def test_a_convolution_may_have_no_bias_but_not_against_the_method():
    assert kit("none").conv(2, 3, 1).bias is not None
    assert kit("none").conv(2, 3, 1, bias=False).bias is None
    assert kit("bn").conv(2, 3, 1, bias=True).bias is None


# constants of the methods that replace the nonlinearity


def integral(power, pieces):
    """E[(max of `pieces` standard Gaussians)^power]."""

    def integrand(z):
        density = math.exp(-z * z / 2) / math.sqrt(2 * math.pi)
        return z**power * pieces * special.ndtr(z) ** (pieces - 1) * density

    return integrate.quad(integrand, -12, 12, epsabs=1e-13, limit=200)[0]


def test_normprop_standardises_the_largest_of_independent_gaussians():
    for pieces in (2, 5):
        layer = kit("normprop").norm_maxout(3, pieces)[1]
        mean = integral(1, pieces)
        assert (layer.mean, layer.deviation) == pytest.approx((mean, math.sqrt(integral(2, pieces) - mean**2)))
    assert moments(nn.Identity(), 2) == pytest.approx((1 / math.sqrt(math.pi), math.sqrt(1 - 1 / math.pi)))
    z = torch.randn(20_000, 5 * 3)
    y = kit("normprop").norm_maxout(3, 5)[1](z)
    assert abs(y.mean().item()) < 0.02
    assert y.std().item() == pytest.approx(1, abs=0.02)


def test_snn_puts_selu_on_top():
    x = torch.randn(4, 6)
    y = kit("snn").norm_maxout(3, 2)(x)
    torch.testing.assert_close(y, torch.stack([nn.SELU()(piece) for piece in pieces_of(x, 2)]).amax(0))


def test_hg_knows_the_moments_of_maxout_units():
    for pieces in (1, 2, 5):
        assert moments_of(Maxout(pieces)) == pytest.approx((integral(2, pieces), 1 / pieces))
    layer = kit("hg").norm_maxout(3, 5)[1]
    assert layer.moments == moments_of(Maxout(5))
    with pytest.raises(UserError, match="Maxout"):
        kit("hg", constants="printed").norm_maxout(3, 5)
