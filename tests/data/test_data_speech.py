"""FSDD and Speech Commands from small files of the true formats: splits, speakers, what is refused, fetching."""

import hashlib
import tarfile
import wave
from dataclasses import replace

import numpy as np
import pytest
import torch

from normtables.config import Composer
from normtables.data import fetching, files, load, speech
from normtables.data.files import File, Layout
from normtables.data.folders import Folder
from normtables.errors import UserError
from normtables.tables.plan import plan
from normtables.tables.spec import load as table
from normtables.training.run import execute

SMALL = {"bands": 5, "window": 16.0, "hop": 8.0, "deltas": 1}
FSDD = "free-spoken-digit-dataset-1.0.10"
COUNT = 6 * 10 * 7  # see `digits`


def write_wav(path, samples, rate, channels=1, width=2):
    path.parent.mkdir(parents=True, exist_ok=True)
    with wave.open(str(path), "wb") as file:
        file.setnchannels(channels)
        file.setsampwidth(width)
        file.setframerate(rate)
        file.writeframes(np.asarray(samples, f"<i{width}").tobytes())


def declare(monkeypatch, name, *found, archive=None):
    """Let the data set be what these layouts hold; each is a folder and its `Folder`s."""
    layouts = tuple(Layout(folder, groups=parts) for folder, parts in found)
    source = replace(files.SOURCES[name], layouts=layouts, archive=archive or files.SOURCES[name].archive)
    monkeypatch.setitem(files.SOURCES, name, source)


@pytest.fixture
def digits(root, monkeypatch):
    """420 recordings, numbers 0-3, 5, 6 and 10 of each digit and speaker; each as long as its digit tells."""
    rng = np.random.default_rng(0)
    for speaker in speech.SPEAKERS:
        for digit in range(10):
            for number in (0, 1, 2, 3, 5, 6, 10):
                name = f"{digit}_{speaker}_{number}.wav"
                write_wav(root / FSDD / "recordings" / name, rng.integers(-999, 999, 200 + 64 * digit), 8000)
    declare(monkeypatch, "fsdd", (FSDD, (Folder("recordings/*.wav", COUNT),)))
    return root / FSDD / "recordings"


def test_the_official_split_of_fsdd(root, digits):
    found = load({"name": "fsdd", **SMALL}, root, 0)
    for split, numbers in ((found.train, 1), (found.valid, 2), (found.test, 4)):
        assert split.targets.bincount().tolist() == [6 * numbers] * 10
        assert split.lengths.tolist() == [2 + int(t) for t in split.targets]
    assert found.train.frames.shape[1:] == (2, 5)
    assert found.classes == 10


def test_speakers_of_fsdd_held_out(root, digits):
    found = load({"name": "fsdd", "test": "yweweler", **SMALL}, root, 0)
    assert [len(s.targets) for s in (found.train, found.valid, found.test)] == [4 * 70, 70, 70]
    parts = {name: [speech._part("yweweler", name, n) for n in (0, 7, 49)] for name in speech.SPEAKERS}
    assert parts == {name: [0, 0, 0] for name in speech.SPEAKERS} | {"yweweler": [2, 2, 2], "george": [1, 1, 1]}


def test_recordings_0_to_4_are_the_official_test_set():
    parts = [speech._part("official", "theo", n) for n in range(50)]
    assert parts == [2] * 5 + [1] * 5 + [0] * 40


def test_a_fraction_of_fsdd_is_half_of_each_speakers(root, digits):
    whole, half = (load({"name": "fsdd", "fraction": f, **SMALL}, root, 0) for f in (1.0, 0.5))
    assert len(whole.train.targets) == 60
    assert half.train.targets.bincount().sum() == 30
    assert torch.equal(half.test.targets, whole.test.targets)


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"test": "nobody"}, "test='nobody' should be one of official, george"),
        ({"fraction": 0.0}, "dataset.fraction=0.0"),
        ({"bands": 0}, "dataset.bands=0"),
        ({"bands": 200}, "dataset.bands=200: too many"),
    ],
)
def test_bad_settings_are_refused_in_one_line(root, digits, options, says):
    with pytest.raises(UserError) as error:
        load({"name": "fsdd", **SMALL, **options}, root, 0)
    assert says in str(error.value)
    assert "\n" not in str(error.value)


def test_a_wav_files_numbers_and_rate(tmp_path):
    write_wav(tmp_path / "a.wav", [0, 1, -2, 32767, -32768], 16000)
    samples, rate = speech.read(tmp_path / "a.wav")
    assert samples.tolist() == [0, 1, -2, 32767, -32768]
    assert rate == 16000


def test_other_sound_is_refused(tmp_path):
    write_wav(tmp_path / "stereo.wav", [1, 2, 3, 4], 8000, channels=2)
    write_wav(tmp_path / "wide.wav", [1, 2], 8000, width=4)
    (tmp_path / "text.wav").write_text("no sound at all")
    (tmp_path / "empty.wav").write_bytes(b"")
    for name, says in (
        ("stereo", "not 16-bit mono"),
        ("wide", "not 16-bit mono"),
        ("text", "not a"),
        ("empty", "not a"),
    ):
        with pytest.raises(UserError, match=rf"{name}\.wav.*{says}"):
            speech.read(tmp_path / f"{name}.wav")


# folders of files


def refusal(root):
    with pytest.raises(UserError) as error:
        files.locate("fsdd", root)
    assert "\n" not in str(error.value)
    assert "normtables data fetch fsdd" in str(error.value)
    return str(error.value)


def test_a_folders_files_are_counted_and_digested(root, digits, monkeypatch):
    lines = [f"{hashlib.sha256(p.read_bytes()).hexdigest()}  {p.name}\n" for p in sorted(digits.iterdir())]
    digest = hashlib.sha256("".join(lines).encode()).hexdigest()
    declare(monkeypatch, "fsdd", (FSDD, (Folder("recordings/*.wav", COUNT, digest),)))
    assert files.state("fsdd", root) == "present"
    first = digits / "0_george_0.wav"
    content = first.read_bytes()
    first.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    assert f"they should have {digest}" in refusal(root)
    first.write_bytes(content)
    first.rename(digits / "0_george_00.wav")
    assert "its files have sha256" in refusal(root), "names count"
    (digits / "0_george_00.wav").unlink()
    assert f"there are {COUNT - 1:,} files, there should be {COUNT:,}" in refusal(root)
    assert files.state("fsdd", root) == "damaged"


def test_no_folder_is_missing(root):
    (root / "other").mkdir()
    text = refusal(root)
    assert text.startswith("data set 'fsdd' is not there: looked in ")
    assert str(root / "fsdd") in text
    assert files.state("fsdd", root) == "missing"


def test_the_recorded_digest_of_fsdd_is_this(shared, tmp_path):
    with tarfile.open(shared / "data" / "fsdd" / "recordings.tar.gz") as tar:
        tar.extractall(tmp_path / "fsdd", filter="data")
    assert speech.FSDD[0].flaw(tmp_path, tmp_path / "fsdd") is None


# Speech Commands

LISTED = {
    "validation_list.txt": ["yes/aa_nohash_0.wav"],
    "testing_list.txt": ["no/bb_nohash_0.wav", "yes/bb_nohash_1.wav"],
}


def write_commands(base):
    """Two words by four speakers, one word more that has a training recording only."""
    names = [
        f"{word}/{who}_nohash_{n}.wav" for word in ("no", "yes") for who in ("aa", "bb", "cc", "dd") for n in (0, 1)
    ]
    listed = {name for lines in LISTED.values() for name in lines}
    kept = [n for n in names if n in listed or n.split("/")[1][:2] in ("cc", "dd")]
    rng = np.random.default_rng(0)
    for name in [*kept, "zero/cc_nohash_0.wav"]:
        write_wav(base / name, rng.integers(-999, 999, 2000), 16000)
    for name, lines in LISTED.items():
        (base / name).write_text("\n".join(lines) + "\n")
    return sorted({n.split("/")[0] for n in kept} | {"zero"})


@pytest.fixture
def commands(root, monkeypatch):
    words = write_commands(root / "speech_commands_v0.02")
    counts = {word: len(list((root / "speech_commands_v0.02" / word).iterdir())) for word in words}
    monkeypatch.setattr(speech, "WORDS", counts)
    wanted = (*(Folder(f"{w}/*.wav", n) for w, n in counts.items()), *(Folder(name, 1) for name in speech.LISTS))
    declare(monkeypatch, "speech_commands", ("speech_commands_v0.02", wanted))


def test_the_official_lists_of_speech_commands(root, commands):
    found = load({"name": "speech_commands", **SMALL}, root, 0)
    assert found.classes == 3
    assert found.valid.targets.tolist() == [1]
    assert found.test.targets.tolist() == [0, 1]
    assert found.train.targets.tolist() == [0] * 4 + [1] * 4 + [2]
    assert set(found.train.lengths.tolist()) == {1 + (2000 - 256) // 128}


def test_a_fraction_of_speech_commands_is_half_of_each_speakers(root, commands):
    half = load({"name": "speech_commands", "fraction": 0.5, **SMALL}, root, 0)
    assert len(half.train.targets) == 4  # 5 / 2 and 4 / 2 rounded: 2 of cc, 2 of dd
    assert len(half.test.targets) == 2


def test_a_word_that_is_not_whole_is_told(root, commands):
    (root / "speech_commands_v0.02" / "no" / "cc_nohash_0.wav").unlink()
    with pytest.raises(UserError, match=r"no/\*\.wav is damaged: there are 4 files, there should be 5"):
        load({"name": "speech_commands"}, root, 0)
    (root / "speech_commands_v0.02" / "testing_list.txt").unlink()
    (root / "speech_commands_v0.02" / "no" / "cc_nohash_0.wav").write_bytes(b"")
    with pytest.raises(UserError, match=r"testing_list.txt is missing"):
        load({"name": "speech_commands"}, root, 0)


def test_table_7_at_tier_paper_starts_on_files_of_the_true_format(root, commands, tmp_path):
    """One of its planned runs, cut to two updates of a batch that fits."""
    composer = Composer()
    made = plan(table(7), "paper", composer)
    cell = made.cells["wm100 Sigmoid CNN + BN lr=0.08", "Speech Commands error %"]
    settings = dict(made.runs[cell.members[0].run].settings)
    settings |= {"batch_size": 16, "budget": "2steps", "evaluate": "1step", "data.root": str(root)}
    record = execute(composer.config(settings | {"results": str(tmp_path / "results")}))
    assert record.status == "finished"
    assert record.score["chance"] == pytest.approx(50)
    assert 0 <= record.final["test/window_error"] <= 100


def test_the_words_of_version_2():
    assert (len(speech.WORDS), sum(speech.WORDS.values())) == (35, 105_829)


@pytest.mark.parametrize("digested", [True, False])
def test_fetch_unpacks_an_archive_without_a_folder_of_its_own(root, commands, monkeypatch, tmp_path, server, digested):
    """As Speech Commands' is; a digest where the archive has one."""
    folder, url = server
    with tarfile.open(folder / "a.tar.gz", "w:gz") as tar:
        tar.add(root / "speech_commands_v0.02", ".")
    digest = hashlib.md5((folder / "a.tar.gz").read_bytes()).hexdigest() if digested else ""
    archive = File("a.tar.gz", 1, digest, (f"{url}/a.tar.gz",))
    source = replace(files.SOURCES["speech_commands"], archive=archive)
    monkeypatch.setitem(files.SOURCES, "speech_commands", source)
    fetching.fetch("speech_commands", tmp_path / "new")
    assert [p.name for p in (tmp_path / "new").iterdir()] == ["speech_commands_v0.02"]
    assert load({"name": "speech_commands", **SMALL}, tmp_path / "new", 0).classes == 3
