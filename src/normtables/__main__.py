"""The command line: `normtables run | plan | table | runs | compare | dashboard | report | publish | errata | data`."""

import argparse
import importlib
import os
import sys
from collections.abc import Sequence
from typing import NoReturn

from normtables import __version__, processes
from normtables.errors import Elsewhere, UserError
from normtables.places import RESULTS, TIERS


class Parser(argparse.ArgumentParser):
    """An argument parser that complains in one line."""

    def error(self, message: str) -> NoReturn:
        """Raise UserError instead of printing the usage."""
        raise UserError(f"{message}; see {self.prog} --help")


def parser() -> argparse.ArgumentParser:
    """All commands and their options; imports nothing that is slow."""
    top = Parser("normtables", description=sys.modules["normtables"].__doc__)
    top.add_argument("--version", action="version", version=__version__)
    commands = top.add_subparsers(dest="command", required=True, metavar="COMMAND")

    def command(name: str, text: str) -> argparse.ArgumentParser:
        found = commands.add_parser(name, help=text, description=text)
        found.add_argument("--results", default=None, metavar="DIR", help="folder of results (default: results/)")
        found.add_argument("--json", action="store_true", help="print JSON for scripts")
        return found

    commands.add_parser("run", help="one run, or a sweep with -m: normtables run norm=bn optim.lr=0.1", add_help=False)
    for name, text in (("plan", "list a table's runs by state"), ("table", "collect, judge and draw a table")):
        found = command(name, text)
        found.add_argument("table", nargs="?" if name == "plan" else None, help="1 to 11, or a table file of your own")
        found.epilog = "Settings of the machine may follow: data.root=DIR runtime.threads=2"
        found.set_defaults(settings=[])
        if name == "plan":
            found.add_argument(
                "--stale", action="store_true", help="list runs of an older version of a method, model ..."
            )
            found.add_argument(
                "--measure",
                type=int,
                nargs="?",
                const=30,
                metavar="K",
                help="time some updates of about K of the runs to make (default: 30), and tell what all will take",
            )
        found.add_argument("--tier", default="laptop", help=f"{', '.join(TIERS)} (default: laptop)")
        found.add_argument("--conf-dir", action="append", default=[], metavar="DIR", help="your own conf/ folder")
        for what in ("row", "column"):
            found.add_argument(
                f"--{what}", action="append", default=[], metavar="GLOB", help=f"only the runs of such {what}s"
            )
    found.add_argument("--run", action="store_true", help="make the missing runs first")
    found.add_argument(
        "--jobs", type=int, default=None, metavar="N", help="worker processes (default: one a core or GPU)"
    )
    found.add_argument(
        "--launcher",
        choices=("local", "slurm"),
        default="local",
        help="this machine, or submit to Slurm and leave",
    )
    found.add_argument("--yes", action="store_true", help="go ahead with more than an hour or a gigabyte")
    found = command("runs", "list runs")
    found.add_argument("--where", action="append", default=[], metavar="KEY=VALUE", help="only runs with this setting")
    found = command("compare", "show runs side by side: where they differ, scores, cost; mean and spread over seeds")
    found.add_argument("runs", nargs="*", metavar="ID", help="an id or its beginning (default: all that --where fits)")
    found.add_argument("--where", action="append", default=[], metavar="KEY=VALUE", help="only runs with this setting")
    found = command("publish", "send records to Weights & Biases, each once")
    found.add_argument("--where", action="append", default=[], metavar="KEY=VALUE", help="only runs with this setting")
    found.epilog = "Settings of the tracker may follow: tracker.project=NAME tracker.mode=offline"
    found.set_defaults(settings=[])
    command("report", "all collected tables in one document, markdown and LaTeX, and the page to open from disk")
    found = command("dashboard", "the tables, claims and runs as a page, served on this machine")
    found.add_argument("tables", nargs="*", metavar="FILE", help="table files of your own to show too")
    found.add_argument("--port", type=int, default=None, help="default: 8750, or the next that is free")
    found.add_argument("--export", default=None, metavar="DIR", help="write the page there, to open it from disk")
    command("errata", "list the cells where the survey and its source differ")
    found = command("data", "list data sets, or fetch some")
    found.add_argument("action", nargs="?", choices=("list", "fetch"), default="list")
    found.add_argument("names", nargs="*", metavar="NAME")
    found.add_argument("--root", default=None, metavar="DIR", help="data root (default: NORMTABLES_DATA or the cache)")
    return top


def dispatch(arguments: Sequence[str]) -> int:
    """Run a command; its exit status."""
    processes.check_command(arguments)
    if arguments[:1] == ["run"]:
        importlib.import_module("normtables.door").run(arguments[1:])
        return 0
    options, rest = parser().parse_known_args(arguments)
    if "settings" in options and all("=" in word and not word.startswith("-") for word in rest):
        options.settings = rest
    elif rest:
        raise UserError(f"{arguments[0]} does not know {' '.join(rest)}; see normtables {arguments[0]} --help")
    commands = importlib.import_module("normtables.commands")
    if options.results is None:
        options.results = str(RESULTS)
    return int(getattr(commands, f"{options.command}_command")(options))


def main() -> None:
    """The console script: 0 done, 1 runs failed, 2 a mistake that one line explains, 130 stopped with Ctrl-C."""
    try:
        if processes.rank():  # the first process shows the run
            sys.stdout = open(os.devnull, "w")  # noqa: SIM115 (until the process ends)
        sys.exit(dispatch(sys.argv[1:]))
    except Elsewhere as error:
        sys.exit(error.status)
    except UserError as error:
        sys.exit(complain(str(error), 2))
    except KeyboardInterrupt:
        sys.exit(complain("stopped; the same command goes on from here", 130))
    except BrokenPipeError:
        sys.exit(1)
    except Exception as error:
        if type(error).__name__ in ("Unfinished", "Failed"):
            sys.exit(complain(str(error), 1))
        raise


def complain(text: str, status: int) -> int:
    """Print one line to standard error, where this process is the one to tell."""
    if processes.speaks():
        print(f"normtables: {text}", file=sys.stderr)
    return status


if __name__ == "__main__":
    main()
