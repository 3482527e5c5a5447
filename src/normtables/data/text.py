"""Texts as numbers of words or characters: the Penn Treebank, WikiText-2, Python's own help, a user's file."""

from __future__ import annotations

import gzip
import re
import zlib
from collections import Counter
from collections.abc import Iterable, Sequence
from itertools import chain
from pathlib import Path
from typing import Any, Literal

from normtables.data import DATASETS, Text, files
from normtables.data.files import File, Layout, Source
from normtables.data.folders import Folder
from normtables.errors import UserError
from normtables.places import content, expanded

Level = Literal["word", "char"]
Lines = Sequence[str]
END = {"word": "<eos>", "char": "\n"}  # the symbol that a line ends with
UNKNOWN = "<unk>"
SPLITS = ("train", "valid", "test")
HELD = {0: "valid", 5: "test"}  # of ten topics

PTB = tuple(
    File(f"ptb.{name}.txt", size, md5)
    for name, size, md5 in (
        ("train", 5_101_618, "f26c4b92c5fdc7b3f8c7cdcb991d8420"),
        ("valid", 399_782, "aa0affc06ff7c36e977d7cd49e3839bf"),
        ("test", 449_945, "8b80168b89c18661a38ef683c0dc3721"),
    )
)
PACKED = tuple(  # by `gzip -9n`
    File(f"ptb.{name}.txt.gz", size, md5)
    for name, size, md5 in (
        ("train", 1_688_035, "e992ac0f2e37d079e3ceab733c3f662e"),
        ("valid", 134_062, "c30b51b0e18fea91b2f1e77183d7eb89"),
        ("test", 149_201, "9761de57fa6efe2e94e003176eb0f3b0"),
    )
)
files.SOURCES["ptb"] = Source(
    layouts=(Layout("simple-examples/data", PTB), Layout("ptb", PTB), Layout("ptb", PACKED)),
    download=34_869_662,
    licence="Linguistic Data Consortium; T. Mikolov's excerpt, not to be passed on",
    archive=File(
        "simple-examples.tgz", 34_869_662, "", ("http://www.fit.vutbr.cz/~imikolov/rnnlm/simple-examples.tgz",)
    ),
)
files.SOURCES["wikitext2"] = Source(
    layouts=(Layout("wikitext-2", groups=(Folder("wiki.*.tokens", 3),)),),
    download=4_475_746,
    licence="S. Merity et al.; CC BY-SA 3.0",
    archive=File(
        "wikitext-2-v1.zip",
        4_475_746,
        "",
        (
            "https://wikitext.smerity.com/wikitext-2-v1.zip",
            "https://s3.amazonaws.com/research.metamind.io/wikitext/wikitext-2-v1.zip",
        ),
    ),
)


@DATASETS.register("ptb", version=1)
def ptb(root: Path, seed: int, *, level: Level = "word") -> Text:
    """The Penn Treebank as Mikolov prepared it: 929,589, 73,760 and 82,430 words, ends of lines included, 10,000
    different ones. As characters (50, 5,017,482 for training) words are spelled and one space apart, as in his
    ptb.char files, which are these."""
    place = files.locate("ptb", root)
    return numbered([lines_of(place.path(file.path)) for file in place.layout.files], level)


@DATASETS.register("wikitext2", version=1)
def wikitext2(root: Path, seed: int, *, level: Level = "word") -> Text:
    """WikiText-2 (Merity et al. 2016, arXiv 1609.07843): 2,088,628, 217,646 and 245,569 words, 33,278 different."""
    place = files.locate("wikitext2", root)
    return numbered([lines_of(place.path(f"wiki.{name}.tokens")) for name in SPLITS], level)


@DATASETS.register("topics", version=1)
def topics(root: Path, seed: int, *, level: Level = "word", least: int = 2) -> Text:
    """The help texts that Python carries (pydoc_data.topics), in small letters, words and signs apart: 93,000 words.

    A paragraph that several topics hold is kept in the first. Of ten topics one validates and one tests.
    """
    from pydoc_data.topics import topics as texts

    seen: set[str] = set()
    found: tuple[list[str], ...] = ([], [], [])
    for number, name in enumerate(sorted(texts)):
        split = SPLITS.index(HELD.get(number % 10, "train"))
        paragraphs = [" ".join(re.findall(r"\w+|[^\w\s]", part.lower())) for part in texts[name].split("\n\n")]
        for part in paragraphs:
            if part not in seen:
                seen.add(part)
                found[split].append(part)
    return numbered(found, level, least)


@DATASETS.register("text", version=1)
def text(
    root: Path,
    seed: int,
    *,
    path: str = "",
    digest: str = "",
    level: Level = "word",
    least: int = 1,
    valid: float = 0.1,
    test: float = 0.1,
) -> Text:
    """Any text file in UTF-8: words are what spaces part; its last lines are for test, those before for validation.

    path: the file, as seen from where the command runs. digest: twelve digits of the SHA-256 of what it says.
    least: words (or characters) that training shows less often are <unk>. valid, test: shares of the lines.
    """
    if not path:
        raise UserError("dataset=text needs a file: dataset.path=FILE")
    if not (valid > 0 and test > 0 and valid + test < 1):
        raise UserError(f"dataset.valid={valid}, dataset.test={test}: shares above 0, below 1 together")
    lines = lines_of(expanded(path))
    if digest not in ("", content(path)):
        raise UserError(f"the text {path} has changed since this run was planned: say the command again")
    first, second = (round(len(lines) * share) for share in (1 - valid - test, 1 - test))
    return numbered([lines[:first], lines[first:second], lines[second:]], level, least)


def lines_of(path: Path) -> list[str]:
    """The lines of a file in UTF-8 (packed where its name ends in .gz) without the spaces around them.

    Raises UserError where it cannot be read.
    """
    opened: Any = gzip.open if path.suffix == ".gz" else open
    try:
        with opened(path, "rt", encoding="utf-8") as file:
            return [line.strip() for line in file]
    except (OSError, EOFError, zlib.error, UnicodeDecodeError) as error:
        damaged = "it is not UTF-8" if isinstance(error, UnicodeDecodeError) else "it is not a whole .gz file"
        reason = getattr(error, "strerror", None) or damaged
        raise UserError(f"cannot read the text {path}: {reason}") from error


def numbered(splits: Sequence[Lines], level: Level, least: int = 1) -> Text:
    """Lines of training, validation and test text as numbers of symbols, commonest first in training.

    Symbols that training shows less than `least` times are <unk>. Raises UserError where a split is empty.
    """
    import torch  # here, so that listing data sets stays quick

    if least < 1:
        raise UserError(f"dataset.least={least}: at least 1")
    streams = [list(symbols(lines, level)) for lines in splits]
    for name, stream in zip(SPLITS, streams):
        if not stream:
            raise UserError(f"the {name} text is empty")
    counts = Counter(streams[0])
    known = [symbol for symbol, count in sorted(counts.items(), key=lambda c: (-c[1], c[0])) if count >= least]
    if not known:
        raise UserError(f"dataset.least={least}: no {level} of the training text is there so often")
    if UNKNOWN not in known and any(set(stream) - set(known) for stream in streams):
        known.append(UNKNOWN)
    numbers = {symbol: number for number, symbol in enumerate(known)}
    other = numbers.get(UNKNOWN, -1)
    train, valid, test = (torch.tensor([numbers.get(s, other) for s in stream]) for stream in streams)
    return Text(train, valid, test, tuple(known))


def symbols(lines: Lines, level: Level) -> Iterable[str]:
    """Words or characters, each line with its end."""
    return chain.from_iterable((*(line.split() if level == "word" else line), END[level]) for line in lines)
