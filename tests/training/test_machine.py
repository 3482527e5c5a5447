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
torch.ones(12_000_000)
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(20):
    torch.ones(12_000_000)
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="mallopt is glibc's")
def test_freed_memory_is_kept_for_the_next_large_tensor():
    """Twenty tensors of 48 MB: touched anew, each costs up to 12,000 page faults."""
    faults = {
        word: int(
            subprocess.run([sys.executable, "-c", FAULTS, word], check=True, capture_output=True, text=True).stdout
        )
        for word in ("keep", "leave")
    }
    assert faults["keep"] < faults["leave"] / 4, faults
