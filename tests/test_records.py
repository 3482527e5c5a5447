"""Runs on disk: whole files or none, one writer a folder, damaged files named."""

import dataclasses
import errno
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time

import pytest

from normtables import records
from normtables.errors import UserError
from normtables.records import Record, Store, alive, started, take, write_whole

RECORD = Record(
    "abc", "finished", "", {"norm": {"name": "bn"}}, {"name": "test/error"}, {"test/error": 2.5}, {"steps": 7}
)


@pytest.fixture
def store(results):
    return Store(results)


@pytest.fixture
def claim(store):
    """The path of a claim file in an existing folder."""
    store.folder("abc").mkdir(parents=True)
    return store.folder("abc") / "claim"


def held_by(pid, start, host=None):
    return json.dumps({"host": host or socket.gethostname(), "pid": pid, "started": start})


def aged(path, seconds):
    then = time.time() - seconds
    os.utime(path, (then, then))


def refused(call, *parts):
    with pytest.raises(UserError) as error:
        call()
    assert "\n" not in str(error.value)
    for part in parts:
        assert str(part) in str(error.value)


# records and histories


def test_a_record_is_read_as_it_was_written(store):
    assert store.read("abc") is None
    store.write(RECORD)
    assert store.read("abc") == RECORD
    second = dataclasses.replace(RECORD, id="aaa")
    store.write(second)
    assert store.ids() == ["aaa", "abc"]
    assert list(store.records()) == [second, RECORD]


@pytest.mark.parametrize("error", [errno.ENOSPC, errno.EROFS])
@pytest.mark.parametrize("broken", ["fsync", "replace"])
def test_a_write_that_fails_leaves_the_old_file(tmp_path, monkeypatch, broken, error):
    path = tmp_path / "record.json"
    write_whole(path, "old")

    def fail(*_):
        raise OSError(error, os.strerror(error))

    monkeypatch.setattr(os, "fsync" if broken == "fsync" else "replace", fail)
    monkeypatch.setattr(type(path), "replace", fail) if broken == "replace" else None
    refused(lambda: write_whole(path, "new"), "cannot write", path, os.strerror(error))
    assert path.read_text() == "old"
    assert os.listdir(tmp_path) == ["record.json"]


def test_a_file_is_seen_whole_or_not_at_all(tmp_path, monkeypatch):
    """At the moment when everything has been written but the move, readers see the old text."""
    path, seen = tmp_path / "file", []
    write_whole(path, "old")
    fsync = os.fsync
    monkeypatch.setattr(os, "fsync", lambda handle: (seen.append(path.read_text()), fsync(handle)))
    write_whole(path, "new")
    assert (seen, path.read_text()) == (["old"], "new")


@pytest.mark.parametrize(
    "text", ["", "{", "[]", "null", '{"id": "abc"}', '{"ID": 1}', "\x00\x01", '{"id": "abc", "status']
)
def test_a_damaged_record_is_named(store, text):
    store.write(RECORD)
    path = store.folder("abc") / "record.json"
    path.write_text(text)
    refused(lambda: store.read("abc"), path, "damaged", "delete")
    refused(lambda: store.state("abc"), path)
    assert path.read_text() == text


def test_the_rows_of_a_history(store):
    folder = store.folder("abc")
    assert store.history("abc") == []
    write_whole(folder / "history.csv", "step,train/loss\n10,nan\n20,0.5\n")
    rows = store.history("abc")
    assert [row["step"] for row in rows] == [10, 20]
    assert rows[1] == {"step": 20, "train/loss": 0.5}


@pytest.mark.parametrize("torn", ["3", "30,0.", "30,0.25", "30,0.25,"])
def test_a_torn_last_line_is_dropped(store, torn):
    """Even one that reads like a whole row: only the line's end says that it is."""
    write_whole(store.folder("abc") / "history.csv", "step,loss\n10,1\n20,0.5\n" + torn)
    assert [row["step"] for row in store.history("abc")] == [10, 20]


def test_a_torn_header_is_no_row(store):
    write_whole(store.folder("abc") / "history.csv", "step,lo")
    assert store.history("abc") == []


@pytest.mark.parametrize("row", ["20,x", "20", "20,1,2"])
def test_a_damaged_history_is_named(store, row):
    path = store.folder("abc") / "history.csv"
    write_whole(path, f"step,loss\n10,1\n{row}\n30,1\n")
    refused(lambda: store.history("abc"), path, "damaged")


# claims


def test_the_second_taker_waits_while_the_holder_lives(store):
    with store.claim("abc") as first:
        assert first
        assert store.state("abc") == "running"
        with store.claim("abc") as second:
            assert not second
        with store.claim("other") as another:
            assert another
        assert store.state("abc") == "running", "the one turned away has not taken the claim along"
    assert store.state("abc") == "missing"
    with store.claim("abc") as again:
        assert again


def test_a_claim_is_given_back_when_its_holder_fails(store):
    with pytest.raises(KeyboardInterrupt), store.claim("abc"):
        raise KeyboardInterrupt
    assert not store.folder("abc").exists(), "a run that left nothing leaves no folder"


@pytest.mark.parametrize("start", ["", "1"])
def test_a_dead_holders_claim_is_taken_over(claim, start):
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    claim.write_text(held_by(process.pid, start))
    assert take(claim)
    assert json.loads(claim.read_text()) == {
        "host": socket.gethostname(),
        "pid": os.getpid(),
        "started": started(os.getpid()),
    }
    assert os.listdir(claim.parent) == ["claim"]


def test_another_process_with_the_dead_holders_number_does_not_hold_it(claim):
    claim.write_text(held_by(os.getpid(), "12"))
    assert not alive(claim)
    claim.write_text(held_by(os.getpid(), started(os.getpid())))
    aged(claim, 1e6)
    assert alive(claim), "on this host the process table decides, not the age"


def test_a_killed_holder_that_nobody_waited_for_is_dead(claim):
    process = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    claim.write_text(held_by(process.pid, started(process.pid)))
    assert alive(claim)
    process.send_signal(signal.SIGKILL)
    os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)  # dead, but still in the process table
    assert not alive(claim)
    process.communicate()


def test_a_claim_that_cannot_be_written_is_none(store, claim, monkeypatch):
    """Empty on a full disk, it would count as being written and hold the run for a while."""

    def full(handle, mode):
        os.close(handle)
        return open("/dev/full", mode)

    with monkeypatch.context() as patch:
        patch.setattr(os, "fdopen", full)
        refused(lambda: take(claim), "cannot write", claim.parent, "No space left on device; free space")
    assert not claim.exists()
    assert store.state("abc") == "missing"


def test_another_hosts_claim_is_dead_after_a_while_without_a_sign_of_life(claim):
    claim.write_text(held_by(1, "1", host="elsewhere"))
    assert alive(claim)
    assert not take(claim)
    aged(claim, records.STALE + 60)
    assert not alive(claim)
    assert take(claim)


@pytest.mark.parametrize("text", ["", '{"host": "x', "{}", "[]"])
def test_a_claim_cut_off_while_being_written_does_not_hold_for_ever(claim, text):
    claim.write_text(text)
    assert alive(claim), "its writer may be about to go on"
    aged(claim, records.HEARTBEAT + 60)
    assert not alive(claim)
    assert take(claim)


def test_a_holder_gives_signs_of_life(store, monkeypatch):
    monkeypatch.setattr(records, "HEARTBEAT", 0.01)
    touched = threading.Event()
    utime = os.utime
    monkeypatch.setattr(os, "utime", lambda path: (utime(path), touched.set()))
    with store.claim("abc"):
        assert touched.wait(10)


def test_a_rescuer_leaves_the_claim_of_a_faster_rescuer(claim, monkeypatch):
    """Two find a dead claim; the second moves it away only after the first has put its own in its place."""
    claim.write_text(held_by(1, "0"))
    look = records.alive

    def slow(path):
        found = look(path)
        if not found and path == claim:
            path.write_text(held_by(os.getpid(), started(os.getpid())))
        return found

    monkeypatch.setattr(records, "alive", slow)
    assert not take(claim)
    assert look(claim)


def test_a_folder_removed_by_its_last_holder_is_made_again(claim, monkeypatch):
    create, times = os.open, []

    def late(path, *args):
        if path == claim and not times:
            times.append(path.parent.rmdir())
        return create(path, *args)

    monkeypatch.setattr(os, "open", late)
    assert take(claim)
    assert times


def test_of_many_takers_one_wins(claim):
    claim.write_text(held_by(1, "0"))
    code = (
        "import sys, time; from pathlib import Path; from normtables.records import take\n"
        "input(); print(take(Path(sys.argv[1])), flush=True); input()"
    )
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    takers = [subprocess.Popen([sys.executable, "-c", code, str(claim)], **pipes) for _ in range(3)]
    for taker in takers:
        taker.stdin.write("\n")
        taker.stdin.flush()
    answers = sorted(taker.stdout.readline().strip() for taker in takers)
    for taker in takers:
        taker.communicate("\n")
    assert answers == ["False", "False", "True"]


# states


@pytest.mark.parametrize("status", ["finished", "diverged", "failed"])
def test_a_record_is_the_state(store, status):
    store.write(dataclasses.replace(RECORD, status=status))
    assert store.state("abc") == status


def test_states_without_a_record(store):
    assert store.state("abc") == "missing"
    store.folder("abc").mkdir(parents=True)
    (store.folder("abc") / "config.yaml").write_text("")
    assert store.state("abc") == "missing"
    (store.folder("abc") / "checkpoint.pt").write_bytes(b"")
    assert store.state("abc") == "interrupted"
    (store.folder("abc") / "claim").write_text(held_by(1, "0"))
    assert store.state("abc") == "interrupted"
    (store.folder("abc") / "claim").write_text(held_by(os.getpid(), started(os.getpid())))
    assert store.state("abc") == "running"


def test_a_folder_that_cannot_be_is_told(tmp_path):
    (tmp_path / "file").write_text("")
    store = Store(tmp_path / "file" / "results")

    def hold():
        with store.claim("abc"):
            pass

    refused(hold, "cannot write", tmp_path, "results=DIR")
    refused(lambda: store.write(RECORD), "cannot write", tmp_path)
    assert store.read("abc") is None
    assert store.state("abc") == "missing"
    assert store.ids() == []
