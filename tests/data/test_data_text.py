"""Texts on files of the true formats: words and characters as numbers, splits, what is unknown."""

import gzip
from collections import Counter

import pytest

from normtables import places
from normtables.config import facts, run_id
from normtables.data import files, load, text
from normtables.data.files import Layout, Source
from normtables.errors import UserError

PTB = {
    "train": " the cat <unk> the \n a cat sat \n the N \n",
    "valid": " the cat sat \n",
    "test": " a <unk> \n N N \n",
}
WORDS = {
    "train": "the cat <unk> the <eos> a cat sat <eos> the N <eos>",
    "valid": "the cat sat <eos>",
    "test": "a <unk> <eos> N N <eos>",
}


def spelled(data, name):
    return [data.symbols[k] for k in getattr(data, name).tolist()]


@pytest.fixture(params=["simple-examples/data", "ptb", "ptb, packed"])
def ptb_files(request, root, monkeypatch, describe):
    """Mikolov's files in each of the places they may lie in."""
    folder = request.param.removesuffix(", packed")
    (root / folder).mkdir(parents=True)
    paths = []
    for name, content in PTB.items():
        if request.param.endswith("packed"):
            paths.append(root / folder / f"ptb.{name}.txt.gz")
            paths[-1].write_bytes(gzip.compress(content.encode()))
        else:
            paths.append(root / folder / f"ptb.{name}.txt")
            paths[-1].write_text(content)
    layouts = (Layout("elsewhere", (describe(paths[0]),)), Layout(folder, tuple(map(describe, paths))))
    monkeypatch.setitem(files.SOURCES, "ptb", Source(layouts, 123, "none"))


def test_ptb_words(root, ptb_files):
    data = load({"name": "ptb"}, root, 0)
    for name, words in WORDS.items():
        assert spelled(data, name) == words.split()
    assert data.symbols == ("<eos>", "the", "cat", "<unk>", "N", "a", "sat")  # commonest first, then by name


def test_ptb_characters_are_those_of_mikolovs_other_files(root, ptb_files):
    data = load({"name": "ptb", "level": "char"}, root, 0)
    assert "".join(spelled(data, "train")) == "the cat <unk> the\na cat sat\nthe N\n"
    assert "".join(spelled(data, "valid")) == "the cat sat\n"
    assert set(data.symbols) == set("the ca<unk>sN\n")


def test_ptb_is_named_with_what_helps(root):
    (root / "something").touch()
    with pytest.raises(UserError, match=r"ptb' is not there.*data fetch ptb.*NORMTABLES_DATA") as error:
        load({"name": "ptb"}, root, 0)
    assert "\n" not in str(error.value)


def test_the_real_ptb(shared):
    """Sizes known from the literature."""
    data = load({"name": "ptb"}, shared / "data", 0)
    assert [len(part) for part in (data.train, data.valid, data.test)] == [929_589, 73_760, 82_430]
    assert len(data.symbols) == 10_000


def test_wikitext2_keeps_empty_lines(root):
    (root / "wikitext-2").mkdir()
    for name in ("train", "valid", "test"):
        (root / "wikitext-2" / f"wiki.{name}.tokens").write_text(" \n = Title = \n \n One <unk> . \n", encoding="utf-8")
    data = load({"name": "wikitext2"}, root, 0)
    assert " ".join(spelled(data, "valid")) == "<eos> = Title = <eos> <eos> One <unk> . <eos>"


def test_topics_have_no_paragraph_twice_and_known_words(tmp_path):
    data = load({"name": "topics"}, tmp_path, 0)
    sizes = [len(part) for part in (data.train, data.valid, data.test)]
    assert sum(sizes) > 80_000
    assert all(size > 3_000 for size in sizes)
    counts = Counter(spelled(data, "train"))
    assert min(count for word, count in counts.items() if word != "<unk>") >= 2
    paragraphs = [part for name in text.SPLITS for part in " ".join(spelled(data, name)).split(" <eos> ")]
    longer = [part for part in paragraphs if len(part) > 60 and "<unk>" not in part]
    assert len(longer) == len(set(longer)) > 50
    assert len(load({"name": "topics", "level": "char"}, tmp_path, 0).symbols) < 100


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "mine.txt"
    path.write_text("\n".join(f"w{k} and é" for k in range(10)), encoding="utf-8")
    return path


def test_a_file_of_a_user_in_its_order(file, tmp_path):
    data = load({"name": "text", "path": str(file), "valid": 0.2, "test": 0.1}, tmp_path, 0)
    assert " ".join(spelled(data, "test")) == "<unk> and é <eos>"
    assert " ".join(spelled(data, "valid")) == "<unk> and é <eos> <unk> and é <eos>"
    assert " ".join(spelled(data, "train")).endswith("w6 and é <eos>")


def test_rare_symbols_are_unknown_in_every_split(file, tmp_path):
    data = load({"name": "text", "path": str(file), "least": 2}, tmp_path, 0)
    assert sorted(data.symbols) == ["<eos>", "<unk>", "and", "é"]
    assert " ".join(spelled(data, "train")) == " ".join(["<unk> and é <eos>"] * 8)


def test_a_text_that_is_known_whole_needs_no_unknown(tmp_path):
    (tmp_path / "same").write_text("a b\n" * 10)
    assert load({"name": "text", "path": str(tmp_path / "same")}, tmp_path, 0).symbols == ("<eos>", "a", "b")


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({}, "dataset.path=FILE"),
        ({"path": "nowhere.txt"}, "cannot read the text nowhere.txt: No such file"),
        ({"path": "{file}", "least": 0}, "dataset.least=0"),
        ({"path": "{file}", "least": 99}, "dataset.least=99: no word of the training text is there so often"),
        ({"path": "{file}", "level": "char", "least": 999}, "no char of the training text is there so often"),
        ({"path": "{file}", "digest": "0123456789ab"}, "has changed since this run was planned"),
        ({"path": "{file}", "valid": 0.6, "test": 0.4}, "dataset.valid=0.6, dataset.test=0.4"),
        ({"path": "{file}", "valid": 0.001}, "the valid text is empty"),
        ({"path": "{latin}"}, "it is not UTF-8"),
    ],
    ids=str,
)
def test_bad_settings_are_refused_in_one_line(file, tmp_path, settings, says):
    (tmp_path / "latin").write_bytes(b"\xe9\xe8\n")
    paths = {"file": file, "latin": tmp_path / "latin"}
    settings = {k: v.format(**paths) if isinstance(v, str) else v for k, v in settings.items()}
    with pytest.raises(UserError) as error:
        load({"name": "text", **settings}, tmp_path, 0)
    assert says in str(error.value)
    assert "\n" not in str(error.value)


def test_another_text_in_the_same_file_is_another_run(file, composer, tmp_path):
    words = {"dataset": "text", "dataset.path": str(file), "model": "lstm", "norm": "none"}
    first = composer.config(words)
    known = facts(first)["dataset"]
    assert known["digest"] == places.content(str(file))
    options = {key: value for key, value in known.items() if key != "task"}
    load(options, tmp_path, 0)
    before = run_id(first)
    file.write_text("\n".join(["same"] * 10))
    assert run_id(composer.config(words)) != before
    with pytest.raises(UserError, match="has changed since this run was planned"):
        load({**options, "least": 2}, tmp_path, 0)


def test_help_texts_take_no_least_below_one(tmp_path):
    with pytest.raises(UserError, match=r"dataset\.least=0: at least 1"):
        load({"name": "topics", "least": 0}, tmp_path, 0)


@pytest.mark.parametrize("cut", [slice(0, -20), slice(10, None), slice(0, -8)], ids=["short", "no header", "no end"])
def test_a_damaged_packed_file_is_told_in_one_line(tmp_path, cut):
    packed = gzip.compress(b"a b c\n" * 1000)
    (tmp_path / "mine.gz").write_bytes(packed[cut])
    with pytest.raises(UserError, match=r"cannot read the text .*mine.gz: it is not a whole .gz file") as error:
        load({"name": "text", "path": str(tmp_path / "mine.gz")}, tmp_path, 0)
    assert "\n" not in str(error.value)


def test_a_packed_file_whose_bytes_are_wrong_is_told(tmp_path):
    packed = bytearray(gzip.compress(b"a b c\n" * 1000))
    packed[12:16] = b"\xff" * 4
    (tmp_path / "mine.gz").write_bytes(packed)
    with pytest.raises(UserError, match=r"it is not a whole .gz file"):
        load({"name": "text", "path": str(tmp_path / "mine.gz")}, tmp_path, 0)
