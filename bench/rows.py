"""What a run prints and writes: one row per implementation (bench/README.md says what each field holds)."""

from __future__ import annotations

from typing import Any

from ceilings import Ceilings, share_of_ceiling
from implementations import Case, Implementation, Quality
from measure import Timing, machine

__all__ = ["HEADER", "line_of", "row_of"]

HEADER = (
    f"{'case':10} {'parameters':66} {'impl':16} {'median us':>11} {'p10':>11} {'p90':>11} {'p99':>11} {'x':>7} "
    f"{'% of peak':>9} {'max error':>9} {'recall':>6}"
)


def row_of(
    case_name: str,
    case: Case,
    name: str,
    timing: Timing,
    quality: Quality,
    *,
    threads: int,
    base_us: float,
    ceilings: Ceilings | None,
) -> dict[str, Any]:
    """The row of one implementation; `base_us` is the median of the run's first implementation."""
    implementation: Implementation = case.implementations[name]
    median = timing.percentile(50)
    share = None
    if ceilings is not None:
        moved, flops = implementation.bytes, implementation.flops
        share = share_of_ceiling(ceilings, median / 1e6, moved, flops, implementation.unit)
        if share is not None and share > 100:  # counted work was skipped: nothing reads faster than the machine
            share = None
    return {
        "case": case_name,
        "impl": name,
        "params": {**case.params, **({"settings": dict(implementation.settings)} if implementation.settings else {})},
        "threads": threads,
        "isa": machine()["isa"],
        "median_us": median,
        "p10_us": timing.percentile(10),
        "p90_us": timing.percentile(90),
        "p99_us": timing.percentile(99),
        "samples": len(timing.samples),
        "ratio": median / base_us,
        "bytes": implementation.bytes,
        "flops": implementation.flops,
        "unit": implementation.unit,
        "pct_ceiling": share,
        "max_error": quality.max_error,
        "recall": quality.recall,
        "build_s": implementation.build_s,
        "index_bytes": implementation.index_bytes,
        "commit": machine()["commit"],
        "cpu": machine()["cpu"],
    }


def line_of(row: dict[str, Any]) -> str:
    """A row under HEADER."""
    params = " ".join(f"{key}={value}" for key, value in row["params"].items() if key != "settings")
    times = " ".join(f"{row[key]:11.1f}" for key in ("median_us", "p10_us", "p90_us", "p99_us"))
    quality = (
        f"{_or_dash(row['pct_ceiling'], '9.0f')} {_or_dash(row['max_error'], '9.1e')} {_or_dash(row['recall'], '6.3f')}"
    )
    return f"{row['case']:10} {params:66} {row['impl']:16} {times} {row['ratio']:7.2f} {quality}"


def _or_dash(value: float | None, form: str) -> str:
    width = int(form.partition(".")[0])
    return f"{'-':>{width}}" if value is None else format(value, form)
