"""Where things lie: the checkout's folders, and the folder of data sets on this machine. Standard library only."""

import os
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
CONF, EXPERIMENTS, RESULTS = ROOT / "conf", ROOT / "experiments", ROOT / "results"
TIERS = ("smoke", "laptop", "short", "paper")  # folders of tables in results, from the smallest runs to the largest


def user_cache() -> Path:
    """The folder normtables in the user's cache (XDG_CACHE_HOME or ~/.cache)."""
    return Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "normtables"


def default_root() -> Path:
    """The folder of data sets: NORMTABLES_DATA, else `data` in the user's cache."""
    named = os.environ.get("NORMTABLES_DATA")
    return Path(named).expanduser() if named else user_cache() / "data"
