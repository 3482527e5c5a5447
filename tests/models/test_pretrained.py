"""AlexNet and GoogLeNet: torchvision's networks to the last digit, and what begins with their published weights."""

import hashlib

import pytest
import torch
from torch import nn
from torchvision.models import AlexNet, AlexNet_Weights, GoogLeNet, GoogLeNet_Weights

from normtables.data import files
from normtables.errors import UserError
from normtables.models import MODELS, alexnet, googlenet, initialise, pretrained
from normtables.norms import METHODS, Kit
from normtables.optim import parameter_groups

OPTIONS = {
    "alexnet": {
        "weights": "none",
        "width": 1.0,
        "dropout": 0.5,
        "bottleneck": None,
        "last_rate": 1.0,
        "bias_rate": 1.0,
        "deviation": None,
    },
    "googlenet": {"weights": "none", "width": 1.0, "dropout": 0.2, "last_rate": 1.0, "bias_rate": 1.0},
}
MODULES = {"alexnet": alexnet, "googlenet": googlenet}
NORMS = {"alexnet": {"name": "none"}, "googlenet": {"name": "bn", "epsilon": 1e-3}}


def build(name, outputs=1000, channels=3, norm=None, **options):
    kit = Kit(METHODS.build(norm or NORMS[name]))
    sizes = {"inputs": (channels, 96, 96), "outputs": outputs}
    return MODELS.build({"name": name, **OPTIONS[name], **options}, kit, sizes)


def count(net):
    return sum(parameter.numel() for parameter in net.parameters())


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    """The data root, torchvision's networks with random weights, and the names of files with these, of the true form;
    AlexNet's layers of 4,096 units have 32 here."""
    torch.manual_seed(7)
    root = tmp_path_factory.mktemp("root")
    theirs = {"alexnet": AlexNet(), "googlenet": GoogLeNet(transform_input=True, init_weights=False)}
    for place, layer in ((1, nn.Linear(9216, 32)), (4, nn.Linear(32, 32)), (6, nn.Linear(32, 1000))):
        theirs["alexnet"].classifier[place] = layer
    for module in theirs["googlenet"].modules():
        if isinstance(module, nn.BatchNorm2d):
            for tensor, low in ((module.weight, 0.5), (module.bias, -1), (module.running_mean, -1)):
                nn.init.uniform_(tensor, low, 1.5)
            nn.init.uniform_(module.running_var, 0.5, 1.5)
    (root / "weights").mkdir()
    names = {}
    for name, module in MODULES.items():
        state = {k: v for k, v in theirs[name].state_dict().items() if not k.endswith("num_batches_tracked")}
        torch.save(state, root / "weights" / "new")
        names[name] = named(root / "weights" / "new", module.FILE).name
    return root, theirs, names


@pytest.fixture
def published(written, monkeypatch):
    """The data root and torchvision's networks; the files are declared to be the published ones."""
    root, theirs, names = written
    monkeypatch.setattr(alexnet, "HIDDEN", 32)
    for name, module in MODULES.items():
        monkeypatch.setattr(module, "FILE", names[name])
    return root, theirs


def named(path, like):
    """The file, renamed to `like` with the beginning of its own digest."""
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    return path.rename(path.with_name(f"{like.rpartition('-')[0]}-{digest[:8]}.pth"))


@pytest.mark.parametrize(("name", "theirs"), [("alexnet", AlexNet_Weights), ("googlenet", GoogLeNet_Weights)])
def test_as_many_parameters_as_published(name, theirs):
    meta = theirs.IMAGENET1K_V1.meta
    assert count(build(name)) == meta["num_params"] == {"alexnet": 61_100_840, "googlenet": 6_624_904}[name]
    assert count(build(name, 31, width=0.1)) < 0.02 * meta["num_params"]


@pytest.mark.parametrize("name", OPTIONS)
def test_the_files_are_torchvisions_and_those_that_are_fetched(name):
    module, theirs = MODULES[name], {"alexnet": AlexNet_Weights, "googlenet": GoogLeNet_Weights}[name]
    [file] = files.source(f"{name}_weights").layouts[0].files
    assert file.urls == (theirs.IMAGENET1K_V1.url,)
    assert file.path == theirs.IMAGENET1K_V1.url.rpartition("/")[2] == module.FILE
    assert file.digest.startswith(module.FILE.removesuffix(".pth").rpartition("-")[2])
    assert file.bytes == pytest.approx(theirs.IMAGENET1K_V1.meta["_file_size"] * 2**20, abs=600)
    assert files.source(f"{name}_weights").layouts[0].folder == "weights"


@pytest.mark.parametrize("name", OPTIONS)
def test_the_outputs_are_torchvisions(name, published):
    root, theirs = published
    net = build(name, weights="imagenet")
    pretrained.load(net, root)
    x = torch.randn(2, 3, 96, 96)
    torch.testing.assert_close(net.eval()(x), theirs[name].eval()(x), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", OPTIONS)
def test_other_classes_get_a_last_layer_of_their_own(name, published):
    root, theirs = published
    net = build(name, 31, weights="imagenet")
    initialise(net, "he_normal")
    before = net.head.weight.detach().clone()
    pretrained.load(net, root)
    assert torch.equal(net.head.weight, before)
    assert torch.equal(net.conv1[0].weight, next(theirs[name].parameters()))
    x = torch.randn(2, 3, 96, 96)
    seen = []
    net.head.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0]))
    last = theirs[name].classifier[6] if name == "alexnet" else theirs[name].fc
    last.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0]))
    net.eval()(x)
    theirs[name].eval()(x)
    torch.testing.assert_close(seen[0], seen[1], rtol=1e-4, atol=1e-5)


def test_a_bottleneck_is_new_and_so_is_what_is_behind_it(published):
    net = build("alexnet", weights="imagenet", bottleneck=7)
    before = {name: value.clone() for name, value in net.state_dict().items()}
    pretrained.load(net, published[0])
    changed = {name for name, value in net.state_dict().items() if not torch.equal(value, before[name])}
    assert {name.split(".")[0] for name in changed} == {"conv1", "conv2", "conv3", "conv4", "conv5", "fc6", "fc7"}
    assert net.head.in_features == 7


def test_none_begins_from_scratch(tmp_path):
    net = build("googlenet", 5, width=0.05)
    before = nn.utils.parameters_to_vector(net.parameters()).clone()
    pretrained.load(net, tmp_path)
    assert torch.equal(nn.utils.parameters_to_vector(net.parameters()), before)
    assert not any(isinstance(layer, googlenet.Recentred) for layer in net.modules())


def refused(net, root, *parts):
    before = {name: value.clone() for name, value in net.state_dict().items()}
    with pytest.raises(UserError) as error:
        pretrained.load(net, root)
    assert "\n" not in str(error.value)
    for part in parts:
        assert part in str(error.value)
    assert all(torch.equal(value, before[name]) for name, value in net.state_dict().items()), "half-loaded"


@pytest.mark.parametrize("name", OPTIONS)
def test_a_missing_file_is_told_with_the_command(name, tmp_path, monkeypatch):
    monkeypatch.setattr(alexnet, "HIDDEN", 8)
    path = tmp_path / "weights" / files.source(f"{name}_weights").layouts[0].files[0].path
    help = f"run `normtables data fetch {name}_weights`, or point data.root=FOLDER or NORMTABLES_DATA at a copy"
    refused(build(name, 31, weights="imagenet"), tmp_path, f"{path} is missing; {help}", "model.weights=none begins")


def test_a_damaged_file_is_named(published, tmp_path, monkeypatch):
    path = tmp_path / "weights" / googlenet.FILE
    path.parent.mkdir()
    path.write_bytes((published[0] / "weights" / googlenet.FILE).read_bytes()[:-1])
    help = "run `normtables data fetch googlenet_weights`"
    refused(build("googlenet", weights="imagenet"), tmp_path, f"{path} is damaged: its sha256 begins", help)
    path.write_bytes(b"not a file of weights")
    monkeypatch.setattr(googlenet, "FILE", named(path, googlenet.FILE).name)
    refused(build("googlenet", weights="imagenet"), tmp_path, f"{googlenet.FILE} is damaged: ", help)


@pytest.mark.parametrize(
    ("name", "options", "says"),
    [
        ("googlenet", {"norm": {"name": "none"}}, "norm=bn"),
        ("googlenet", {"norm": {"name": "ln"}}, "norm=bn"),
        ("googlenet", {"norm": {"name": "bn", "position": "after"}}, "norm=bn"),
        ("googlenet", {"norm": {"name": "wn"}}, "norm=bn"),
        ("googlenet", {"width": 0.5}, "model.width=1"),
        ("alexnet", {"norm": {"name": "bn"}}, "norm=none"),
        (
            "alexnet",
            {"channels": 1},
            "conv1.0.weight is (64, 1, 11, 11) in this network and (64, 3, 11, 11) in alexnet",
        ),
    ],
    ids=str,
)
def test_another_network_than_the_files_is_refused(name, options, says, published):
    refused(build(name, 31, weights="imagenet", **options), published[0], "model.weights=imagenet: ", says)


# what a task may take features from, and what the optimizer is told


def test_features_by_name():
    net = build("alexnet", 31, width=0.02, bottleneck=9).eval()
    shapes = {}
    for name in ("fc6", "fc7", "bottleneck", "head"):
        net.get_submodule(name).register_forward_hook(lambda m, i, out, name=name: shapes.update({name: out.shape}))
    net(torch.randn(2, 3, 96, 96))
    assert shapes == {"fc6": (2, 82), "fc7": (2, 82), "bottleneck": (2, 9), "head": (2, 31)}
    other = build("googlenet", 31, width=0.05).eval()
    for name in ("pool", "head"):
        other.get_submodule(name).register_forward_hook(lambda m, i, out, name=name: shapes.update({name: out.shape}))
    other(torch.randn(2, 3, 96, 96))
    assert shapes["pool"][2:] == (1, 1)
    assert shapes["head"] == (2, 31)


@pytest.mark.parametrize("name", OPTIONS)
def test_new_layers_and_biases_learn_faster(name):
    options = {"width": 0.02, "last_rate": 10.0, "bias_rate": 2.0}
    net = build(name, 31, norm={"name": "none"}, **options, **({"bottleneck": 4} if name == "alexnet" else {}))
    rates = {p: group.get("rate", 1.0) for group in parameter_groups(net, 0.0) for p in group["params"]}
    for layer, parameter in net.named_parameters():
        new = layer.startswith(("head", "bottleneck"))
        assert rates[parameter] == (10 if new else 1) * (2 if layer.endswith("bias") else 1), layer
    plain = build(name, 31, width=0.02)
    assert all("rate" not in group for group in parameter_groups(plain, 0.0))


def test_norm_layers_keep_the_plain_rate():
    net = build("alexnet", 31, width=0.02, norm={"name": "bn"}, bias_rate=2.0)
    rates = {p: group.get("rate", 1.0) for group in parameter_groups(net, 0.0) for p in group["params"]}
    norms = [layer for layer in net.modules() if isinstance(layer, nn.BatchNorm2d | nn.BatchNorm1d)]
    assert len(norms) == 7
    assert {rates[p] for layer in norms for p in layer.parameters()} == {1.0}
    assert rates[net.head.bias] == 2


def test_the_last_layers_draw():
    net = build("alexnet", 200, width=0.1, bottleneck=100, deviation=0.005)
    for layer in (net.head, net.bottleneck[0]):
        assert layer.weight.std().item() == pytest.approx(0.005, rel=0.05)
        assert (layer.bias == 0).all()
    assert net.fc7[0].weight.std().item() > 0.01


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("alexnet", {"width": 0.0}),
        ("alexnet", {"dropout": 1.0}),
        ("alexnet", {"bottleneck": 0}),
        ("alexnet", {"last_rate": 0.0}),
        ("alexnet", {"deviation": 0.0}),
        ("googlenet", {"width": -1.0}),
        ("googlenet", {"dropout": -0.1}),
        ("googlenet", {"bias_rate": 0.0}),
    ],
    ids=str,
)
def test_impossible_options_are_refused(name, options):
    with pytest.raises(UserError, match=next(iter(options))):
        build(name, 5, **{"width": 0.01, **options})


@pytest.mark.parametrize(("name", "least"), [("alexnet", 63), ("googlenet", 15)])
def test_the_smallest_images(name, least):
    kit, options = Kit(METHODS.build({"name": "none"})), {"name": name, **OPTIONS[name], "width": 0.01}
    net = MODELS.build(options, kit, {"inputs": (1, least, least), "outputs": 3})
    assert net(torch.randn(1, 1, least, least)).shape == (1, 3)
    for inputs in ((1, least - 1, least), (9,)):
        with pytest.raises(UserError, match=f"model={name} takes images of at least {least} px"):
            MODELS.build(options, kit, {"inputs": inputs, "outputs": 3})
