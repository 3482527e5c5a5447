"""Ctrl-C and SIGTERM while a run trains: it is saved at its next pause and stops then."""

import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from normtables import processes

HANDLED = {signal.SIGINT: signal.default_int_handler, signal.SIGTERM: signal.SIG_DFL}  # and what is there otherwise


class Stop:
    """Which signal asked the process to stop (0: none); the second one stops it at once."""

    def __init__(self) -> None:
        self.asked = 0

    def hear(self, number: int, frame: FrameType | None) -> None:
        """Take note of a signal."""
        if self.asked:
            raise self.error(number)
        self.asked = number
        if number == signal.SIGINT and processes.speaks():
            print("normtables: stopping once the run is saved; Ctrl-C again stops at once", file=sys.stderr)

    def error(self, number: int) -> BaseException:
        """What ends the process as the signal would have."""
        return KeyboardInterrupt() if number == signal.SIGINT else SystemExit(128 + number)


@contextmanager
def heard() -> Iterator[Stop]:
    """Hear the signals that nobody else handles or ignores; outside the main thread there are none to hear."""
    stop = Stop()
    free = [number for number, usual in HANDLED.items() if signal.getsignal(number) == usual]
    ours = free if threading.current_thread() is threading.main_thread() else []
    before = {number: signal.signal(number, stop.hear) for number in ours}
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
