"""What a run sets on its machine."""

import subprocess
import sys

import pytest

FAULTS = """
import resource, sys
import torch
from normtables.training import machine
if sys.argv[1] == "keep":
    machine.prepare(1, False, True)
least = 1_000_000
for _ in range(10):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    torch.ones(12_000_000)
    least = min(least, resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
print(least)
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="mallopt is glibc's")
def test_freed_memory_is_kept_for_the_next_large_tensor():
    """The page faults of the cheapest of ten tensors of 48 MB; each costs up to 12,000 where its memory is new.

    The cheapest, since the system may take pages away that have not been used for a moment.
    """
    faults = {
        word: int(
            subprocess.run([sys.executable, "-c", FAULTS, word], check=True, capture_output=True, text=True).stdout
        )
        for word in ("keep", "leave")
    }
    assert faults["keep"] < faults["leave"] / 4, faults
