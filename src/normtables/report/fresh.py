"""Files kept up to date while what they tell of goes on."""

import contextlib
import threading
import time
from collections.abc import Callable, Iterator

from normtables.errors import UserError

EVERY = 30.0  # seconds between two times, at least
SHARE = 20  # and as many times as long as one takes


@contextlib.contextmanager
def kept_fresh(write: Callable[[], object], every: float = EVERY) -> Iterator[None]:
    """Call `write` now and then, in a thread, while the scope lasts; one that cannot write is not called again.

    After the scope `write` is not running, unless it ended with an exception: nobody waits for it then.
    """
    stop = threading.Event()
    thread = threading.Thread(target=repeat, args=(write, every, stop), daemon=True)
    thread.start()
    try:
        yield
    except BaseException:
        stop.set()
        raise
    stop.set()
    thread.join()


def repeat(write: Callable[[], object], every: float, stop: threading.Event) -> None:
    """Call `write` until told to stop."""
    pause = every
    while not stop.wait(pause):
        began = time.monotonic()
        try:
            write()
        except UserError:
            return  # the last writing, after the scope, says why
        pause = max(every, SHARE * (time.monotonic() - began))
