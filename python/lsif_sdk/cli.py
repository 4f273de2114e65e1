"""The command `lsif`: train, evaluate, recommend, explain, inspect, doctor."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence

from lsif_sdk import __version__, commands
from lsif_sdk.errors import LsifError
from lsif_sdk.terminal import on_one_line

__all__ = ["main"]


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs one command and returns its exit code: 0, or 2 or (after Ctrl-C) 130 with a message on standard error."""
    parser = _parser()
    options, further = parser.parse_known_args(arguments)
    if further:
        _add_ids(parser, options, further)
    try:
        code = int(options.run(options))
        sys.stdout.flush()
        return code
    except BrokenPipeError:
        # The reader (head, say) has gone: what is left goes nowhere, or Python would complain when it exits.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except (LsifError, OSError) as error:
        print(f"lsif {options.command}: {on_one_line(error)}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print(f"\nlsif {options.command}: interrupted", file=sys.stderr)
        return 130


def _add_ids(parser: argparse.ArgumentParser, options: argparse.Namespace, further: list[str]) -> None:
    """Ids behind an option: argparse takes a list of them from one place alone."""
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

    train = subparsers.add_parser("train", help="train a model on events and write an artifact")
    _add_event_options(train)
    train.add_argument("--titles", help="table of item titles (CSV, TSV or Parquet)")
    train.add_argument("--title-item", default="item", help="its item column (default: item)")
    train.add_argument("--title-column", default="title", help="its title column (default: title)")
    train.add_argument("--title-separator", type=_separator, help=_SEPARATOR_HELP)
    train.add_argument("--text", metavar="MODEL", help="sentence-transformers folder or name: learn from titles, too")
    train.add_argument("--out", required=True, help="artifact directory to write")
    train.add_argument("--overwrite", action="store_true", help="replace an artifact that is already there")
    train.add_argument("--recipe", help='JSON file {"model": {...}, "training": {...}} to start from (see recipes/)')
    train.add_argument(
        "--set", action="append", default=[], metavar="NAME=VALUE", help="override a model or training field"
    )
    train.add_argument(
        "--holdout",
        choices=("test", "validation", "nothing"),
        default="test",
        help="never trained on: each user's last two events (test; default), the last (validation; for production), or "
        "nothing (trains for all epochs: --set epochs=N)",
    )
    train.add_argument(
        "--split",
        choices=commands.SPLITS,
        default=commands.SPLITS[0],
        help=_SPLIT_HELP + f" (default: {commands.SPLITS[0]})",
    )
    train.add_argument(
        "--include-seen",
        action=argparse.BooleanOptionalAction,
        help="people consume again: validate with seen items (default: as the training of --start, otherwise without)",
    )
    train.add_argument("--start", metavar="MODEL", help="artifact directory to go on from, in place of random weights")
    train.add_argument("--checkpoints", help="directory for checkpoints")
    train.add_argument("--resume", action="store_true", help="go on from the newest checkpoint")
    train.add_argument("--quiet", action="store_true", help="no progress")
    train.set_defaults(run=commands.train)

    evaluate = subparsers.add_parser("evaluate", help="quality of an artifact beside popularity")
    evaluate.add_argument("model", help="artifact directory")
    _add_event_options(evaluate)
    evaluate.add_argument(
        "--k", type=_lengths, default=10, metavar="K[,K...]", help="length of the lists, or several (default: 10)"
    )
    evaluate.add_argument("--split", choices=commands.SPLITS, help=_SPLIT_HELP + " (default: as in training)")
    evaluate.add_argument(
        "--include-seen",
        action=argparse.BooleanOptionalAction,
        help="keep items of the history in the ranking (default: as in training)",
    )
    evaluate.add_argument("--report", metavar="DIRECTORY", help="write index.html, with plots, and report.json there")
    evaluate.add_argument("--json", action="store_true", help="print JSON")
    evaluate.add_argument("--quiet", action="store_true", help="no progress")
    evaluate.set_defaults(run=commands.evaluate)

    recommend = subparsers.add_parser("recommend", help="top items for one history")
    _add_history_options(recommend)
    recommend.add_argument("--k", type=int, default=10)
    recommend.add_argument(
        "--exclude",
        action="append",
        default=[],
        metavar="ITEM",
        help="leave out (may be repeated; --exclude=-x where it begins with '-')",
    )
    recommend.add_argument(
        "--include-seen",
        action=argparse.BooleanOptionalAction,
        help="keep items of the history in the ranking (default: as in training)",
    )
    recommend.add_argument("--json", action="store_true", help="print JSON")
    recommend.set_defaults(run=commands.recommend)

    explain = subparsers.add_parser("explain", help="why one item has its score for one history")
    _add_history_options(explain)
    explain.add_argument("--item", required=True, help="the item to explain (--item=-x where it begins with '-')")
    explain.add_argument("--plot", metavar="FILE", help="draw it, too (.png, .svg or .pdf)")
    explain.add_argument("--json", action="store_true", help="print JSON")
    explain.set_defaults(run=commands.explain)

    inspect = subparsers.add_parser("inspect", help="what an artifact holds; checks every byte")
    inspect.add_argument("model", help="artifact directory")
    inspect.add_argument("--json", action="store_true", help="print JSON")
    inspect.set_defaults(run=commands.inspect)

    doctor = subparsers.add_parser("doctor", help="build, instruction set and why, torch, threads, GPU")
    doctor.add_argument("--json", action="store_true", help="print JSON")
    doctor.set_defaults(run=commands.doctor)
    return parser


_SPLIT_HELP = "what is held out: each user's newest events, or everything after one moment"
_SEPARATOR_HELP = "what separates its columns, or 'tab' (default: tab if the first line has one, otherwise comma)"


def _add_history_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("model", help="artifact directory")
    parser.add_argument(
        "items", nargs="*", help="item ids of the history, oldest first; those that begin with '-' come after --"
    )
    parser.add_argument(
        "--times", metavar="T,T,...", help="times of the events, Unix seconds or ISO dates, one an item"
    )
    parser.add_argument("--actions", metavar="A,A,...", help="action types of the events, one an item")
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
