"""Finding, checking, listing and fetching files: each thing that can be wrong has its own line."""

import hashlib
import os
import shutil
import tarfile

import numpy as np
import pytest
import torch

from normtables.data import DATASETS, derived, fetching, files, load
from normtables.errors import UserError
from normtables.places import default_root

IMAGES = "train-images-idx3-ubyte.gz"
HELP = "run `normtables data fetch mnist`, or point data.root=FOLDER or NORMTABLES_DATA at a copy"


@pytest.fixture
def mnist(root, declare, mnist_files):
    """The folder of a small MNIST that is declared to be the whole one."""
    mnist_files("mnist")
    declare("mnist", "mnist")
    return root / "mnist"


def refusal(name, root):
    with pytest.raises(UserError) as error:
        files.locate(name, root)
    text = str(error.value)
    assert "\n" not in text
    return text


def test_both_layouts_of_mnist_are_found(root, declare, mnist_files):
    mnist_files("MNIST/raw")
    mnist_files("mnist")
    declare("mnist", "MNIST/raw", "mnist")
    assert files.locate("mnist", root).path(IMAGES) == root / "MNIST" / "raw" / IMAGES
    shutil.rmtree(root / "MNIST")
    assert files.locate("mnist", root).path(IMAGES) == root / "mnist" / IMAGES


def test_a_whole_layout_behind_a_damaged_one_is_used(root, declare, mnist_files):
    mnist_files("MNIST/raw")
    mnist_files("mnist")
    declare("mnist", "MNIST/raw", "mnist")
    (root / "MNIST" / "raw" / IMAGES).write_bytes(b"")
    assert files.locate("mnist", root).layout.folder == "mnist"


def test_a_root_that_does_not_exist(tmp_path):
    expected = f"data set 'mnist': the data root {tmp_path / 'gone'} does not exist; {HELP}"
    assert refusal("mnist", tmp_path / "gone") == expected
    assert files.state("mnist", tmp_path / "gone") == "missing"


def test_a_root_that_is_a_file(tmp_path):
    (tmp_path / "file").write_text("")
    assert "is not a folder" in refusal("mnist", tmp_path / "file")


def test_an_empty_root(root):
    assert refusal("mnist", root) == f"data set 'mnist': the data root {root} is empty; {HELP}"
    (root / ".cache").mkdir()
    assert "is empty" in refusal("mnist", root)


def test_a_root_with_other_things(root):
    (root / "letters").mkdir()
    looked = f"looked in {root / 'MNIST/raw'} and {root / 'mnist'}"
    assert refusal("mnist", root) == f"data set 'mnist' is not there: {looked}; {HELP}"


def test_one_missing_file_is_named(root, mnist):
    (mnist / IMAGES).unlink()
    assert refusal("mnist", root) == f"data set 'mnist': {mnist / IMAGES} is missing; {HELP}"
    assert files.state("mnist", root) == "missing"


def test_a_truncated_file_is_named_with_its_sizes(root, mnist):
    whole = (mnist / IMAGES).stat().st_size
    os.truncate(mnist / IMAGES, 1000)
    expected = f"{mnist / IMAGES} is damaged: its content has 1,000 bytes (truncated), it should have {whole:,}"
    assert refusal("mnist", root) == f"data set 'mnist': {expected}; {HELP}"
    assert files.state("mnist", root) == "damaged"


def test_a_wrong_checksum_is_named_even_after_a_good_one(root, mnist):
    good = files.source("mnist").layouts[0].files[0].digest
    assert files.state("mnist", root) == "present"
    content = bytearray((mnist / IMAGES).read_bytes())
    content[-1] ^= 1
    (mnist / IMAGES).write_bytes(content)
    os.utime(mnist / IMAGES, ns=(1, 1))
    text = refusal("mnist", root)
    assert f"{mnist / IMAGES} is damaged: its content has md5 " in text
    assert f", it should have {good}" in text
    assert files.state("mnist", root) == "damaged"


def test_loading_says_the_same(root, mnist):
    os.truncate(mnist / IMAGES, 1000)
    with pytest.raises(UserError, match="truncated"):
        load({"name": "mnist"}, root, 0)


def test_a_file_that_cannot_be_read(root, mnist, monkeypatch):
    def denied(path, kind):
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(files, "content_digest", denied)
    assert refusal("mnist", root) == f"data set 'mnist': cannot read {mnist / IMAGES}: Permission denied"


def test_npy_content_is_what_counts_not_its_header(root, declare, cifar_npy):
    declare("cifar10", "cifar10")
    path = root / "cifar10" / "test_images.npy"
    array = np.load(path)
    for version in ((1, 0), (2, 0), (3, 0)):
        with path.open("wb") as file:
            np.lib.format.write_array(file, array, version=version)
        os.utime(path, ns=(0, version[0]))
        assert files.state("cifar10", root) == "present"
    array[0, 0, 0, 0] ^= 1
    np.save(path, array)
    assert "its content has sha256" in refusal("cifar10", root)
    path.write_bytes(b"")
    assert "0 bytes (truncated)" in refusal("cifar10", root)


def test_big_files_are_hashed_once(root, mnist, monkeypatch):
    monkeypatch.setattr(files, "STAMPED", 0)
    hashed = []
    whole = files.content_digest
    monkeypatch.setattr(files, "content_digest", lambda path, kind: hashed.append(path) or whole(path, kind))
    files.locate("mnist", root)
    monkeypatch.setattr(files, "_whole", set())  # another process
    files.locate("mnist", root)
    assert len(hashed) == 4
    os.utime(mnist / IMAGES, ns=(5, 5))  # written anew
    files.locate("mnist", root)
    assert hashed[4:] == [mnist / IMAGES]


def test_a_bad_file_gets_no_stamp(root, mnist, monkeypatch):
    monkeypatch.setattr(files, "STAMPED", 0)
    content = bytearray((mnist / IMAGES).read_bytes())
    content[-1] ^= 1
    (mnist / IMAGES).write_bytes(content)
    for _ in range(2):
        monkeypatch.setattr(files, "_whole", set())
        assert "md5" in refusal("mnist", root)


def test_the_default_root(monkeypatch, tmp_path):
    monkeypatch.setenv("NORMTABLES_DATA", "~/sets")
    assert default_root() == (tmp_path.home() / "sets")
    monkeypatch.delenv("NORMTABLES_DATA")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert default_root() == tmp_path / "normtables" / "data"
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert default_root() == tmp_path.home() / ".cache" / "normtables" / "data"


def test_embedded_data_has_no_files(tmp_path):
    assert files.state("digits", tmp_path / "gone") == "embedded"
    assert files.download_bytes("digits", tmp_path / "gone") == 0
    assert files.kept_bytes("digits") == 0
    for act in (files.locate, fetching.fetch):
        with pytest.raises(UserError, match="'digits' is embedded"):
            act("digits", tmp_path)


def test_an_unknown_name_is_refused_with_the_nearest(tmp_path):
    for act in (files.locate, files.state, fetching.fetch, files.download_bytes):
        with pytest.raises(UserError, match="no data set 'minst'; did you mean 'mnist'"):
            act("minst", tmp_path)


def test_the_listing_has_a_row_for_each_set(root, mnist):
    rows = {row["name"]: row for row in files.listing(root)}
    assert list(rows) == sorted([*DATASETS, "alexnet_weights", "googlenet_weights"])
    assert rows["digits"]["state"] == "embedded"
    assert rows["mnist"]["state"] == "present"
    assert rows["mnist"]["where"] == str(mnist)
    assert rows["cifar10"]["state"] == "missing"
    assert "normtables data fetch cifar10" in rows["cifar10"]["how"]
    assert rows["kdd99"]["bytes"] == 2_144_903 + 1_409_035
    assert files.download_bytes("mnist", root) == 0
    assert files.download_bytes("kdd99", root) == 2_144_903 + 1_409_035


def test_fetch_tries_the_next_url_and_replaces_what_is_broken(root, declare, mnist_files, server):
    folder, url = server
    mnist_files("MNIST/raw")
    declare("mnist", "MNIST/raw", urls=(f"{url}/nothing", url))
    shutil.copytree(root / "MNIST" / "raw", folder, dirs_exist_ok=True)
    (root / "MNIST" / "raw" / IMAGES).write_bytes(b"broken")
    place = fetching.fetch("mnist", root)
    assert place.path(IMAGES).read_bytes() == (folder / IMAGES).read_bytes()
    assert [p.name for p in root.iterdir()] == ["MNIST"]


def test_fetch_refuses_a_wrong_file(root, declare, mnist_files, server):
    folder, url = server
    mnist_files("MNIST/raw")
    declare("mnist", "MNIST/raw", urls=(url,))
    shutil.copytree(root / "MNIST" / "raw", folder, dirs_exist_ok=True)
    (folder / IMAGES).write_bytes(b"wrong")
    with pytest.raises(UserError) as error:
        fetching.fetch("mnist", root / "other")
    assert str(error.value).startswith(f"could not fetch 'mnist' into {root / 'other'}: ")
    assert f"put {IMAGES}, " in str(error.value)
    assert "\n" not in str(error.value)
    assert not list((root / "other").iterdir())


def test_fetch_unpacks_an_archive(root, tmp_path, declare, cifar_pickles, server):
    folder, url = server
    path = folder / "cifar-10-python.tar.gz"
    with tarfile.open(path, "w:gz") as tar:
        tar.add(root / "cifar-10-batches-py", "cifar-10-batches-py")
    digest = hashlib.md5(path.read_bytes()).hexdigest()
    archive = files.File(path.name, path.stat().st_size, digest, (f"{url}/{path.name}",))
    declare("cifar10", "cifar-10-batches-py", archive=archive)
    fetching.fetch("cifar10", tmp_path / "new")
    assert [p.name for p in (tmp_path / "new").iterdir()] == ["cifar-10-batches-py"]
    assert load({"name": "cifar10", "valid": 10}, tmp_path / "new", 0).train.inputs.shape == (40, 3, 32, 32)


def test_no_network_is_one_line(root, monkeypatch):
    from torchvision.datasets import utils

    def unreachable(*args, **kwargs):
        raise OSError("<urlopen error [Errno -2] Name or service not known>\n")

    monkeypatch.setattr(utils, "download_url", unreachable)
    with pytest.raises(UserError) as error:
        fetching.fetch("kdd99", root)
    assert "Name or service not known" in str(error.value)
    assert f"into {root / 'kdd99'} by hand" in str(error.value)
    assert "\n" not in str(error.value)


def test_fetching_what_is_there_downloads_nothing(root, mnist):
    assert fetching.fetch("mnist", root).path(IMAGES) == mnist / IMAGES


def test_a_derived_file_appears_whole_or_not_at_all(root):
    def half(path):
        path.write_text("half")
        raise OSError("disk full")

    derived.store(root, "x", half)
    assert not derived.exists(root, "x")
    assert not [p for folder in derived.folders(root) for p in folder.iterdir()]


def test_a_process_keeps_two_sets(tmp_path):
    first = load({"name": "digits"}, tmp_path, 0)
    assert load({"version": 1, "name": "digits", "task": {"name": "classify"}}, tmp_path, 0) is not first
    assert load({"name": "digits"}, tmp_path, 0) is first
    load({"name": "digits"}, tmp_path, 1)
    assert load({"name": "digits"}, tmp_path, 0) is first
    load({"name": "digits"}, tmp_path, 2)
    assert load({"name": "digits"}, tmp_path, 0) is first
    load({"name": "digits"}, tmp_path, 3)
    load({"name": "digits"}, tmp_path, 4)
    assert load({"name": "digits"}, tmp_path, 0) is not first
    assert torch.equal(load({"name": "digits"}, tmp_path, 0).test.inputs, first.test.inputs)
