"""Office-31 from folders of pictures, in both layouts."""

import shutil
import tarfile
import zipfile

import numpy as np
import pytest
import torch
from PIL import Image, ImageOps

from normtables.data import Domains, fetching, files, load, office31
from normtables.data.files import File, Layout, Source
from normtables.data.pixels import Pixels
from normtables.errors import UserError

NAMES = ["back_pack", "bike", "mug"]
SIZES = {"amazon": (300, 300), "dslr": (60, 40), "webcam": (50, 70)}  # width, height
MEAN, DEVIATION = np.array((0.485, 0.456, 0.406)), np.array((0.229, 0.224, 0.225))


@pytest.fixture
def office(root, monkeypatch):
    """Three classes of JPEG files: 12, 6 and 9 frames."""
    counts = {"amazon": 12, "dslr": 6, "webcam": 9}
    monkeypatch.setattr(office31, "COUNTS", counts)
    monkeypatch.setattr(office31, "CLASSES", 3)
    rng = np.random.default_rng(0)
    for domain, count in counts.items():
        for name in NAMES:
            folder = root / "office31" / domain / "images" / name
            folder.mkdir(parents=True)
            for frame in range(1, count // 3 + 1):
                small = Image.fromarray(rng.integers(0, 256, (4, 4, 3), np.uint8))
                small.resize(SIZES[domain], Image.Resampling.BICUBIC).save(folder / f"frame_{frame:04d}.jpg")
    source = files.SOURCES["office31"]
    layouts = tuple(
        Layout(layout.folder, groups=tuple(type(g)(g.pattern, n) for g, n in zip(layout.groups, counts.values())))
        for layout in source.layouts
    )
    monkeypatch.setitem(files.SOURCES, "office31", Source(layouts, 1, "none", source.archive))
    return root / "office31"


def build(root, seed=0, **options):
    return load({"name": "office31", "size": 28, "stored": 32, **options}, root, seed)


def squares(office, domain, side):
    """The central squares of a domain's files, 0..1, and their classes, decoded here."""
    images, labels = [], []
    for label, name in enumerate(NAMES):
        for path in sorted((office / domain / "images" / name).iterdir()):
            square = ImageOps.fit(Image.open(path).convert("RGB"), (side, side), Image.Resampling.BILINEAR)
            images.append(np.asarray(square).transpose(2, 0, 1) / 255)
            labels.append(label)
    return np.stack(images), labels


def inputs(split):
    return torch.cat(list(split.inputs.split(5))).numpy()


def test_all_of_the_source_and_all_of_the_target(root, office):
    found = build(root, source="webcam", target="dslr", valid=0.0)
    assert isinstance(found, Domains)
    assert found.classes == 3
    assert found.target is found.test
    for split, domain in ((found.train, "webcam"), (found.valid, "webcam"), (found.test, "dslr")):
        images, labels = squares(office, domain, 32)
        assert isinstance(split.inputs, Pixels)
        assert split.inputs.shape == (len(labels), 3, 28, 28)
        expected = (images[:, :, 2:30, 2:30] - MEAN[:, None, None]) / DEVIATION[:, None, None]
        assert np.allclose(inputs(split), expected, atol=1e-5)
        assert split.targets.tolist() == labels
        assert np.allclose(split.inputs.whole(torch.arange(2)).numpy(), images[:2], atol=1e-6)
    plain = build(root, source="webcam", target="dslr", valid=0.0, scale="unit")
    assert np.allclose(inputs(plain.test), squares(office, "dslr", 32)[0][:, :, 2:30, 2:30], atol=1e-6)


def test_validation_is_drawn_from_the_source(root, office):
    found, other = (build(root, seed, valid=0.25) for seed in (0, 1))
    assert found.train.targets.bincount().tolist() == [3, 3, 3]
    assert found.valid.targets.bincount().tolist() == [1, 1, 1]
    labels = squares(office, "amazon", 32)[1]
    everything = np.concatenate([inputs(found.train), inputs(found.valid)])
    assert len(everything) == len(np.unique(everything.round(4), axis=0)) == 12
    rows = sorted([*found.train.inputs.rows.tolist(), *found.valid.inputs.rows.tolist()])
    assert rows == list(range(12))
    assert found.valid.inputs.rows.tolist() != other.valid.inputs.rows.tolist()
    assert [labels[row] for row in found.valid.inputs.rows] == found.valid.targets.tolist()


def test_both_layouts_and_the_archives_own_name(root, office, tmp_path):
    expected = build(root)
    plain = tmp_path / "plain"
    for domain in SIZES:
        shutil.copytree(office / domain / "images", plain / "office31" / domain)
    named = tmp_path / "named"
    shutil.copytree(office, named / "domain_adaptation_images")
    for other in (plain, named):
        found = build(other)
        assert np.array_equal(inputs(found.test), inputs(expected.test))
        assert torch.equal(found.train.targets, expected.train.targets)


def test_pictures_are_decoded_once_and_again_where_they_change(root, office, monkeypatch):
    first = build(root)
    whole, decoded = office31.decoded, []
    monkeypatch.setattr(office31, "decoded", lambda paths, side: decoded.append(paths) or whole(paths, side))
    assert np.array_equal(inputs(build(root, size=20).test), inputs(first.test)[..., 4:24, 4:24])
    assert not decoded
    Image.new("RGB", (80, 80), "red").save(office / "webcam" / "images" / "mug" / "frame_0001.jpg")
    build(root, valid=0.2)
    assert len(decoded) == 1


@pytest.mark.parametrize("damage", ["missing", "picture", "class", "domain"])
def test_what_is_wrong_is_named(root, office, damage):
    path = office / "webcam" / "images" / "mug" / "frame_0002.jpg"
    if damage == "missing":
        path.unlink()
        says = r"webcam/images/\*/\*\.jpg is damaged: there are 8 files, there should be 9"
    elif damage == "picture":
        path.write_bytes(b"no picture")
        says = r"frame_0002\.jpg is damaged"
    elif damage == "class":
        (office / "webcam" / "images" / "mug").rename(office / "webcam" / "images" / "mugs")
        says = "should have the same 3 folders"
    else:
        shutil.rmtree(office / "webcam")
        says = r"webcam/images/\*/\*\.jpg is missing; run `normtables data fetch office31`"
    with pytest.raises(UserError, match=says):
        build(root)


def test_mistakes_are_told(root, office):
    with pytest.raises(UserError, match="choose two different domains"):
        build(root, target="amazon")
    with pytest.raises(UserError, match=r"dataset\.size=33: from 1 to dataset\.stored=32"):
        build(root, size=33)


def test_fetch_unpacks_the_archive(root, office, server, tmp_path, monkeypatch):
    folder, url = server
    with tarfile.open(folder / "office31.tar.gz", "w:gz") as tar:
        tar.add(office, "office31")
    source = files.SOURCES["office31"]
    archive = File("office31.tar.gz", 1, "", (f"{url}/office31.tar.gz",))
    monkeypatch.setitem(files.SOURCES, "office31", Source(source.layouts, 1, "none", archive))
    fetching.fetch("office31", tmp_path / "new")
    assert np.array_equal(inputs(build(tmp_path / "new").test), inputs(build(root).test))


def test_the_real_pictures(shared, root):
    """Two of the three domains, small, from archives without the folder images/."""
    for domain, name in (("dslr", "dslr_256px"), ("webcam", "webcam_256px")):
        with zipfile.ZipFile(shared / "data" / "office31" / f"{name}.zip") as archive:
            archive.extractall(root / "office31" / domain)
    with zipfile.ZipFile(shared / "data" / "office31" / "amazon_300px.zip") as archive:
        names = archive.namelist()
    for name in names:  # only their number is looked at
        path = root / "office31" / "amazon" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    found = build(root, source="dslr", target="webcam")
    assert found.classes == 31
    assert len(found.train.targets) + len(found.valid.targets) == 498
    assert len(found.test.targets) == 795
    assert len(found.test.targets.bincount()) == 31
    assert (found.test.targets.bincount().min(), found.test.targets.bincount().max()) == (11, 43)
    assert abs(inputs(found.test).mean()) < 1
