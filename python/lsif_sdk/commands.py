"""The commands of `lsif`; their options are in `cli`."""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import json
import os
import pathlib
import sys
import warnings
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from lsif_sdk.arguments import as_ks
from lsif_sdk.artifact import Artifact
from lsif_sdk.artifact_files import FORMAT_VERSION, check_target
from lsif_sdk.errors import ArgumentError, DataError
from lsif_sdk.evaluation.splits import SPLITS
from lsif_sdk.events import Events
from lsif_sdk.items import ItemTable
from lsif_sdk.recommender import Recommender
from lsif_sdk.terminal import encodes_all, on_one_line
from lsif_sdk.times import of_text

if TYPE_CHECKING:
    from lsif_sdk.event_log import EventLog

__all__ = ["doctor", "evaluate", "explain", "inspect", "recommend", "train"]


def _read_log(options: argparse.Namespace) -> Any:
    from lsif_sdk.event_log import read_events

    return read_events(
        options.events,
        user=options.user,
        item=options.item,
        timestamp=options.timestamp or None,
        action=options.action,
        separator=options.separator,
    )


def train(options: argparse.Namespace) -> int:
    """Trains on a file of events and writes an artifact."""
    from lsif_sdk import training
    from lsif_sdk.training.trainer import check_checkpoint

    # `save` checks this too, but only after training.
    if pathlib.Path(options.out).exists() and not options.overwrite:
        raise ArgumentError("--out", "a path that is free, or --overwrite", options.out)
    check_target(options.out, overwrite=options.overwrite)
    if options.resume and not options.checkpoints:
        raise ArgumentError("--resume", "--checkpoints DIRECTORY beside it", "none")
    if options.checkpoints:
        check_checkpoint(options.checkpoints, options.resume)
    if options.start is not None:
        if not options.start:
            raise ArgumentError("--start", "a model's directory", "''")
        Artifact.load(options.start)  # `train` checks this too, but only after reading events and titles
    log = _read_log(options)
    if options.text and not options.titles:
        raise ArgumentError("--text", "--titles FILE beside it", "none")
    if options.titles:
        log = _with_titles(options, log)
    recipe = training.load_recipe(options.recipe, overrides := _overrides(options.set))
    if options.holdout == "nothing" and "epochs" not in overrides:  # those of a recipe are a limit for early stopping
        raise ArgumentError("--holdout nothing", "--set epochs=N beside it", "none")
    with _warnings_as_lines("train"):
        recommender = training.train(
            log,
            recipe.model,
            recipe.training,
            start=options.start,
            checkpoint_dir=options.checkpoints,
            resume=options.resume,
            split=options.split,
            holdout=options.holdout,
            exclude_seen=_exclude_seen(options),
            features=_title_features(options, log),
            progress=not options.quiet,
            source=pathlib.Path(options.events).name,
        )
    recommender.save(options.out, overwrite=options.overwrite)
    print(_trained(recommender.artifact), file=sys.stderr)
    print(f"wrote {on_one_line(options.out)}")
    return 0


@contextlib.contextmanager
def _warnings_as_lines(command: str) -> Iterator[None]:
    def show(message: Warning | str, *_: Any, **__: Any) -> None:
        print(f"lsif {command}: warning: {on_one_line(message)}", file=sys.stderr)

    with warnings.catch_warnings(action="default"):
        warnings.showwarning = show
        yield


def _trained(artifact: Artifact) -> str:
    training = artifact.training
    report = None
    lines = [f"{training['events']:,} events of {training['users']:,} users and {len(artifact.items):,} items"]
    if start := training.get("start"):
        numbers = f"{start['kept']:,} items kept, {start['new']:,} new, {start['gone']:,} gone"
        better = "; no epoch was better" if training.get("best_epoch") == 0 else ""
        lines.append(f"began with {on_one_line(start['source'])}: {numbers}{better}")
    lines.append(_stopped(training))
    for name, value in artifact.metrics.get("validation", {}).items():
        if name.startswith("ndcg@"):
            lines.append(f"{'validation':12} NDCG@{name.removeprefix('ndcg@')} {value:.4f}, which chose the epoch")
    for name, report in artifact.metrics.get("test", {}).items():
        ndcg = report["metrics"][f"ndcg@{report['k']}"]
        shown = "unknown" if ndcg is None else f"{ndcg:.4f}"
        lines.append(f"{name:12} NDCG@{report['k']} {shown} on {report['num_users']:,} events held out of training")
    if report is not None and report["exclude_seen"] and report["num_repeated"]:
        misses = f"{report['num_repeated']:,} of these are in their user's history already, and so misses"
        lines.append(f"{misses}: --include-seen where people consume again")
    if training["holdout"] == "test":
        lines.append(_next_step(artifact.metrics["test"]))
    return "\n".join(lines)


def _stopped(training: Mapping[str, Any]) -> str:
    done, best, config = training["epochs"], training["best_epoch"], training["config"]
    why = "none was better since" if done - best >= config["patience"] else "max_seconds were over"
    ended = "" if done >= config["epochs"] else f": {why}"
    return f"{done} of at most {config['epochs']} epochs{ended}" + (f"; the best was the {best}." if best else ".")


def _next_step(reports: Mapping[str, Any]) -> str:
    values = {name: report["metrics"][f"ndcg@{report['k']}"] for name, report in reports.items()}
    popular = values.pop("popularity", None)
    if popular is not None and all(value is not None and value <= popular for value in values.values()):
        return "not above popularity: train longer (--set epochs=N, max_seconds=N), or on more events"
    return "for use, train on more of them: --holdout validation (docs/training.md)"


def _title_features(options: argparse.Namespace, log: EventLog) -> Any:
    if not options.text or log.titles is None:
        return None
    from lsif_sdk.text import embed_titles

    return embed_titles(log.given_titles(), options.text, progress=not options.quiet)


def _with_titles(options: argparse.Namespace, log: EventLog) -> EventLog:
    from lsif_sdk.event_log import read_titles

    titles = read_titles(
        options.titles, item=options.title_item, title=options.title_column, separator=options.title_separator
    )
    titled = log.with_titles(titles)
    if not options.quiet:
        known = sum(map(bool, titled.given_titles()))
        print(f"{known:,} of {log.num_items:,} items have a title", file=sys.stderr)
    return titled


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


def evaluate(options: argparse.Namespace) -> int:
    """Compares an artifact with popularity."""
    from lsif_sdk.evaluation import compare, format_table
    from lsif_sdk.evaluation.behaviour import behaviour
    from lsif_sdk.evaluation.html_report import check_plots, write_report
    from lsif_sdk.evaluation.provenance import split_as_trained

    as_ks(options.k)  # before the events are read, which may take minutes
    if options.report:
        check_plots()
    recommender = Recommender.load(options.model)
    log = _read_log(options)
    # Compared as text: an id that is "7" among texts in the model is a number in a file with only numbers.
    if set(map(str, recommender.items.ids)).isdisjoint(map(str, log.item_ids)):
        raise DataError(
            f"{options.events}: column {options.item!r} names no item of the model, whose ids are "
            f"{recommender.items.id_kind}"
        )
    if options.report:  # before the evaluation, which may take minutes
        _make_folder("--report", options.report)
    parts = SPLITS[options.split](log) if options.split else split_as_trained(log, [recommender])
    with _warnings_as_lines("evaluate"):
        reports = compare(
            {"lsif": recommender},
            parts,
            options.k,
            exclude_seen=_exclude_seen(options),
            progress=not options.quiet,
        )
    if options.report:
        page = write_report(options.report, reports, behaviour(recommender, parts, reports[-1]), f"{options.events}")
        print(f"wrote {on_one_line(page)}", file=sys.stderr)
    if options.json:
        print(json.dumps([report.to_dict() for report in reports], indent=2))
    else:
        print(format_table(reports))
    return 0


def _exclude_seen(options: argparse.Namespace) -> bool | None:
    return None if options.include_seen is None else not options.include_seen


def recommend(options: argparse.Namespace) -> int:
    """Prints the top items for one history."""
    recommender = Recommender.load(options.model)
    ids = recommender.items
    user = recommender.recommend(
        _history(options, ids),
        options.k,
        now=_now(options),
        exclude_seen=_exclude_seen(options),
        exclude=_ids("--exclude", options.exclude, ids),
    )[0]
    rows = [{"item": item, "title": ids.title_of(item), "score": score} for item, score in user]
    if options.json:
        answer = {"items": rows, "long_share": user.long_share, "unknown": user.unknown, "fallback": user.fallback}
        print(_as_json(answer))
        return 0
    for row in rows:
        title = "" if ids.titles is None else f"  {row['title']}"
        print(f"{row['score']:10.4f}  {on_one_line(row['item'])}{on_one_line(title)}")
    if user.unknown:
        print(f"{user.unknown} unknown item(s) of the history left out", file=sys.stderr)
    note = (
        "no known item in the history: most popular items"
        if user.fallback
        else f"long-term share {user.long_share:.0%}"
    )
    print(note, file=sys.stderr)
    return 0


def explain(options: argparse.Namespace) -> int:
    """Prints, and optionally draws, the parts of one item's score."""
    from lsif_sdk.explanation_view import as_text, draw

    recommender = Recommender.load(options.model)
    items = recommender.items
    (item,) = _ids("--item", [options.item], items)
    why = recommender.explain(_history(options, items), item, now=_now(options))
    if options.plot is not None:
        draw(why, items, options.plot)
        print(f"wrote {on_one_line(options.plot)}", file=sys.stderr)
    print(_as_json(dataclasses.asdict(why)) if options.json else as_text(why, items))
    return 0


def _make_folder(option: str, path: str) -> None:
    try:
        pathlib.Path(path).mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ArgumentError(option, "a folder, or a place for one", f"{path} ({error.strerror})") from error
    if not os.access(path, os.W_OK | os.X_OK):
        raise ArgumentError(option, "a folder this process may write to", path)


def _history(options: argparse.Namespace, table: ItemTable) -> Events:
    return Events(
        _ids("items", options.items, table),
        _moments("--times", options.times),
        _integers("--actions", options.actions),
    )


def _now(options: argparse.Namespace) -> int | None:
    return None if options.now is None else of_text("--now", options.now)


def _moments(argument: str, text: str | None) -> list[int] | None:
    return None if text is None else [of_text(argument, part) for part in text.split(",")]


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


def inspect(options: argparse.Namespace) -> int:
    """Prints the contents of an artifact."""
    artifact = Artifact.load(options.model)
    facts = {
        "format_version": FORMAT_VERSION,
        "written_by": artifact.written_by,
        "written_at": artifact.written_at,
        "model": artifact.config.to_dict() if artifact.has_encoder else {"dim": artifact.config.dim, "encoder": "none"},
        "parameters": sum(weight.numel() for name, weight in artifact.weights.items() if name != "catalog.penalty"),
        "bytes": sum(weight.numel() * weight.element_size() for weight in artifact.weights.values()),
        "items": {
            "count": len(artifact.items),
            "available": int(artifact.items.is_available(artifact.items.ids).sum()),  # not hidden, removed or expired
            "ids": artifact.items.id_kind,
            "first": artifact.items.ids[:3].tolist(),
            "titles": artifact.items.titles is not None,
        },
        "training": {name: value for name, value in artifact.training.items() if name != "targets_sample"},
        "metrics": dict(artifact.metrics),
    }
    _print_facts(facts, options.json)
    return 0


def doctor(options: argparse.Namespace) -> int:
    """Prints facts about this installation and how it runs."""
    from lsif_sdk.doctor import diagnose

    _print_facts(diagnose(), options.json)
    return 0


def _as_json(value: object) -> str:
    """JSON for people and programs: only characters that would control a terminal are escaped."""
    text = json.dumps(value, indent=2, ensure_ascii=not encodes_all())
    return "".join(c if c.isprintable() or c == "\n" else json.dumps(c)[1:-1] for c in text)


def _print_facts(facts: dict[str, Any], as_json: bool) -> None:
    if as_json:
        print(_as_json(facts))
        return
    _print_nested(facts, "")


def _print_nested(facts: dict[str, Any], indent: str) -> None:
    for name, value in facts.items():
        if isinstance(value, dict) and value:
            print(f"{indent}{on_one_line(name)}:")
            _print_nested(value, indent + "  ")
        else:
            print(f"{indent}{on_one_line(name)}: {on_one_line(value)}")
