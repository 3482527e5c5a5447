"""A table's files that a merge or an editor has damaged: one line that names them, or none where they are made anew."""

import json

import pandas as pd
import pytest

from normtables import commands, report
from normtables.errors import UserError
from normtables.report import book, written
from normtables.report.site.tables import at_tier
from normtables.tables.spec import load

DAMAGED = {
    "empty": b"",
    "cut off": b'table,tier,claim,kind,says,verdict,evidence,n\n3,laptop,"T3a',
    "not text": bytes(range(128, 256)),
    "of a merge": b"<<<<<<< ours\n3,laptop\n=======\n3,short\n>>>>>>> theirs\n",
}


@pytest.fixture
def folder(laptop, tmp_path):
    """A table's files at tier laptop of a results folder."""
    where = tmp_path / "laptop" / "table_03"
    report.write(laptop.sources, laptop.table, laptop.claims, laptop.readings, where)
    return where


def test_what_was_written_is_read(folder, laptop):
    found = written.claims(folder / "claims.csv")
    assert found["verdict"].tolist() == laptop.claims["verdict"].tolist()
    assert set(written.run_ids(folder / "provenance.json")) <= set(laptop.plan.runs)
    assert written.text(folder / "table.md").startswith("# Table")


@pytest.mark.parametrize("content", DAMAGED.values(), ids=DAMAGED)
@pytest.mark.parametrize(
    ("name", "read"), [("claims.csv", written.claims), ("provenance.json", written.run_ids)], ids=["claims", "runs"]
)
def test_a_damaged_file_is_named(folder, name, read, content):
    (folder / name).write_bytes(content)
    with pytest.raises(UserError, match=rf"{name} is damaged \(.*\); the table, made again, writes it anew") as error:
        read(folder / name)
    assert "\n" not in str(error.value)


def test_a_file_that_is_gone_is_named(folder):
    (folder / "table.md").unlink()
    with pytest.raises(UserError, match=r"cannot read .*table\.md: No such file"):
        written.text(folder / "table.md")
    (folder / "table.md").write_bytes(b"\xff")
    with pytest.raises(UserError, match=r"table\.md is damaged"):
        written.text(folder / "table.md")


@pytest.mark.parametrize("content", DAMAGED.values(), ids=DAMAGED)
def test_damaged_claims_do_not_keep_a_table_from_being_made(folder, content, capsys):
    (folder / "claims.csv").write_bytes(content)
    assert commands.verdicts_before(folder / "claims.csv") is None
    assert "claims.csv is damaged" in capsys.readouterr().out


def test_neither_book_nor_page_is_made_of_damaged_files(folder, tmp_path):
    spec = load(3)
    assert at_tier(spec, "laptop", folder)["claims"]
    book.book(tmp_path, [spec])
    for name in ("claims.csv", "table.csv"):
        before = (folder / name).read_bytes()
        (folder / name).write_bytes(b"\xff\xfe,")
        with pytest.raises(UserError, match=rf"{name} is damaged"):
            at_tier(spec, "laptop", folder)
        (folder / name).write_bytes(before)
    (folder / "claims.csv").unlink()
    with pytest.raises(UserError, match=r"cannot read .*claims\.csv"):
        book.book(tmp_path, [spec])
    assert at_tier(spec, "laptop", folder)["claims"] == []


def test_a_line_of_a_table_without_its_numbers_is_damage(folder):
    frame = pd.read_csv(folder / "table.csv")
    row, column = next(iter(load(3).published))
    frame.assign(row=row, column=column, n="many").to_csv(folder / "table.csv", index=False)
    with pytest.raises(UserError, match=r"table\.csv is damaged \(invalid literal"):
        at_tier(load(3), "laptop", folder)


def test_provenance_without_ids_is_damage(folder):
    (folder / "provenance.json").write_text(json.dumps({"runs": [{"status": "finished"}]}))
    with pytest.raises(UserError, match=r"provenance\.json is damaged \('ids'\)"):
        written.run_ids(folder / "provenance.json")
