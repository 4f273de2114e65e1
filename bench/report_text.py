"""The text of docs/performance.md from rows of bench/run.py."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any

from ceilings import Ceilings

__all__ = ["Row", "markdown", "title_of"]

Row = dict[str, Any]

_NAMES = {"num_items": "items", "seq_len": "events"}
_APPROXIMATE = {"lsif_recall", "scann_tree", "faiss_ivf", "faiss_ivfpq", "hnswlib", "usearch"}
_SHOWN_SIZES = (1 << 15, 1 << 19, 1 << 23, 1 << 25, 1 << 30)


def markdown(
    rows: Sequence[Row],
    ceilings: Sequence[Ceilings],
    versions: Sequence[str],
    command: str,
    day: str,
    images: Sequence[str],
) -> str:
    """The page: machine and versions, ceilings, figures, one table per measurement, and what the columns mean."""
    parts = [
        "# Performance",
        f"Written by `{command}` on {day}; do not edit. bench/README.md says how each figure is measured and how peers "
        "are set. Ratios hold within one table, whose implementations took turns; absolute figures drift on shared "
        "machines.",
        _machine(rows, versions),
        "No figure here is of a GPU: [cuda.md](cuda.md) has those.",
    ]
    if ceilings:
        parts += ["## What the machine can do", _ceilings(ceilings)]
    if images:
        parts += ["## Figures", *(f"![{name.removesuffix('.png')}]({name})" for name in images)]
    parts.append("## Measurements")
    for _, group in itertools.groupby(rows, key=title_of):
        parts.append(_table(list(group)))
    return "\n\n".join(parts) + "\n"


def title_of(row: Row) -> str:
    """The title of a row's measurement; all rows of one measurement have the same."""
    sizes = [
        f"{value:,} {_NAMES[key]}" if key in _NAMES else f"{key} {value}"
        for key, value in row["params"].items()
        if key != "settings"
    ]
    threads = f"{row['threads']} thread{'s' if row['threads'] > 1 else ''}"
    return f"{row['case']}: {', '.join([*sizes, threads])}"


def _machine(rows: Sequence[Row], versions: Sequence[str]) -> str:
    # There can be several values of each, if the rows are of several runs.
    cpu, isa, commit = (", ".join(sorted({str(row[key]) for row in rows})) for key in ("cpu", "isa", "commit"))
    return f"CPU {cpu}; our kernels {isa}; commit {commit}; {', '.join(versions)}."


def _ceilings(ceilings: Sequence[Ceilings]) -> str:
    head = ["threads", *(_bytes(size) for size in _SHOWN_SIZES), *ceilings[0].peaks]
    lines = [
        [
            str(one.threads),
            *(f"{one.bandwidth_at(size) / 1e9:.1f}" for size in _SHOWN_SIZES),
            *(f"{peak / 1e9:.0f} ({one.instructions[name]})" if peak else "none" for name, peak in one.peaks.items()),
        ]
        for one in ceilings
    ]
    return "GB/s by working set, then 10^9 multiplications and additions a second:\n\n" + _grid(head, lines)


def _bytes(size: int) -> str:
    return f"{size >> 20} MiB" if size >= 1 << 20 else f"{size >> 10} KiB"


def _table(rows: Sequence[Row]) -> str:
    head = [
        "implementation", "median us", "p10", "p90", "p99", "times ours", "recall", "max error", "% of ceiling",
        "build s", "index MiB",
    ]  # fmt: skip
    base = next((row["median_us"] for row in rows if row["impl"] == "lsif"), rows[0]["median_us"])
    lines = [
        [
            _with_settings(row),
            *(f"{row[key]:,.1f}" for key in ("median_us", "p10_us", "p90_us", "p99_us")),
            f"{row['median_us'] / base:.2f}",
            _or_blank(row["recall"], ".3f"),
            _or_blank(row["max_error"], ".0e"),
            _or_blank(row["pct_ceiling"], ".0f"),
            _or_blank(row["build_s"], ".2f"),
            _or_blank(row["index_bytes"] and row["index_bytes"] / 2**20, ".1f"),
        ]
        for row in rows
    ]
    # Another measurement may have the same sizes, so the title needs more.
    names = {row["impl"].partition("@")[0] for row in rows}
    kind = ", exact and approximate" if _APPROXIMATE & names else ", all rows scanned" if names == {"lsif_scan"} else ""
    return f"### {title_of(rows[0])}{kind}\n\n" + _grid(head, lines)


def _with_settings(row: Row) -> str:
    settings = row["params"].get("settings", {})
    return (
        f"{row['impl']} ({', '.join(f'{key} {value}' for key, value in settings.items())})" if settings else row["impl"]
    )


def _or_blank(value: float | None, form: str) -> str:
    return "" if value is None else format(value, form)


def _grid(head: Sequence[str], lines: Sequence[Sequence[str]]) -> str:
    rule = ["---", *["---:"] * (len(head) - 1)]
    return "\n".join("| " + " | ".join(line) + " |" for line in [head, rule, *lines])
