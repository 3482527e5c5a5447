"""USPS and MNIST-M in their published forms, and pairs among four sets of digits."""

import builtins
import bz2
import shutil
import tarfile

import numpy as np
import pytest
import torch
from PIL import Image
from scipy.io import savemat

from normtables.data import Domains, fetching, files, load, mnist_m
from normtables.data.files import File, Layout, Source
from normtables.errors import UserError

GREY = np.array([0.299, 0.587, 0.114])


@pytest.fixture
def usps_arrays():
    """40 + 20 images of values n / 2000, as in the real files, and their digits."""
    rng = np.random.default_rng(3)
    found = []
    for count in (40, 20):
        values = rng.integers(0, 2001, (count, 256)) / 2000
        values[rng.random(values.shape) < 0.5] = 0
        found.append((values, np.arange(count) % 10))
    return found


@pytest.fixture
def usps_texts(root, usps_arrays):
    """LIBSVM's files: digit + 1, then position:value with values -1..1."""
    (root / "usps").mkdir()
    for name, (values, digits) in zip(("usps.bz2", "usps.t.bz2"), usps_arrays):
        rows = [
            " ".join([str(d + 1), *(f"{i + 1}:{2 * v - 1:.4g}" for i, v in enumerate(row))])
            for row, d in zip(values, digits)
        ]
        (root / "usps" / name).write_bytes(bz2.compress(("\n".join(rows) + "\n").encode()))


@pytest.fixture
def usps_h5(root, usps_arrays):
    h5py = pytest.importorskip("h5py")
    (root / "usps").mkdir(exist_ok=True)
    with h5py.File(root / "usps" / "usps.h5", "w") as file:
        for part, (values, digits) in zip(("train", "test"), usps_arrays):
            group = file.create_group(part)
            group.create_dataset("data", data=values.astype(np.float32), compression="gzip")
            group.create_dataset("target", data=digits.astype(np.int32), compression="gzip")


@pytest.fixture
def declare_usps(monkeypatch, root, describe):
    def make(*names):
        layout = Layout("usps", tuple(describe(root / "usps" / name) for name in names))
        monkeypatch.setitem(files.SOURCES, "usps", Source((layout,), 123, "no licence"))

    return make


@pytest.fixture
def coloured(root, monkeypatch):
    """MNIST-M's folder: PNG files and a list `name digit` for each part, the list in another order than the names."""
    rng = np.random.default_rng(4)
    monkeypatch.setattr(mnist_m, "COUNTS", {"train": 30, "test": 12})
    written = {}
    for part, count in mnist_m.COUNTS.items():
        folder = root / "mnist_m" / f"mnist_m_{part}"
        folder.mkdir(parents=True)
        images, digits = rng.integers(0, 256, (count, 32, 32, 3), np.uint8), rng.permutation(np.arange(count) % 10)
        order = rng.permutation(count)
        for row in range(count):
            Image.fromarray(images[row]).save(folder / f"{row:08d}.png")
        lines = "".join(f"{row:08d}.png {digits[row]}\n" for row in order)
        (root / "mnist_m" / f"mnist_m_{part}_labels.txt").write_text(lines)
        written[part] = images[order].transpose(0, 3, 1, 2), digits[order]
    groups = [files.SOURCES["mnist_m"].layouts[0].groups[i] for i in (0, 2)]
    layout = Layout("mnist_m", groups=tuple(type(g)(g.pattern, n) for g, n in zip(groups, (30, 12))))
    monkeypatch.setitem(files.SOURCES, "mnist_m", Source((layout,), 1, "none"))
    return written


def test_usps_is_the_same_in_both_forms(root, usps_arrays, usps_texts, usps_h5, declare_usps):
    (values, digits), (tests, answers) = usps_arrays
    for names in (("usps.bz2", "usps.t.bz2"), ("usps.h5",)):
        declare_usps(*names)
        found = load({"name": "usps", "valid": 10, "train": None if len(names) == 2 else 30}, root, 0)
        assert found.classes == 10
        assert found.train.inputs.shape == (30, 1, 16, 16)
        assert np.allclose(found.train.inputs.flatten(1).numpy(), values[:30], atol=1e-6)
        assert np.allclose(found.valid.inputs.flatten(1).numpy(), values[30:], atol=1e-6)
        assert np.allclose(found.test.inputs.flatten(1).numpy(), tests, atol=1e-6)
        assert found.train.targets.tolist() == digits[:30].tolist()
        assert found.test.targets.tolist() == answers.tolist()


def test_usps_is_what_torchvision_reads(root, usps_arrays, usps_texts, declare_usps):
    from torchvision.datasets import USPS

    declare_usps("usps.bz2", "usps.t.bz2")
    found = load({"name": "usps", "valid": 10}, root, 0)
    theirs = USPS(root / "usps", train=False)
    assert (found.test.inputs[:, 0].mul(255).numpy() - theirs.data).max() < 1.01
    assert found.test.targets.tolist() == theirs.targets


def test_without_h5py_the_other_files_are_offered(root, usps_h5, declare_usps, monkeypatch):
    declare_usps("usps.h5")
    whole = builtins.__import__

    def missing(name, *args, **kwargs):
        if name == "h5py":
            raise ImportError(name)
        return whole(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", missing)
    with pytest.raises(
        UserError, match=r"usps\.h5 needs h5py: `pip install h5py`, or run `normtables data fetch usps`"
    ):
        load({"name": "usps", "valid": 10}, root, 0)


@pytest.mark.parametrize(
    ("about", "more", "digest", "whole"),
    [(True, 5, "", True), (True, 0, "0" * 32, False), (False, 5, "", False)],
)
def test_a_size_that_is_only_about_right_leaves_it_to_the_digest(
    root, usps_texts, describe, monkeypatch, about, more, digest, whole
):
    right = describe(root / "usps" / "usps.bz2")
    declared = File("usps.bz2", right.bytes + more, digest or right.digest, about=about)
    monkeypatch.setitem(files.SOURCES, "usps", Source((Layout("usps", (declared,)),), 1, "none"))
    assert files.state("usps", root) == ("present" if whole else "damaged")


def test_mnist_m_in_the_order_of_its_lists(root, coloured):
    found = load({"name": "mnist_m", "valid": 10}, root, 0)
    images, digits = coloured["train"]
    assert np.array_equal(found.train.inputs.numpy(), images[:20] / np.float32(255))
    assert np.array_equal(found.valid.inputs.numpy(), images[20:] / np.float32(255))
    assert found.train.targets.tolist() == digits[:20].tolist()
    tests, answers = coloured["test"]
    assert np.array_equal(found.test.inputs.numpy(), tests / np.float32(255))
    assert found.test.targets.tolist() == answers.tolist()


def test_mnist_m_is_decoded_once(root, coloured, monkeypatch):
    first = load({"name": "mnist_m", "valid": 10}, root, 0)
    monkeypatch.setattr(mnist_m, "decoded", lambda paths: pytest.fail("decoded again"))
    again = load({"name": "mnist_m", "valid": 11}, root, 0)
    assert torch.equal(again.test.inputs, first.test.inputs)


@pytest.mark.parametrize("damage", ["list", "picture", "size"])
def test_a_broken_mnist_m_is_named(root, coloured, damage):
    folder = root / "mnist_m"
    if damage == "list":
        path = folder / "mnist_m_test_labels.txt"
        path.write_text(path.read_text().rsplit("\n", 2)[0])
        says = r"mnist_m_test_labels\.txt is damaged: it should name 12 files"
    else:
        path = folder / "mnist_m_train" / "00000007.png"
        Image.new("RGB", (28, 28)).save(path) if damage == "size" else path.write_bytes(b"no picture")
        says = r"00000007\.png is damaged"
    with pytest.raises(UserError, match=says):
        load({"name": "mnist_m", "valid": 10}, root, 0)


def test_fetch_unpacks_mnist_m(root, coloured, server, tmp_path, monkeypatch):
    folder, url = server
    with tarfile.open(folder / "mnist_m.tar.gz", "w:gz") as tar:
        tar.add(root / "mnist_m", "mnist_m")
    archive = File("mnist_m.tar.gz", 1, "", (f"{url}/mnist_m.tar.gz",))
    source = files.SOURCES["mnist_m"]
    lists = tuple(type(source.layouts[0].groups[0])(f"mnist_m_{part}_labels.txt", 1) for part in ("train", "test"))
    layout = Layout("mnist_m", groups=(*source.layouts[0].groups, *lists))
    monkeypatch.setitem(files.SOURCES, "mnist_m", Source((layout,), 1, "none", archive))
    fetching.fetch("mnist_m", tmp_path / "new")
    assert load({"name": "mnist_m", "valid": 10}, tmp_path / "new", 0).train.inputs.shape == (20, 3, 32, 32)


# pairs


@pytest.fixture
def four(root, declare, declare_usps, mnist_files, usps_texts, svhn_files, coloured):
    mnist_files("mnist")
    declare("mnist", "mnist")
    declare_usps("usps.bz2", "usps.t.bz2")
    declare("svhn", "svhn")


def pair(root, seed=0, **options):
    return load({"name": "digits_domains", **options}, root, seed)


def test_official_parts_at_a_common_size(root, four, mnist_arrays, usps_arrays):
    found = pair(root, valid=0.0)
    assert isinstance(found, Domains)
    assert found.classes == 10
    assert np.array_equal(found.train.inputs[:, 0].numpy(), mnist_arrays[0] / np.float32(255))
    assert found.train.targets.tolist() == mnist_arrays[1].tolist()
    for split, (values, digits) in zip((found.target, found.test), usps_arrays):
        small = torch.from_numpy(values.astype(np.float32)).reshape(-1, 1, 16, 16)
        large = torch.nn.functional.interpolate(small, (28, 28), mode="bilinear", align_corners=False)
        assert torch.allclose(split.inputs, large, atol=1e-5)
        assert split.targets.tolist() == digits.tolist()


@pytest.mark.parametrize(
    ("source", "target", "channels", "expected"),
    [
        ("mnist", "usps", None, 1),
        ("mnist", "usps", 3, 3),
        ("svhn", "mnist", None, 3),
        ("svhn", "mnist", 1, 1),
        ("mnist", "mnist_m", None, 3),
        ("mnist_m", "svhn", None, 3),
    ],
)
def test_every_pair_has_one_shape(root, four, source, target, channels, expected):
    found = pair(root, source=source, target=target, channels=channels, size=32, valid=0.2)
    for name in ("train", "valid", "target", "test"):
        split = getattr(found, name)
        assert split.inputs.shape[1:] == (expected, 32, 32)
        assert split.inputs.dtype == torch.float32
        assert split.inputs.min() >= 0
        assert split.inputs.max() <= 1.0001
        assert len(split.inputs) == len(split.targets)


def test_grey_is_made_of_colours_and_colours_of_grey(root, four, svhn_arrays, mnist_arrays):
    grey = pair(root, source="svhn", target="mnist", channels=1, size=32, valid=0.0).train
    expected = (svhn_arrays["train"][0] / 255 * GREY).sum(-1)
    assert np.allclose(grey.inputs[:, 0].numpy(), expected, atol=1e-5)
    assert grey.targets.tolist() == svhn_arrays["train"][1].tolist()
    coloured = pair(root, channels=3, valid=0.0).train.inputs
    for channel in range(3):
        assert np.array_equal(coloured[:, channel].numpy(), mnist_arrays[0] / np.float32(255))


def test_svhn_needs_no_extra_images_here(root, four):
    (root / "svhn" / "extra_32x32.mat").unlink()
    assert len(pair(root, source="svhn", target="mnist", valid=0.0).train.targets) == 100
    savemat(root / "svhn" / "test_32x32.mat", {"X": 1})
    files._whole.clear()
    with pytest.raises(UserError, match=r"test_32x32\.mat is damaged"):
        pair(root, source="svhn", target="mnist", valid=0.1)


def test_subsets_are_drawn_by_the_seed(root, four):
    found, other = (pair(root, seed, train=20, unlabelled=15, valid=0.25) for seed in (0, 1))
    assert [len(split.targets) for split in (found.train, found.valid, found.target, found.test)] == [15, 5, 15, 20]
    assert torch.cat([found.train.targets, found.valid.targets]).bincount().tolist() == [2] * 10
    assert not torch.equal(found.target.inputs, other.target.inputs)
    assert torch.equal(found.test.inputs, other.test.inputs)


def test_mistakes_are_told(root, four):
    for options, says in (
        ({"target": "mnist"}, "choose two different domains"),
        ({"size": 20}, r"dataset\.size=20: one of"),
        ({"channels": 2}, r"dataset\.channels=2: 1, 3 or null"),
        ({"unlabelled": 40}, r"dataset\.unlabelled=40 should lie between 1 and 39"),
        ({"train": 61}, r"dataset\.train=61 should lie between 1 and 60"),
    ):
        with pytest.raises(UserError, match=says):
            pair(root, **options)
    shutil.rmtree(root / "usps")
    with pytest.raises(UserError, match=r"data set 'usps' is not there: .*run `normtables data fetch usps`"):
        pair(root, valid=0.3)


def test_a_set_made_of_others_has_no_files_of_its_own(root, four):
    rows = {row["name"]: row for row in files.listing(root)}
    assert rows["digits_domains"]["state"] == "present"
    assert rows["digits_domains"]["how"] == "made of mnist, mnist_m, svhn, usps: fetch those"
    shutil.rmtree(root / "usps")
    assert files.state("digits_domains", root) == "partial"
    assert files.download_bytes("digits_domains", root) == 0
    settings = {"name": "digits_domains", "source": "mnist", "target": "usps", "size": 28}
    assert files.needs(settings) == [("mnist", ""), ("usps", "")]
    for act in (files.locate, fetching.fetch):
        with pytest.raises(UserError, match=r"made of .*mnist"):
            act("digits_domains", root)


def test_real_usps_and_mnist(shared, root):
    pytest.importorskip("h5py")
    for name in ("mnist", "usps"):
        (root / name).symlink_to(shared / "data" / name)
    found = pair(root, source="usps", target="mnist", valid=0.0, size=16)
    assert found.train.targets.bincount().tolist() == [1194, 1005, 731, 658, 652, 556, 664, 645, 542, 644]
    assert found.train.inputs.shape == (7291, 1, 16, 16)
    assert len(found.target.targets) == 60_000
    assert len(found.test.targets) == 10_000
    levels = found.train.inputs * 2000
    assert (levels - levels.round()).abs().max() < 0.01, "values are n / 2000"
