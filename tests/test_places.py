"""Paths a user names: home folders, and what a file says."""

from pathlib import Path

import pytest

from normtables.errors import UserError
from normtables.places import content, default_root, expanded


def test_a_tilde_is_a_home_folder(monkeypatch):
    monkeypatch.setenv("HOME", "/home/someone")
    assert expanded("~/data") == Path("/home/someone/data")
    assert expanded(Path("data")) == Path("data")


def test_a_home_that_nobody_has_is_one_line(monkeypatch):
    monkeypatch.setenv("NORMTABLES_DATA", "~nouser/data")
    with pytest.raises(UserError, match=r"^~nouser/data: no home folder is known for ~nouser; write the whole path$"):
        default_root()


def test_another_text_has_other_digits(tmp_path):
    path = tmp_path / "a.txt"
    path.write_text("one")
    one = content(str(path))
    assert len(one) == 12
    path.write_text("two")
    assert content(str(path)) != one
    assert content("") == content(str(tmp_path)) == content(str(tmp_path / "nowhere")) == ""
