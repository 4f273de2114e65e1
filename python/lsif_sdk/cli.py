"""The command `lsif`: train, evaluate, recommend, inspect, doctor."""

from __future__ import annotations

import argparse
import json
import os
import pathlib
import sys
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

from lsif_sdk.artifact import FORMAT_VERSION, Artifact, check_target
from lsif_sdk.errors import ArgumentError, DataError, LsifError
from lsif_sdk.events import Events
from lsif_sdk.items import ItemTable
from lsif_sdk.recommender import Recommender

if TYPE_CHECKING:
    from lsif_sdk.training.data import EventLog

__all__ = ["main"]


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs one command and returns its exit code: 0, or 2 with a one-line message on standard error."""
    options = _parser().parse_args(arguments)
    try:
        code = int(options.run(options))
        sys.stdout.flush()
        return code
    except BrokenPipeError:
        # The reader (head, say) has gone: what is left goes nowhere, or Python would complain when it exits.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except (LsifError, OSError) as error:
        print(f"lsif {options.command}: {error}", file=sys.stderr)
        return 2


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="lsif", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)

    train = commands.add_parser("train", help="train a model on events and write an artifact")
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
        choices=("test", "validation"),
        default="test",
        help="never trained on: each user's last two events (test; default) or the last (validation; for production)",
    )
    train.add_argument("--split", choices=_SPLITS, default=_SPLITS[0], help=_SPLIT_HELP + f" (default: {_SPLITS[0]})")
    train.add_argument("--include-seen", action="store_true", help="people consume again: validate with seen items")
    train.add_argument("--checkpoints", help="directory for checkpoints")
    train.add_argument("--resume", action="store_true", help="go on from the newest checkpoint")
    train.add_argument("--quiet", action="store_true", help="no progress")
    train.set_defaults(run=_train)

    evaluate = commands.add_parser("evaluate", help="quality of an artifact beside popularity")
    evaluate.add_argument("model", help="artifact directory")
    _add_event_options(evaluate)
    evaluate.add_argument("--k", type=int, default=10)
    evaluate.add_argument("--split", choices=_SPLITS, help=_SPLIT_HELP + " (default: as in training)")
    evaluate.add_argument(
        "--include-seen",
        action=argparse.BooleanOptionalAction,
        help="keep items of the history in the ranking (default: as in training)",
    )
    evaluate.add_argument("--report", metavar="DIRECTORY", help="write index.html, with plots, and report.json there")
    evaluate.add_argument("--json", action="store_true", help="print JSON")
    evaluate.add_argument("--quiet", action="store_true", help="no progress")
    evaluate.set_defaults(run=_evaluate)

    recommend = commands.add_parser("recommend", help="top items for one history")
    recommend.add_argument("model", help="artifact directory")
    recommend.add_argument("items", nargs="*", help="item ids of the history, oldest first")
    recommend.add_argument("--k", type=int, default=10)
    recommend.add_argument("--times", metavar="T,T,...", help="times of the events, Unix seconds, one an item")
    recommend.add_argument("--actions", metavar="A,A,...", help="action types of the events, one an item")
    recommend.add_argument("--now", type=int, help="request time, Unix seconds (default: the newest of --times)")
    recommend.add_argument("--exclude", action="append", default=[], metavar="ITEM", help="leave out (may be repeated)")
    recommend.add_argument("--include-seen", action="store_true", help="keep items of the history in the ranking")
    recommend.add_argument("--json", action="store_true", help="print JSON")
    recommend.set_defaults(run=_recommend)

    inspect = commands.add_parser("inspect", help="what an artifact holds; checks every byte")
    inspect.add_argument("model", help="artifact directory")
    inspect.add_argument("--json", action="store_true", help="print JSON")
    inspect.set_defaults(run=_inspect)

    doctor = commands.add_parser("doctor", help="build, instruction set and why, torch, threads, GPU")
    doctor.add_argument("--json", action="store_true", help="print JSON")
    doctor.set_defaults(run=_doctor)
    return parser


_SPLITS = ("leave_one_out", "time")
_SPLIT_HELP = "what is held out: each user's newest events, or everything after one moment"
_SEPARATOR_HELP = "what separates its columns, or 'tab' (default: tab if the first line has one, otherwise comma)"


def _add_event_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("events", help="CSV, TSV or Parquet file (.gz allowed) of events")
    parser.add_argument("--user", default="user", help="user column (default: user)")
    parser.add_argument("--item", default="item", help="item column (default: item)")
    parser.add_argument("--timestamp", default="timestamp", help="time column in Unix seconds; '' if there is none")
    parser.add_argument("--action", help="action type column, integers from 1")
    parser.add_argument("--separator", type=_separator, help=_SEPARATOR_HELP)


def _read_log(options: argparse.Namespace) -> Any:
    from lsif_sdk.training.data import read_events

    return read_events(
        options.events,
        user=options.user,
        item=options.item,
        timestamp=options.timestamp or None,
        action=options.action,
        separator=options.separator,
    )


def _separator(text: str) -> str:
    if text != "tab" and len(text) != 1:
        raise argparse.ArgumentTypeError(f"expected one character, or 'tab', got {text!r}")
    return "\t" if text == "tab" else text


def _train(options: argparse.Namespace) -> int:
    from lsif_sdk.training import load_recipe, train

    # `save` checks this, too, but only when hours of training are over.
    if pathlib.Path(options.out).exists() and not options.overwrite:
        raise ArgumentError("--out", "a path that is free, or --overwrite", options.out)
    check_target(options.out, overwrite=options.overwrite)
    if options.resume and not options.checkpoints:
        raise ArgumentError("--resume", "--checkpoints DIRECTORY beside it", "none")
    log = _read_log(options)
    if options.text and not options.titles:
        raise ArgumentError("--text", "--titles FILE beside it", "none")
    if options.titles:
        log = log.with_titles(_read_titles(options, log.item_ids))
    recipe = load_recipe(options.recipe, _overrides(options.set))
    recommender = train(
        log,
        recipe.model,
        recipe.training,
        checkpoint_dir=options.checkpoints,
        resume=options.resume,
        split=options.split,
        holdout=options.holdout,
        exclude_seen=not options.include_seen,
        features=_title_features(options, log),
        progress=not options.quiet,
        source=pathlib.Path(options.events).name,
    )
    recommender.save(options.out, overwrite=options.overwrite)
    print(f"wrote {options.out}")
    return 0


def _title_features(options: argparse.Namespace, log: EventLog) -> Any:
    if not options.text or log.titles is None:
        return None
    from lsif_sdk.text import embed_titles

    return embed_titles(log.given_titles(), options.text, progress=not options.quiet)


def _read_titles(options: argparse.Namespace, item_ids: Iterable[Any]) -> dict[str, str]:
    from lsif_sdk.training.data import read_titles

    titles = read_titles(
        options.titles, item=options.title_item, title=options.title_column, separator=options.title_separator
    )
    if titles.keys().isdisjoint(map(str, item_ids)):
        print(f"lsif train: warning: {options.titles} has a title for no item of the events", file=sys.stderr)
    return titles


def _overrides(settings: Sequence[str]) -> dict[str, Any]:
    values: dict[str, Any] = {}
    for setting in settings:
        name, equals, text = setting.partition("=")
        if not (name and equals):
            raise ArgumentError("--set", "NAME=VALUE", repr(setting))
        try:
            values[name] = json.loads(text.lower() if text in ("True", "False") else text)
        except json.JSONDecodeError:
            values[name] = text
    return values


def _evaluate(options: argparse.Namespace) -> int:
    from lsif_sdk.evaluation import compare, format_table
    from lsif_sdk.evaluation.behaviour import behaviour
    from lsif_sdk.evaluation.html_report import check_plots, write_report
    from lsif_sdk.evaluation.splits import SPLITS

    if options.report:
        check_plots()
    recommender = Recommender.load(options.model)
    trained = recommender.artifact.training
    split = options.split or trained.get("split", _SPLITS[0])
    if trained.get("holdout") != "test" or trained.get("split", _SPLITS[0]) != split:
        print("lsif evaluate: warning: this model may have been trained on the test targets", file=sys.stderr)
    exclude_seen = trained.get("exclude_seen", True) if options.include_seen is None else not options.include_seen
    log = _read_log(options)
    # As text: what the model knows as "7" among other texts is a number in a file that has only numbers.
    if set(map(str, recommender.items.ids)).isdisjoint(map(str, log.item_ids)):
        raise DataError(
            f"{options.events}: column {options.item!r} names no item of the model, whose ids are "
            f"{recommender.items.id_kind}"
        )
    parts = SPLITS[split](log)
    reports = compare(
        {"lsif": recommender},
        parts,
        options.k,
        exclude_seen=exclude_seen,
        progress=not options.quiet,
    )
    if options.report:
        page = write_report(options.report, reports, behaviour(recommender, parts, reports[-1]), f"{options.events}")
        print(f"wrote {page}", file=sys.stderr)
    if options.json:
        print(json.dumps([report.to_dict() for report in reports], indent=2))
    else:
        print(format_table(reports))
    return 0


def _recommend(options: argparse.Namespace) -> int:
    recommender = Recommender.load(options.model)
    ids = recommender.items
    history = Events(
        _ids("items", options.items, ids), _integers("--times", options.times), _integers("--actions", options.actions)
    )
    user = recommender.recommend(
        history,
        options.k,
        now=options.now,
        exclude_seen=not options.include_seen,
        exclude=_ids("--exclude", options.exclude, ids),
    )[0]
    rows = [{"item": item, "title": ids.title(ids.row(item)), "score": score} for item, score in user]
    if options.json:
        answer = {"items": rows, "long_share": user.long_share, "unknown": user.unknown, "fallback": user.fallback}
        print(json.dumps(answer, indent=2, ensure_ascii=False))
        return 0
    for row in rows:
        title = "" if ids.titles is None else f"  {row['title']}"
        print(f"{row['score']:10.4f}  {row['item']}{title}")
    if user.unknown:
        print(f"{user.unknown} unknown item(s) of the history left out", file=sys.stderr)
    note = (
        "no known item in the history: most popular items"
        if user.fallback
        else f"long-term share {user.long_share:.0%}"
    )
    print(note, file=sys.stderr)
    return 0


def _ids(argument: str, texts: list[str], table: ItemTable) -> list[Any]:
    if table.has_string_ids:
        return texts
    return [_integer(argument, "integers, as the catalogue's ids", text) for text in texts]


def _integers(argument: str, text: str | None) -> list[int] | None:
    if text is None:
        return None
    return [_integer(argument, "whole numbers with commas between them", part) for part in text.split(",")]


def _integer(argument: str, expected: str, text: str) -> int:
    try:
        return int(text)
    except ValueError:
        raise ArgumentError(argument, expected, repr(text)) from None


def _inspect(options: argparse.Namespace) -> int:
    artifact = Artifact.load(options.model, verify=True)
    facts = {
        "format_version": FORMAT_VERSION,
        "model": artifact.config.to_dict(),
        "parameters": sum(weight.numel() for weight in artifact.weights.values()),
        "bytes": sum(weight.numel() * weight.element_size() for weight in artifact.weights.values()),
        "items": {
            "count": len(artifact.items),
            "ids": artifact.items.id_kind,
            "titles": artifact.items.titles is not None,
        },
        "training": dict(artifact.training),
        "metrics": dict(artifact.metrics),
    }
    _print_facts(facts, options.json)
    return 0


def _doctor(options: argparse.Namespace) -> int:
    from lsif_sdk.doctor import diagnose

    _print_facts(diagnose(), options.json)
    return 0


def _print_facts(facts: dict[str, Any], as_json: bool) -> None:
    if as_json:
        print(json.dumps(facts, indent=2, ensure_ascii=False))
        return
    _print_nested(facts, "")


def _print_nested(facts: dict[str, Any], indent: str) -> None:
    for name, value in facts.items():
        if isinstance(value, dict) and value:
            print(f"{indent}{name}:")
            _print_nested(value, indent + "  ")
        else:
            print(f"{indent}{name}: {value}")


if __name__ == "__main__":
    sys.exit(main())
