"""Weights & Biases: runs shown while they last, online where possible, else in files that `wandb sync` sends."""

import netrc
import os
import socket
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any, Literal
from urllib.parse import urlsplit

from normtables.errors import UserError
from normtables.trackers import TRACKERS, Row, Tracker, say

Mode = Literal["auto", "online", "offline"]
PROBE = 3.0  # seconds that the host has for an answer
INIT = 6.0  # seconds that a run has to begin online
OLD_HOST = "api.wandb.ai"  # keys are kept under it, wherever the service moved


class Wandb:
    """One run of wandb; its id is the run's own, so an interrupted run goes on and nothing is sent twice."""

    def __init__(self, options: Mapping[str, Any], mode: Mode) -> None:
        self.options, self.mode = options, mode
        self.run: Any = None

    def begin(self, folder: Path, run: str, config: Mapping[str, Any]) -> None:
        """Begin online or offline; what fails to begin online begins offline."""
        import wandb  # here, because that takes a second

        mode = online_or_not() if self.mode == "auto" else self.mode
        folder.mkdir(parents=True, exist_ok=True)
        common: dict[str, Any] = {
            "id": run,
            "name": name_of(config),
            "config": dict(config),
            "dir": str(folder),
            "resume": "allow",
        }
        common |= {"reinit": "create_new", **self.options}
        try:
            self.run = wandb.init(mode=mode, settings=settings(), **common)
        except wandb.errors.CommError as error:
            if self.mode == "online":
                raise
            say(f"wandb did not begin online ({str(error).splitlines()[0]}); offline, `wandb sync` sends it later")
            wandb.teardown()  # its service still holds the run's id
            self.run = wandb.init(mode="offline", settings=settings(), **common)

    def row(self, row: Row) -> None:
        """The row's numbers at its update; those that were sent before an interruption are ignored there."""
        self.run.log(dict(row), step=int(row["step"]))

    def end(self, status: str, final: Row) -> None:
        """Final scores and status as the summary."""
        self.run.summary.update({**final, "status": status})
        self.run.finish(exit_code=0 if status in ("finished", "diverged") else 1)


@TRACKERS.register("wandb")
def wandb(
    *,
    project: str = "normtables",
    entity: str | None = None,
    group: str | None = None,
    tags: list[str],
    mode: Mode = "auto",
) -> Tracker:
    """Rows, configuration and final scores of each run to wandb; needs no account.

    mode: online where a key is found and the host answers within three seconds, else offline with one printed line
    (auto); or one of the two. Offline runs lie under results/wandb/. A table fills group and tags where they are empty.
    """
    if not project:
        raise UserError("tracker.project should name a project")
    return Wandb({"project": project, "entity": entity, "group": group, "tags": tags}, mode)


def settings() -> Any:
    """No talk, nothing about machine and code: the records have that."""
    import wandb

    return wandb.Settings(
        base_url=base_url(),
        silent=True,
        console="off",
        disable_git=True,
        disable_code=True,
        x_disable_stats=True,
        init_timeout=INIT,
    )


def base_url() -> str:
    """The service that runs are sent to: WANDB_BASE_URL, what `wandb login` noted, or wandb's own."""
    import wandb

    return os.environ.get("WANDB_BASE_URL") or str(wandb.setup().settings.base_url)


def name_of(config: Mapping[str, Any]) -> str:
    """What a list of runs shows: model, norm, data set and seed."""
    parts = [str(config.get(group, {}).get("name", "")) for group in ("model", "norm", "dataset")]
    return " ".join([*parts, f"seed {config.get('seeds', {}).get('weights', '')}"])


@cache
def online_or_not() -> Literal["online", "offline"]:
    """Where runs of this process go; the reason for offline is told once."""
    if os.environ.get("WANDB_MODE") in ("offline", "dryrun"):
        return "offline"
    host = urlsplit(base_url())
    if not has_key(host.netloc):
        say("wandb works offline: no key was found (`wandb login`); `wandb sync` sends it later")
        return "offline"
    try:
        port = host.port or (80 if host.scheme == "http" else 443)
        socket.create_connection((host.hostname or "", port), PROBE).close()
    except OSError as error:
        say(f"wandb works offline: {host.netloc} does not answer ({error}); `wandb sync` sends it later")
        return "offline"
    return "online"


def has_key(host: str) -> bool:
    """Whether WANDB_API_KEY is set or the .netrc file knows the host."""
    if os.environ.get("WANDB_API_KEY"):
        return True
    path = Path(os.environ.get("NETRC") or "~/.netrc").expanduser()
    try:
        return any(netrc.netrc(path).authenticators(name) for name in (host, OLD_HOST))
    except (OSError, netrc.NetrcParseError):
        return False
