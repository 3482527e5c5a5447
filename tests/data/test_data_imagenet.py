"""ImageNet's folders and archives, its 64 px version, and bytes read batch by batch."""

import collections
import io
import tarfile
import zipfile

import numpy as np
import pytest
import torch
from PIL import Image
from scipy.io import savemat
from torchvision.datasets import imagenet as torchvision_imagenet
from torchvision.transforms import functional

from normtables.data import DATASETS, derived, fetching, files, imagenet, load
from normtables.data.pixels import Disk, Pixels
from normtables.errors import UserError
from normtables.tables import spec
from normtables.tables.plan import plan
from normtables.training.run import execute, on

WNIDS = ["n01440764", "n01443537", "n02099601"]
MEAN, DEVIATION = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
SMALL = {"name": "imagenet", "size": 32, "valid": 6, "scale": "unit"}


def jpeg(seed, mode="RGB"):
    """The bytes of a JPEG of 60 to 79 by 50 to 69 pixels, smooth enough to be resized."""
    rng = np.random.default_rng(seed)
    width, height = rng.integers(60, 80), rng.integers(50, 70)
    shape = (5, 5, 3) if mode == "RGB" else (5, 5)
    small = Image.fromarray(rng.integers(0, 256, shape, np.uint8))
    buffer = io.BytesIO()
    small.resize((int(width), int(height)), Image.Resampling.BICUBIC).save(buffer, "JPEG", quality=95)
    return buffer.getvalue()


@pytest.fixture
def tree(root, monkeypatch):
    """Three classes: 4, 5 and 6 training and 2 validation pictures each, one of them grey."""
    monkeypatch.setattr(imagenet, "COUNTS", {"train": 15, "val": 6})
    folder = root / "imagenet"
    for label, wnid in enumerate(WNIDS):
        for part, count in (("train", 4 + label), ("val", 2)):
            (folder / part / wnid).mkdir(parents=True)
            for i in range(count):
                name = f"{wnid}_{i}.JPEG" if part == "train" else f"ILSVRC2012_val_0000000{3 * i + label + 1}.JPEG"
                mode = "L" if (part, label, i) == ("train", 1, 2) else "RGB"
                (folder / part / wnid / name).write_bytes(jpeg(100 * label + 10 * i + (part == "val"), mode))
    return folder


def levels(split):
    """A split's inputs (scale: unit) as grey levels."""
    return split.inputs.index_select(0, torch.arange(len(split.targets))).mul(255).round().to(torch.uint8)


def central(path, size):
    """The input for a file, from the code that the data set uses to read one."""
    margin = (size * 8 // 7 - size) // 2
    return torch.from_numpy(
        imagenet.squared(path, size * 8 // 7).copy()[:, margin : margin + size, margin : margin + size]
    )


def test_every_picture_with_its_class(tree, root):
    found = load(SMALL, root, 0)
    assert found.classes == 3
    assert found.train.inputs.shape == (9, 3, 32, 32)
    assert found.valid.targets.bincount().tolist() == [2, 2, 2]
    assert found.test.targets.tolist() == [0, 0, 1, 1, 2, 2]
    paths = sorted((tree / "train").rglob("*.JPEG"))
    expected = {central(p, 32).numpy().tobytes(): WNIDS.index(p.parent.name) for p in paths}
    assert len(expected) == 15
    for split in (found.train, found.valid):
        assert [expected.pop(image.numpy().tobytes()) for image in levels(split)] == split.targets.tolist()
    assert not expected, "no picture in both, none left out"
    for image, path in zip(levels(found.test), sorted((tree / "val").rglob("*.JPEG"))):
        assert torch.equal(image, central(path, 32))


def test_a_picture_is_resized_as_torchvision_does(tree):
    path = next((tree / "train" / WNIDS[0]).iterdir())
    found = torch.from_numpy(imagenet.squared(path, 36).astype(np.float32))
    with Image.open(path) as image:
        expected = functional.center_crop(functional.resize(image, [36]), [36, 36])
    difference = (found - functional.pil_to_tensor(expected)).abs()[:, 2:-2, 2:-2]
    assert difference.mean() < 6, "the square is cut before resizing, so it lies up to half a pixel elsewhere"


def test_the_usual_scale_and_the_precision_of_the_run(tree, root):
    unit, standard = (load(SMALL | {"scale": s}, root, 0) for s in ("unit", "standard"))
    rows = torch.tensor([3, 0, 3])
    expected = (unit.train.inputs.index_select(0, rows) - MEAN[:, None, None]) / DEVIATION[:, None, None]
    assert torch.allclose(standard.train.inputs.index_select(0, rows), expected, atol=1e-6)
    moved = on(standard, torch.device("cpu"), torch.float64)
    assert moved.train.inputs.index_select(0, rows).dtype == torch.float64
    assert torch.allclose(moved.train.inputs[3], expected[0].double(), atol=1e-6)


def test_inputs_are_read_like_a_tensor(tree, root):
    inputs = load(SMALL, root, 0).valid.inputs
    whole = inputs.index_select(0, torch.arange(6))
    assert isinstance(inputs, Pixels)
    assert len(inputs) == 6
    assert [len(part) for part in inputs.split(4)] == [4, 2]
    assert torch.equal(torch.cat(list(inputs.split(4))), whole)
    assert torch.equal(inputs[5], whole[5])
    assert inputs.whole(torch.tensor([2])).shape == (1, 3, 36, 36)
    assert torch.equal(inputs.whole(torch.tensor([2]))[:, :, 2:34, 2:34], whole[2:3])


def test_a_disk_gathers_across_its_segments():
    bytes_ = np.random.default_rng(0).integers(0, 256, (10, 2, 3, 3), np.uint8)
    disk = Disk(np.split(bytes_, [4, 5]))
    assert disk.shape == (10, 2, 3, 3)
    rows = torch.tensor([9, 4, 0, 3, 5, 4])
    assert np.array_equal(disk.index_select(0, rows).numpy(), bytes_[rows])


@pytest.fixture
def flat(tree):
    """val/ without folders; returns the class of each picture."""
    wnids = {}
    for path in sorted((tree / "val").rglob("*.JPEG")):
        wnids[path.stem] = path.parent.name
        path.rename(tree / "val" / path.name)
    for wnid in WNIDS:
        (tree / "val" / wnid).rmdir()
    return wnids


def test_a_flat_val_with_kaggles_list(tree, root, flat):
    rows = [f"{name},{wnid} 1 2 3 4 {wnid} 5 6 7 8" for name, wnid in reversed(flat.items())]
    (tree / "LOC_val_solution.csv").write_text("\n".join(["ImageId,PredictionString", *rows, ""]))
    found = load(SMALL, root, 0)
    assert found.test.targets.tolist() == [WNIDS.index(flat[name]) for name in sorted(flat)]
    assert torch.equal(levels(found.test)[1], central(tree / "val" / f"{sorted(flat)[1]}.JPEG", 32))


def test_a_flat_val_with_torchvisions_file(tree, root, flat):
    torch.save(({wnid: (wnid,) for wnid in WNIDS}, [flat[name] for name in sorted(flat)]), tree / "meta.bin")
    assert load(SMALL, root, 0).test.targets.tolist() == [WNIDS.index(flat[name]) for name in sorted(flat)]


def refusal(root):
    with pytest.raises(UserError) as error:
        files.locate("imagenet", root)
    assert "\n" not in str(error.value)
    assert "normtables data fetch imagenet" in str(error.value)
    return str(error.value), files.state("imagenet", root)


def test_what_is_wrong_is_named(tree, root):
    assert files.state("imagenet", root) == "present"
    (tree / "train" / WNIDS[0] / f"{WNIDS[0]}_0.JPEG").unlink()
    text, state = refusal(root)
    assert f"{tree / 'train'} is damaged: it has 14 JPEG files, it should have 15" in text
    assert state == "damaged"
    (tree / "val").rename(tree / "validation")
    text, state = refusal(root)
    assert f"{tree / 'val'} is missing" in text
    assert state == "missing"
    tree.rename(root / "elsewhere")
    text, state = refusal(root)
    assert f"is not there: looked in {tree}" in text
    assert state == "missing"
    assert files.download_bytes("imagenet", root) == 0


def test_a_flat_val_needs_its_labels(tree, root, flat):
    text, state = refusal(root)
    assert f"{tree / 'LOC_val_solution.csv'} (or ILSVRC2012_devkit_t12.tar.gz) is missing" in text
    assert state == "missing"


def test_the_files_are_counted_once(tree, root, monkeypatch):
    files.locate("imagenet", root)
    monkeypatch.setattr(imagenet, "pictures", lambda folder: pytest.fail("counted again"))
    files.locate("imagenet", root)


def build(root, **other):
    return DATASETS.build(SMALL | other, root, 0)


def test_pictures_are_decoded_once_and_an_interrupted_decoding_goes_on(tree, root, monkeypatch):
    monkeypatch.setattr(imagenet, "SEGMENT", 4)
    squared, seen = imagenet.squared, []

    def breaking(path, side):
        seen.append(path.name)
        if len(seen) == 7:
            raise KeyboardInterrupt
        return squared(path, side)

    monkeypatch.setattr(imagenet.os, "cpu_count", lambda: 1)
    monkeypatch.setattr(imagenet, "squared", breaking)
    with pytest.raises(KeyboardInterrupt):
        build(root)
    first = len(list((root / ".cache").glob("imagenet-36-*.npy")))
    assert first == 1
    found = build(root)
    assert len(list((root / ".cache").glob("imagenet-36-*.npy"))) == 4 + 2
    monkeypatch.setattr(imagenet, "squared", lambda path, side: pytest.fail("decoded again"))
    assert torch.equal(levels(build(root).train), levels(found.train))


def test_a_subset_decodes_only_what_it_needs(tree, root):
    found = build(root, train=3)
    assert found.train.targets.tolist() == [0, 1, 2]
    sizes = sorted(len(np.load(path)) for path in (root / ".cache").glob("imagenet-36-*.npy"))
    assert sizes == [6, 9]
    whole = build(root)
    rows = {image.numpy().tobytes() for image in levels(whole.train)}
    assert {image.numpy().tobytes() for image in levels(found.train)} <= rows
    assert torch.equal(levels(found.valid), levels(whole.valid))


def test_no_room_for_the_decoded_pictures_is_one_line(tree, root, monkeypatch):
    monkeypatch.setattr(derived, "folders", lambda root: [])
    with pytest.raises(UserError, match=r"cannot take the 0\.0 GB of decoded pictures"):
        build(root)


def test_a_broken_picture_is_named(tree, root):
    path = tree / "train" / WNIDS[2] / f"{WNIDS[2]}_1.JPEG"
    path.write_bytes(b"not a picture")
    with pytest.raises(UserError, match=f"{path.name} is damaged"):
        build(root)


def test_fetch_says_where_the_archives_come_from(root):
    (root / "other").write_text("")
    with pytest.raises(
        UserError, match=r"needs an account: put ILSVRC2012_img_train\.tar, .* from image-net\.org into"
    ):
        fetching.fetch("imagenet", root)


def test_fetch_unpacks_the_archives(tree, root, tmp_path, monkeypatch):
    """The three archives as image-net.org has them: a tar of tars, a flat tar, and the development kit."""
    expected = build(root)
    archives = tmp_path / "new" / "imagenet"
    archives.mkdir(parents=True)
    with tarfile.open(archives / "ILSVRC2012_img_train.tar", "w") as outer:
        for wnid in WNIDS:
            with tarfile.open(tmp_path / f"{wnid}.tar", "w") as inner:
                for path in sorted((tree / "train" / wnid).iterdir()):
                    inner.add(path, path.name)
            outer.add(tmp_path / f"{wnid}.tar", f"{wnid}.tar")
    places = {path.name: path for path in (tree / "val").rglob("*.JPEG")}
    with tarfile.open(archives / "ILSVRC2012_img_val.tar", "w") as tar:
        for name in sorted(places):
            tar.add(places[name], name)
    kit = tmp_path / "ILSVRC2012_devkit_t12" / "data"
    kit.mkdir(parents=True)
    fields = ["ILSVRC2012_ID", "WNID", "words", "gloss", "num_children"]
    order = [WNIDS[2], WNIDS[0], WNIDS[1]]  # the kit's numbers are not in the order of the names
    synsets = np.array([(i + 1, wnid, wnid, "", 0) for i, wnid in enumerate(order)], [(f, object) for f in fields])
    savemat(kit / "meta.mat", {"synsets": synsets})
    numbers = [order.index(places[name].parent.name) + 1 for name in sorted(places)]
    (kit / "ILSVRC2012_validation_ground_truth.txt").write_text("".join(f"{n}\n" for n in numbers))
    with tarfile.open(archives / "ILSVRC2012_devkit_t12.tar.gz", "w:gz") as tar:
        tar.add(kit.parent, "ILSVRC2012_devkit_t12")
    known = {part: (name, None) for part, (name, _) in torchvision_imagenet.ARCHIVE_META.items()}
    monkeypatch.setattr(torchvision_imagenet, "ARCHIVE_META", known)
    fetching.fetch("imagenet", tmp_path / "new")
    found = build(tmp_path / "new")
    for name in ("train", "valid", "test"):
        assert torch.equal(levels(getattr(found, name)), levels(getattr(expected, name)))
        assert torch.equal(getattr(found, name).targets, getattr(expected, name).targets)


@pytest.fixture
def downsampled(root, declare):
    """ImageNet64's archives: training images 0..23 in 11 files over two archives, labels 1..3; 6 validation images."""
    rng = np.random.default_rng(3)
    images, tests = (rng.integers(0, 256, (n, 12288), np.uint8) for n in (24, 6))
    labels, test_labels = np.arange(24) % 3 + 1, np.arange(6) % 3 + 1
    (root / "imagenet64").mkdir()
    batches = {f"train_data_batch_{i + 1}": (images[2 * i : 2 * i + 2], labels[2 * i : 2 * i + 2]) for i in range(12)}
    parts = [list(batches.items())[:5], list(batches.items())[5:], [("val_data", (tests, test_labels))]]
    for stem, part in zip(("train_part1", "train_part2", "val"), parts):
        with zipfile.ZipFile(root / "imagenet64" / f"Imagenet64_{stem}_npz.zip", "w") as archive:
            for name, (pixels, targets) in reversed(part):
                buffer = io.BytesIO()
                np.savez(buffer, data=pixels, labels=targets, mean=pixels.mean(0))
                archive.writestr(f"Imagenet64_{stem}_npz/{name}.npz", buffer.getvalue())
    declare("imagenet64", "imagenet64")
    return images.reshape(-1, 3, 64, 64), tests.reshape(-1, 3, 64, 64)


def test_the_64_px_version_in_the_order_of_its_batches(root, downsampled):
    images, tests = downsampled
    found = load({"name": "imagenet64", "valid": 6, "scale": "unit"}, root, 0)
    assert found.classes == 3
    assert found.train.inputs.shape == (18, 3, 64, 64)
    assert isinstance(found.train.inputs.stored, torch.Tensor), "it goes to the device with the rest"
    assert np.array_equal(levels(found.test).numpy(), tests)
    assert found.test.targets.tolist() == [0, 1, 2, 0, 1, 2]
    rows = {image.tobytes(): i for i, image in enumerate(images)}
    found_rows = [[rows[image.numpy().tobytes()] for image in levels(s)] for s in (found.train, found.valid)]
    assert sorted(found_rows[0] + found_rows[1]) == list(range(24))
    for split, numbers in zip((found.train, found.valid), found_rows):
        assert split.targets.tolist() == [i % 3 for i in numbers]
    small = load({"name": "imagenet64", "valid": 6, "scale": "unit", "train": 3}, root, 0)
    assert len(small.train.inputs.stored) == 3
    assert {rows[image.numpy().tobytes()] for image in levels(small.train)} <= set(found_rows[0])


def test_the_64_px_version_is_unpacked_once(root, downsampled, monkeypatch):
    settings = {"name": "imagenet64", "valid": 6}
    first = DATASETS.build(settings, root, 0)
    monkeypatch.setattr(zipfile, "ZipFile", lambda path: pytest.fail("read again"))
    again = DATASETS.build(settings, root, 0)
    rows = torch.arange(18)
    assert torch.equal(again.train.inputs.index_select(0, rows), first.train.inputs.index_select(0, rows))


def test_no_room_for_the_64_px_version_is_one_line(root, downsampled, monkeypatch):
    monkeypatch.setattr(derived, "folders", lambda root: [])
    with pytest.raises(UserError, match=r"data set 'imagenet64': .* cannot take"):
        load({"name": "imagenet64", "valid": 6}, root, 0)


PAPER = """
table: images
title: Image sets that are not embedded
source: nobody
kind: reproduction
runnable: true
fixed: {model: cnn4, model.widths: [2, 2], batch_size: 4, norm: bn}
tiers: {paper: {set: {budget: 2steps, evaluate: 1step}, repeat: {seed: [0]}}}
rows:
  as they are: {set: {dataset.task.augment: none}}
  windows: {set: {dataset.task.augment: flip_crop}}
columns:
  ImageNet error %: {set: {dataset: imagenet, dataset.size: 32, dataset.valid: 6}, READ}
  ImageNet64 error %: {set: {dataset: imagenet64, dataset.valid: 6}, READ}
  SVHN error %: {set: {dataset: svhn, dataset.valid: 20, dataset.prep: gcn_lcn}, READ}
  CIFAR-100 error %: {set: {dataset: cifar100, dataset.valid: 20, dataset.prep: global}, READ}
"""


def test_a_paper_tier_composes_plans_and_starts(
    root, tree, downsampled, declare, cifar100_files, svhn_files, composer, results, tmp_path
):
    declare("cifar100", "cifar-100-python")
    declare("svhn", "svhn")
    (tmp_path / "images.yaml").write_text(PAPER.replace("READ", "score: test/error, read: best, better: lower"))
    found = plan(spec.load(tmp_path / "images.yaml"), "paper", composer)
    assert len(found.runs) == 8
    for run in found.runs.values():
        record = execute(composer.config({**run.settings, "data.root": str(root), "results": str(results)}))
        assert (record.id, record.status) == (run.id, "finished")


def test_tables_1_and_2_at_tier_paper_start_on_files_of_the_true_format(
    root, tree, declare, cifar100_files, svhn_files, composer, results
):
    """Every row of their columns on ImageNet, CIFAR-100 and SVHN, cut to one update of four images."""
    declare("cifar100", "cifar-100-python")
    declare("svhn", "svhn")
    started = collections.Counter()
    for number in (1, 2):
        for run in plan(spec.load(number), "paper", composer).runs.values():
            name = run.settings["dataset"]
            if name == "cifar10" or run.settings["seed"]:
                continue
            cut = {"budget": "1steps", "evaluate": "1steps", "batch_size": 4, "dataset.valid": 6 if number == 1 else 20}
            small = {"data.root": str(root), "results": str(results), "model.width": 0.25}
            record = execute(composer.config({**run.settings, **cut, **small}))
            assert record.status == "finished", run.settings
            started[name] += 1
    assert started == {"imagenet": 7, "cifar100": 4, "svhn": 4}


@pytest.mark.parametrize("name", ["inception", "inception_weak"])
def test_crops_and_colours_on_stored_pictures(name, root, tree, small):
    settings = {"dataset": "imagenet", "dataset__valid": 6, "dataset__size": 32, "data__root": str(root)}
    record = execute(
        small(model="cnn4", model__widths=[2, 2], batch_size=4, norm="bn", dataset__task__augment=name, **settings)
    )
    assert record.status == "finished"
