"""The command `lsif`: train, evaluate, recommend, explain, inspect, doctor."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

from lsif_sdk import __version__, commands
from lsif_sdk.errors import LsifError
from lsif_sdk.evaluation.splits import SPLITS
from lsif_sdk.terminal import make_printable, on_one_line

__all__ = ["main"]

if TYPE_CHECKING:
    Subparsers = argparse._SubParsersAction[argparse.ArgumentParser]


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs one command and returns its exit code: 0, or 2 or (after Ctrl-C) 130 with a message on standard error."""
    make_printable()
    parser = _parser()
    options, further = parser.parse_known_args(arguments)
    if further:
        _add_ids(parser, options, further)
    try:
        code = int(options.run(options))
        sys.stdout.flush()
        return code
    except BrokenPipeError:
        # The reader (such as head) has gone. Discard the rest, or Python would complain when it exits.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except (LsifError, OSError) as error:
        print(f"lsif {options.command}: {on_one_line(error)}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print(f"\nlsif {options.command}: interrupted", file=sys.stderr)
        return 130


def _add_ids(parser: argparse.ArgumentParser, options: argparse.Namespace, further: list[str]) -> None:
    """Adds ids that follow an option; argparse takes a list of ids from one place only."""
    end = further.index("--") if "--" in further else len(further)
    takes_ids = hasattr(options, "items")
    if not takes_ids or any(text.startswith("-") for text in further[:end]):
        hint = " (ids that begin with '-' come after --)" if takes_ids else ""
        parser.error(f"unrecognized arguments: {on_one_line(' '.join(further))}{hint}")
    options.items += further[:end] + further[end + 1 :]


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="lsif", description=__doc__)
    parser.add_argument("--version", action="version", version=f"lsif_sdk {__version__}")
    subparsers = parser.add_subparsers(dest="command", required=True)
    for add in (_add_train, _add_evaluate, _add_recommend, _add_explain, _add_inspect, _add_doctor):
        add(subparsers)
    return parser


_SPLIT_HELP = "what is held out: each user's newest events, or everything after one moment"
_SEPARATOR_HELP = "what separates its columns, or 'tab' (default: tab if the first line has one, otherwise comma)"


def _add_train(subparsers: Subparsers) -> None:
    parser = subparsers.add_parser("train", help="train a model on events and write an artifact")
    _add_event_options(parser)
    parser.add_argument("--titles", help="table of item titles (CSV, TSV or Parquet)")
    parser.add_argument("--title-item", default="item", help="its item column (default: item)")
    parser.add_argument("--title-column", default="title", help="its title column (default: title)")
    parser.add_argument("--title-separator", type=_separator, help=_SEPARATOR_HELP)
    parser.add_argument("--text", metavar="MODEL", help="sentence-transformers folder or name: learn from titles, too")
    parser.add_argument("--out", required=True, help="artifact directory to write")
    parser.add_argument("--overwrite", action="store_true", help="replace an artifact that is already there")
    parser.add_argument("--recipe", help='JSON file {"model": {...}, "training": {...}} to start from (see recipes/)')
    parser.add_argument(
        "--set", action="append", default=[], metavar="NAME=VALUE", help="override a model or training field"
    )
    parser.add_argument(
        "--holdout",
        choices=("test", "validation", "nothing"),
        default="test",
        help="never trained on: each user's last two events (test; default), the last (validation; for production), or "
        "nothing (trains for all epochs: --set epochs=N)",
    )
    parser.add_argument(
        "--split",
        choices=tuple(SPLITS),
        default="leave_one_out",
        help=_SPLIT_HELP + " (default: leave_one_out)",
    )
    parser.add_argument(
        "--include-seen",
        action=argparse.BooleanOptionalAction,
        help="people consume again: validate with seen items (default: as the training of --start, otherwise without)",
    )
    parser.add_argument("--start", metavar="MODEL", help="artifact directory to go on from, in place of random weights")
    parser.add_argument("--checkpoints", help="directory for checkpoints")
    parser.add_argument("--resume", action="store_true", help="go on from the newest checkpoint")
    parser.add_argument("--quiet", action="store_true", help="no progress")
    parser.set_defaults(run=commands.train)


def _add_evaluate(subparsers: Subparsers) -> None:
    parser = subparsers.add_parser("evaluate", help="quality of an artifact beside popularity")
    parser.add_argument("model", help="artifact directory")
    _add_event_options(parser)
    parser.add_argument(
        "--k", type=_lengths, default=10, metavar="K[,K...]", help="length of the lists, or several (default: 10)"
    )
    parser.add_argument("--split", choices=tuple(SPLITS), help=_SPLIT_HELP + " (default: as in training)")
    _add_include_seen(parser)
    parser.add_argument("--report", metavar="DIRECTORY", help="write index.html, with plots, and report.json there")
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.add_argument("--quiet", action="store_true", help="no progress")
    parser.set_defaults(run=commands.evaluate)


def _add_recommend(subparsers: Subparsers) -> None:
    parser = subparsers.add_parser("recommend", help="top items for one history")
    _add_history_options(parser)
    parser.add_argument("--k", type=int, default=10)
    parser.add_argument(
        "--exclude",
        action="append",
        default=[],
        metavar="ITEM",
        help="leave out (may be repeated; --exclude=-x where it begins with '-')",
    )
    _add_include_seen(parser)
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.set_defaults(run=commands.recommend)


def _add_explain(subparsers: Subparsers) -> None:
    parser = subparsers.add_parser("explain", help="why one item has its score for one history")
    _add_history_options(parser)
    parser.add_argument("--item", required=True, help="the item to explain (--item=-x where it begins with '-')")
    parser.add_argument("--plot", metavar="FILE", help="draw it, too (.png, .svg or .pdf)")
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.set_defaults(run=commands.explain)


def _add_inspect(subparsers: Subparsers) -> None:
    parser = subparsers.add_parser("inspect", help="what an artifact holds; checks every byte")
    parser.add_argument("model", help="artifact directory")
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.set_defaults(run=commands.inspect)


def _add_doctor(subparsers: Subparsers) -> None:
    parser = subparsers.add_parser("doctor", help="build, instruction set and why, torch, threads, GPU")
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.set_defaults(run=commands.doctor)


def _add_include_seen(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--include-seen",
        action=argparse.BooleanOptionalAction,
        help="keep items of the history in the ranking (default: as in training)",
    )


def _add_history_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("model", help="artifact directory")
    parser.add_argument(
        "items", nargs="*", help="item ids of the history, oldest first; those that begin with '-' come after --"
    )
    parser.add_argument(
        "--times", metavar="T,T,...", help="times of the events, Unix seconds or ISO dates, one per item"
    )
    parser.add_argument("--actions", metavar="A,A,...", help="action types of the events, one per item")
    parser.add_argument("--now", help="request time, Unix seconds or an ISO date (default: the newest of --times)")


def _add_event_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("events", help="CSV, TSV or Parquet file (.gz allowed) of events")
    parser.add_argument("--user", default="user", help="user column (default: user)")
    parser.add_argument("--item", default="item", help="item column (default: item)")
    parser.add_argument("--timestamp", default="timestamp", help="time column, Unix seconds or ISO dates; '' for none")
    parser.add_argument("--action", help="action type column, integers from 1")
    parser.add_argument("--separator", type=_separator, help=_SEPARATOR_HELP)


def _lengths(text: str) -> int | list[int]:
    try:
        lengths = [int(part) for part in text.split(",")]
    except ValueError:
        raise argparse.ArgumentTypeError(f"expected an integer, or several with commas between, got {text!r}") from None
    return lengths if "," in text else lengths[0]


def _separator(text: str) -> str:
    if text != "tab" and len(text) != 1:
        raise argparse.ArgumentTypeError(f"expected one character, or 'tab', got {text!r}")
    return "\t" if text == "tab" else text


if __name__ == "__main__":
    raise SystemExit(main())
