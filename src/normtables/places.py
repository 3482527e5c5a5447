"""Where things lie: the checkout's folders, and the folder of data sets on this machine. Imports no library."""

import hashlib
import os
from pathlib import Path

from normtables.errors import UserError

ROOT = Path(__file__).resolve().parents[2]
CONF, EXPERIMENTS, RESULTS = ROOT / "conf", ROOT / "experiments", ROOT / "results"
TIERS = ("smoke", "laptop", "short", "paper")  # folders of tables in results, from the smallest runs to the largest


def user_cache() -> Path:
    """The folder normtables in the user's cache (XDG_CACHE_HOME or ~/.cache)."""
    return expanded(os.environ.get("XDG_CACHE_HOME") or "~/.cache") / "normtables"


def default_root() -> Path:
    """The folder of data sets: NORMTABLES_DATA, else `data` in the user's cache."""
    named = os.environ.get("NORMTABLES_DATA")
    return expanded(named) if named else user_cache() / "data"


def expanded(path: Path | str) -> Path:
    """A path whose `~` is a home folder; raises UserError where there is none for it."""
    try:
        return Path(path).expanduser()
    except RuntimeError as error:
        raise UserError(f"{path}: no home folder is known for {Path(path).parts[0]}; write the whole path") from error


def content(path: str) -> str:
    """Twelve digits of what a file says; nothing where there is no file that can be read."""
    try:
        return hashlib.sha256(expanded(path).read_bytes()).hexdigest()[:12] if path else ""
    except OSError:
        return ""
