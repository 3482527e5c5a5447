"""Table 7's network, counted by hand and computed by hand."""

import pytest
import torch
from torch import nn

from normtables.errors import UserError
from normtables.models import MODELS
from normtables.norms import METHODS, Kit

KALDI = {"inputs": (3, 11, 40), "outputs": 10}
RECIPE = {"name": "acoustic_cnn", "filters": [128, 256], "bands": [8, 4], "pool": 3, "hidden": [1024, 1024]}
RECIPE["activation"] = "sigmoid"


def build(norm="none", sizes=KALDI, **options):
    return MODELS.build(RECIPE | options, Kit(METHODS.build({"name": norm})), sizes)


def count(net):
    return sum(p.numel() for p in net.parameters())


def test_parameters_counted_by_hand():
    """33 positions of 8 of 40 bands, pooled to 11, 8 positions of 4 of those: 256 x 8 into 1024, 1024, 10."""
    convolutions = (3 * 11 * 8 * 128 + 128) + (128 * 4 * 256 + 256)
    layers = (256 * 8 * 1024 + 1024) + (1024 * 1024 + 1024) + (1024 * 10 + 10)
    assert count(build()) == convolutions + layers == 3_323_274


def test_norm_stands_in_front_of_the_four_nonlinearities():
    """Gain and shift for 128 + 256 + 1024 + 1024; the biases in front of them are dropped."""
    assert count(build("bn")) == 3_323_274 + 128 + 256 + 1024 + 1024
    layers = [type(layer).__name__ for layer in build("bn").modules() if not list(layer.children())]
    kept = [name for name in layers if name not in ("Identity", "Flatten")]
    stage = ["Conv1d", "BatchNorm1d", "Sigmoid"]
    dense = ["Linear", "BatchNorm1d", "Sigmoid"]
    assert kept == [*stage, "MaxPool1d", *stage, *dense, *dense, "Linear"]


@pytest.mark.parametrize("activation", ["relu", "sigmoid"])
def test_pooling_before_the_nonlinearity_as_kaldi_does_is_the_same_without_norm(activation):
    net = build(activation=activation).double()
    first, second, *dense = [m for m in net.modules() if isinstance(m, nn.Conv1d | nn.Linear)]
    act = {"relu": torch.relu, "sigmoid": torch.sigmoid}[activation]
    x = torch.randn(4, 3, 11, 40, dtype=torch.float64)
    patches = x.flatten(1, 2).unfold(2, 8, 1)  # [4, 33, 33, 8]
    hidden = torch.einsum("nipb,oib->nop", patches, first.weight) + first.bias[:, None]
    hidden = act(hidden.reshape(4, 128, 11, 3).amax(3))
    hidden = torch.einsum("nipb,oib->nop", hidden.unfold(2, 4, 1), second.weight) + second.bias[:, None]
    hidden = act(hidden).flatten(1)
    for layer in dense[:-1]:
        hidden = act(hidden @ layer.weight.T + layer.bias)
    torch.testing.assert_close(net(x), hidden @ dense[-1].weight.T + dense[-1].bias)


def test_any_number_of_hidden_layers():
    assert count(build(hidden=[])) == (3 * 11 * 8 * 128 + 128) + (128 * 4 * 256 + 256) + (2048 * 10 + 10)
    assert build(hidden=[7, 5, 3])(torch.randn(2, 3, 11, 40)).shape == (2, 10)


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"filters": [128]}, "model.filters"),
        ({"filters": [0, 4]}, "model.filters"),
        ({"bands": [8]}, "model.bands"),
        ({"bands": [8, 0]}, "model.bands"),
        ({"pool": 0}, "model.pool=0"),
        ({"hidden": [4, 0]}, "model.hidden"),
        ({"bands": [41, 1]}, "too wide for inputs of 40 bands"),
        ({"bands": [8, 12]}, "too wide for inputs of 40 bands"),
        ({"activation": "sigmoide"}, "did you mean 'sigmoid'"),
    ],
    ids=str,
)
def test_impossible_options_are_refused(options, says):
    with pytest.raises(UserError, match=says) as error:
        build(**options)
    assert "\n" not in str(error.value)


def test_the_widest_filters_that_fit():
    assert build(bands=[8, 11])(torch.randn(2, 3, 11, 40)).shape == (2, 10)


def test_inputs_of_another_kind_are_refused():
    with pytest.raises(UserError, match=r"takes windows of frames, not inputs of size \[118\]"):
        build(sizes={"inputs": (118,), "outputs": 5})
