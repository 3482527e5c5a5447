"""Spoken words: the Free Spoken Digit Dataset and Google's Speech Commands."""

from __future__ import annotations

import wave
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from normtables.data import DATASETS, Recordings, files
from normtables.data.files import File, Layout, Source
from normtables.data.folders import Folder
from normtables.data.mel import Analysis
from normtables.data.recordings import Recording, recordings
from normtables.errors import UserError

SPEAKERS = ("george", "jackson", "lucas", "nicolas", "theo", "yweweler")
Test = Literal["official", "george", "jackson", "lucas", "nicolas", "theo", "yweweler"]
TEST, VALID = range(5), range(5, 10)  # which recordings of a digit by a speaker: the official test set; held out here

FSDD = (Folder("recordings/*.wav", 3_000, "1801eae019c063377d98f831d3f93574f259475df7332bb0e3d1b080fb5e6959"),)
files.SOURCES["fsdd"] = Source(
    layouts=(Layout("free-spoken-digit-dataset-1.0.10", groups=FSDD), Layout("fsdd", groups=FSDD)),
    download=16_000_000,  # about: GitHub packs it anew
    licence="Z. Jackson et al.; CC BY-SA 4.0",
    archive=File(
        "free-spoken-digit-dataset-1.0.10.tar.gz",
        16_000_000,
        "",
        ("https://github.com/Jakobovski/free-spoken-digit-dataset/archive/refs/tags/v1.0.10.tar.gz",),
    ),
)

WORDS = {  # recordings of each word in version 0.02, 105,829 in all (Warden 2018, arXiv 1804.03209, section 6)
    **{"backward": 1664, "bed": 2014, "bird": 2064, "cat": 2031, "dog": 2128, "down": 3917, "eight": 3787},
    **{"five": 4052, "follow": 1579, "forward": 1557, "four": 3728, "go": 3880, "happy": 2054, "house": 2113},
    **{"learn": 1575, "left": 3801, "marvin": 2100, "nine": 3934, "no": 3941, "off": 3745, "on": 3845, "one": 3890},
    **{"right": 3778, "seven": 3998, "sheila": 2022, "six": 3860, "stop": 3872, "three": 3727, "tree": 1759},
    **{"two": 3880, "up": 3723, "visual": 1592, "wow": 2123, "yes": 4044, "zero": 4052},
}
LISTS = ("validation_list.txt", "testing_list.txt")
COMMANDS = (*(Folder(f"{word}/*.wav", count) for word, count in WORDS.items()), *(Folder(name, 1) for name in LISTS))
COMMANDS_URL = "download.tensorflow.org/data/speech_commands_v0.02.tar.gz"
files.SOURCES["speech_commands"] = Source(
    layouts=tuple(
        Layout(folder, groups=COMMANDS) for folder in ("speech_commands_v0.02", "SpeechCommands/speech_commands_v0.02")
    ),
    download=2_428_923_189,
    licence="P. Warden, Google; CC BY 4.0",
    archive=File(
        "speech_commands_v0.02.tar.gz",
        2_428_923_189,
        "6b74f3901214cb2c2934e98196829835",
        (f"https://storage.googleapis.com/{COMMANDS_URL}", f"http://{COMMANDS_URL}"),
    ),
    into="speech_commands_v0.02",
)


@DATASETS.register("fsdd", version=1)
def fsdd(
    root: Path,
    seed: int,
    *,
    test: Test = "official",
    fraction: float = 1.0,
    bands: int = 40,
    window: float = 25.0,
    hop: float = 10.0,
    deltas: int = 2,
) -> Recordings:
    """Free Spoken Digit Dataset: 3,000 recordings at 8 kHz, ten digits by six speakers, 50 times each.

    `test` "official": recordings 0-4 of each digit and speaker, 5-9 are for validation; a speaker's name: all of that
    speaker's, those of the next one by name are for validation. `seed` draws the `fraction` kept for training.
    """
    place, analysis = files.locate("fsdd", root), Analysis(bands, window, hop, deltas)
    parts: tuple[list[Recording], ...] = ([], [], [])
    for path in sorted(place.path("recordings").glob("*.wav")):
        digit, speaker, number = path.stem.split("_")
        parts[_part(test, speaker, int(number))].append(Recording(*read(path), speaker, int(digit)))
    return recordings(parts, 10, analysis, fraction, seed)


def _part(test: Test, speaker: str, number: int) -> int:
    """0, 1 or 2: a recording is for training, validation or test."""
    if test == "official":
        return 2 if number in TEST else 1 if number in VALID else 0
    after = SPEAKERS[(SPEAKERS.index(test) + 1) % len(SPEAKERS)]
    return 2 if speaker == test else 1 if speaker == after else 0


@DATASETS.register("speech_commands", version=1)
def speech_commands(
    root: Path,
    seed: int,
    *,
    fraction: float = 1.0,
    bands: int = 40,
    window: float = 25.0,
    hop: float = 10.0,
    deltas: int = 2,
) -> Recordings:
    """Speech Commands, version 0.02: 105,829 recordings of 35 words by 2,618 speakers at 16 kHz, a second or less each.

    The official lists name validation and test recordings; no speaker is in two splits. `seed` draws the `fraction`
    kept for training.
    """
    place, analysis = files.locate("speech_commands", root), Analysis(bands, window, hop, deltas)
    valid, test = (set(place.path(name).read_text(encoding="utf-8").split()) for name in LISTS)
    parts: tuple[list[Recording], ...] = ([], [], [])
    for target, word in enumerate(WORDS):
        for path in sorted(place.path(word).glob("*.wav")):
            name = f"{word}/{path.name}"
            part = parts[2 if name in test else 1 if name in valid else 0]
            part.append(Recording(*read(path), path.name.partition("_")[0], target))
    return recordings(parts, len(WORDS), analysis, fraction, seed)


def read(path: Path) -> tuple[NDArray[Any], int]:
    """The samples and the rate of a 16-bit mono WAV file; raises UserError for another one."""
    try:
        with wave.open(str(path)) as file:
            if (file.getnchannels(), file.getsampwidth()) != (1, 2):
                raise UserError(f"{path}: not 16-bit mono sound")
            return np.frombuffer(file.readframes(file.getnframes()), "<i2"), file.getframerate()
    except (wave.Error, EOFError) as error:
        raise UserError(f"{path} is not a WAV file that can be read: {error}") from error
