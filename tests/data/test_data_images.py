"""digits, MNIST and CIFAR-10: shapes, pixels, splits, scaling."""

import gzip
import hashlib

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits
from torchvision.datasets.mnist import read_sn3_pascalvincent_tensor

from normtables.data import load
from normtables.data.cifar import CIFAR10_ARRAYS
from normtables.errors import UserError


def pixels(split):
    """A split's images as rows of grey levels, for comparing sets of images."""
    return {tuple(row) for row in split.inputs.flatten(1).mul(255).round().int().tolist()}


def test_digits_are_scikit_learns_split_in_three():
    found = load({"name": "digits"}, "nowhere", 0)
    sizes = {name: tuple(getattr(found, name).inputs.shape) for name in ("train", "valid", "test")}
    assert sizes == {"train": (1197, 1, 8, 8), "valid": (300, 1, 8, 8), "test": (300, 1, 8, 8)}
    assert found.classes == 10
    assert found.train.inputs.dtype == torch.float32
    assert found.train.targets.dtype == torch.int64
    rows = torch.cat([s.inputs.flatten(1) for s in (found.train, found.valid, found.test)])
    labels = torch.cat([s.targets for s in (found.train, found.valid, found.test)])
    raw = load_digits()
    expected = sorted(map(tuple, np.column_stack([raw.data / 16, raw.target]).tolist()))
    assert sorted(map(tuple, torch.column_stack([rows, labels]).tolist())) == expected


def test_digits_are_stratified_and_drawn_by_the_seed():
    first, again, other = (load({"name": "digits"}, "nowhere", seed) for seed in (1, 1, 2))
    assert torch.equal(first.test.inputs, again.test.inputs)
    assert not torch.equal(first.test.targets, other.test.targets)
    for split in (first.valid, first.test):
        counts = split.targets.bincount()
        assert (counts - 300 * torch.from_numpy(np.bincount(load_digits().target)) / 1797).abs().max() < 1.5


def test_a_subset_of_digits_leaves_the_other_splits_alone():
    whole, small = (load({"name": "digits", "train": n}, "nowhere", 0) for n in (None, 100))
    assert small.train.targets.bincount().tolist() == [10] * 10
    assert pixels(small.train) <= pixels(whole.train)
    assert torch.equal(small.valid.inputs, whole.valid.inputs)
    assert torch.equal(small.test.inputs, whole.test.inputs)


def test_mnist_holds_out_the_last_training_images(root, declare, mnist_files, mnist_arrays):
    mnist_files("mnist")
    declare("mnist", "mnist")
    found = load({"name": "mnist", "valid": 15}, root, 0)
    images, labels, tests, test_labels = mnist_arrays
    for split, expected, targets in (
        (found.train, images[:45], labels[:45]),
        (found.valid, images[45:], labels[45:]),
        (found.test, tests, test_labels),
    ):
        assert split.inputs.shape == (len(expected), 1, 28, 28)
        assert split.inputs.dtype == torch.float32
        assert np.array_equal(split.inputs[:, 0].numpy(), expected.astype(np.float32) / np.float32(255))
        assert split.targets.tolist() == targets.tolist()
    assert found.classes == 10


def test_mnist_subset_is_balanced_and_drawn_by_the_seed(root, declare, mnist_files):
    mnist_files("mnist")
    declare("mnist", "mnist")
    settings = {"name": "mnist", "valid": 10, "train": 20}
    first, other = (load(settings, root, seed) for seed in (0, 1))
    assert first.train.targets.bincount().tolist() == [2] * 10
    assert pixels(first.train) != pixels(other.train)
    assert pixels(first.train) <= pixels(load({**settings, "train": None}, root, 0).train)


def test_standard_scale_is_fitted_on_the_training_images_only(root, declare, cifar_npy, cifar_arrays):
    declare("cifar10", "cifar10")
    found = load({"name": "cifar10", "valid": 20, "scale": "standard"}, root, 0)
    train = cifar_arrays[0][:30] / 255
    mean, std = train.mean((0, 1, 2)), train.std((0, 1, 2))
    expected = ((cifar_arrays[2] / 255 - mean) / std).transpose(0, 3, 1, 2)
    assert np.allclose(found.test.inputs.numpy(), expected, atol=1e-5)
    assert found.train.inputs.mean((0, 2, 3)).abs().max() < 1e-6
    assert (found.train.inputs.std((0, 2, 3), correction=0) - 1).abs().max() < 1e-6
    assert found.valid.inputs.mean().abs() > 1e-4


def test_cifar10_layouts_agree(root, declare, cifar_npy, cifar_pickles, cifar_arrays):
    declare("cifar10", "cifar-10-batches-py", "cifar10")
    pickled = load({"name": "cifar10", "valid": 20}, root, 0)
    (root / "cifar-10-batches-py").rename(root / "elsewhere")
    arrays = load({"name": "cifar10", "valid": 20, "train": None}, root, 0)
    images, labels, tests, _ = cifar_arrays
    for found in (pickled, arrays):
        assert found.train.inputs.shape == (30, 3, 32, 32)
        assert found.train.inputs.is_contiguous()
        assert np.array_equal(found.valid.inputs.numpy(), images[30:].transpose(0, 3, 1, 2) / np.float32(255))
        assert np.array_equal(found.test.inputs.numpy(), tests.transpose(0, 3, 1, 2) / np.float32(255))
        assert found.train.targets.tolist() == labels[:30].tolist()


@pytest.mark.parametrize("size", [16, 32])
def test_larger_digits_are_the_same_ones_interpolated(size):
    small, large = (load({"name": "digits", "size": n}, "nowhere", 0) for n in (8, size))
    ratio = size // 8
    places = np.clip((np.arange(size) + 0.5) / ratio - 0.5, 0, 7)  # of the new pixels' centres among the old ones
    weights = np.maximum(1 - np.abs(places[:, None] - np.arange(8)), 0)
    for name in ("train", "valid", "test"):
        old, new = getattr(small, name), getattr(large, name)
        assert new.inputs.shape == (len(old.inputs), 1, size, size)
        assert torch.equal(new.targets, old.targets)
        assert np.allclose(new.inputs.numpy(), weights @ old.inputs.numpy() @ weights.T, atol=1e-6)


def test_cifar100_has_its_fine_classes(root, declare, cifar100_files, cifar_arrays):
    declare("cifar100", "cifar-100-python")
    found = load({"name": "cifar100", "valid": 20}, root, 0)
    images, _, tests, _ = cifar_arrays
    assert found.classes == 100
    assert found.train.targets.tolist() == list(range(99, 69, -1))
    assert found.valid.targets.tolist() == list(range(69, 49, -1))
    assert np.array_equal(found.train.inputs.numpy(), images[:30].transpose(0, 3, 1, 2) / np.float32(255))
    assert np.array_equal(found.test.inputs.numpy(), tests.transpose(0, 3, 1, 2) / np.float32(255))


def test_svhn_joins_the_training_and_the_extra_file(root, declare, svhn_files, svhn_arrays):
    declare("svhn", "svhn")
    found = load({"name": "svhn", "valid": 30}, root, 0)
    assert found.classes == 10
    assert len(found.train.targets) == 120
    assert found.valid.targets.bincount().tolist() == [3] * 10
    written = {}
    for name, (images, digits) in svhn_arrays.items():
        for image, digit in zip(images, digits):
            written[image.transpose(2, 0, 1).tobytes()] = name, int(digit)
    for split, count in ((found.train, {"train": 80, "extra": 40}), (found.valid, {"train": 20, "extra": 10})):
        pixels = split.inputs.mul(255).round().to(torch.uint8).numpy()
        sources = [written.pop(image.tobytes()) for image in pixels]
        assert [digit for _, digit in sources] == split.targets.tolist()
        assert {name: [n for n, _ in sources].count(name) for name in count} == count
    images, digits = svhn_arrays["test"]
    assert np.array_equal(found.test.inputs.numpy(), images.transpose(0, 3, 1, 2) / np.float32(255))
    assert found.test.targets.tolist() == digits.tolist()


def test_svhn_is_drawn_by_the_seed(root, declare, svhn_files):
    declare("svhn", "svhn")
    first, other = (load({"name": "svhn", "valid": 30, "train": 20}, root, seed) for seed in (0, 1))
    assert first.train.targets.bincount().tolist() == [2] * 10
    assert not torch.equal(first.valid.inputs, other.valid.inputs)


@pytest.mark.parametrize("valid", [0, 35, 140, 150])
def test_svhn_refuses_a_validation_set_that_is_not_balanced(root, declare, svhn_files, valid):
    declare("svhn", "svhn")
    with pytest.raises(UserError, match=f"dataset.valid={valid}: a multiple of 10, .* from 10 to 120"):
        load({"name": "svhn", "valid": valid}, root, 0)
    load({"name": "svhn", "valid": 120}, root, 0)


def test_real_mnist_is_what_torchvision_reads(shared, root, tmp_path):
    (root / "mnist").symlink_to(shared / "data" / "mnist")
    found = load({"name": "mnist"}, root, 0)
    for name, split, rows in (
        ("train-images-idx3-ubyte", found.train, slice(0, 50_000)),
        ("train-images-idx3-ubyte", found.valid, slice(50_000, 60_000)),
        ("t10k-images-idx3-ubyte", found.test, slice(0, 10_000)),
    ):
        plain = tmp_path / name
        plain.write_bytes(gzip.decompress((root / "mnist" / f"{name}.gz").read_bytes()))
        assert torch.equal(split.inputs[:, 0], read_sn3_pascalvincent_tensor(str(plain))[rows] / 255)
    assert found.test.targets.bincount().tolist() == [980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009]
    assert found.train.targets[:5].tolist() == [5, 0, 4, 1, 9]


def test_the_recorded_labels_of_cifar10_are_these(shared):
    """The digests that the .npy layout is checked against, from a copy in the batches' order."""
    labels = np.load(shared / "data" / "cifar10" / "labels.npz")
    digests = {f.path: f.digest for f in CIFAR10_ARRAYS}
    for part in ("train", "test"):
        content = labels[f"{part}_labels"].astype(np.uint8).tobytes()
        assert hashlib.sha256(content).hexdigest() == digests[f"{part}_labels.npy"]


@pytest.mark.parametrize(("valid", "train"), [(0, None), (60, None), (10, 51)])
def test_impossible_sizes_are_refused(root, declare, mnist_files, valid, train):
    mnist_files("mnist")
    declare("mnist", "mnist")
    with pytest.raises(UserError, match="should lie between 1 and"):
        load({"name": "mnist", "valid": valid, "train": train}, root, 0)
