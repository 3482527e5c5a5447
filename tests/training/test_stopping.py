"""A run that is asked to stop, by Ctrl-C or SIGTERM, is saved first and goes on to the same numbers."""

import os
import signal
import threading

import pytest

from normtables.config import run_id
from normtables.records import Store
from normtables.training.run import execute
from normtables.training.stopping import heard

NEVER = 10_000  # seconds between two checkpoints
RUN = {"model": "mlp", "model.widths": [16], "norm": "bn", "dataset": "digits", "batch_size": 50, "budget": "300steps"}


@pytest.fixture
def made(composer, tmp_path):
    """Configurations of one run in folders of their own."""
    rest = {"evaluate": "23steps", "runtime.checkpoint": NEVER, "deterministic": True}
    return lambda name: composer.config({**RUN, **rest, "results": str(tmp_path / name)})


def at(row, number):
    """A report that sends this process a signal at a row of the history."""

    def report(run, step, steps, scores):
        if step == 23 * row:
            os.kill(os.getpid(), number)

    return report


def rows(cfg):
    return [{k: v for k, v in r.items() if k != "seconds"} for r in Store(cfg.results).history(run_id(cfg))]


def test_control_c_saves_the_run_and_it_goes_on_to_the_same_numbers(made, capsys):
    whole, torn = made("whole"), made("torn")
    record = execute(whole)
    for row in (1, 5, 12):
        with pytest.raises(KeyboardInterrupt):
            execute(torn, at(row, signal.SIGINT))
        assert Store(torn.results).state(run_id(torn)) == "interrupted"
        assert len(rows(torn)) == row
        assert capsys.readouterr().err == "normtables: stopping once the run is saved; Ctrl-C again stops at once\n"
    assert execute(torn).facts["weights"] == record.facts["weights"]
    assert rows(torn) == rows(whole)
    assert signal.getsignal(signal.SIGINT) == signal.default_int_handler


def test_sigterm_saves_the_run_and_ends_the_process_as_it_would(made, capsys):
    cfg = made("torn")
    with pytest.raises(SystemExit) as ended:
        execute(cfg, at(2, signal.SIGTERM))
    assert ended.value.code == 128 + signal.SIGTERM
    assert Store(cfg.results).state(run_id(cfg)) == "interrupted"
    assert capsys.readouterr().err == ""
    assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL


def test_the_second_signal_stops_at_once():
    with heard() as stop:
        signal.raise_signal(signal.SIGTERM)
        assert stop.asked == signal.SIGTERM
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)


def test_handlers_of_others_are_left_alone():
    told = []
    before = signal.signal(signal.SIGTERM, lambda *given: told.append(given[0]))
    try:
        with heard() as stop:
            signal.raise_signal(signal.SIGTERM)
        assert (told, stop.asked) == ([signal.SIGTERM], 0)
    finally:
        signal.signal(signal.SIGTERM, before)


def test_outside_the_main_thread_nothing_is_heard():
    found = []

    def enter():
        with heard():
            found.append(signal.getsignal(signal.SIGINT))

    thread = threading.Thread(target=enter)
    thread.start()
    thread.join()
    assert found == [signal.default_int_handler]
