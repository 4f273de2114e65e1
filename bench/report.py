"""The whole performance report in one command: `python bench/report.py` (or `--quick`), docs/performance.md and PNGs.

Each line of the plan is one run of bench/run.py in a process of its own, so that a peer that dies takes only its line
with it, and thread pools of one line do not slow down the next.
"""

from __future__ import annotations

import argparse
import datetime
import importlib.metadata
import json
import pathlib
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Sequence

from ceilings import Ceilings, measure_ceilings
from figures import figures
from report_text import Row, markdown

__all__ = ["FULL", "QUICK", "write"]

_ROOT = pathlib.Path(__file__).parents[1]
_EFFORTS = (2, 4, 8, 16, 32, 64, 128, 256)
_LEAST_OF_GRAPHS = 16  # least effort of graph indexes, which must look at k items or more
_TARGETS = (0.5, 0.8, 0.9, 0.95, 0.99, 0.999)


def _sweep(*indexes: str) -> str:
    """A sweep of latency against recall: ours at several targets, other indexes at several efforts."""
    ours = ["lsif", *(f"lsif_recall@{target}" for target in _TARGETS)]
    theirs = [
        f"{index}@{effort}"
        for index in indexes
        for effort in _EFFORTS
        if effort >= _LEAST_OF_GRAPHS or index not in ("hnswlib", "usearch")
    ]
    return ",".join([*ours, *theirs])


_TREES_AND_GRAPHS = _sweep("scann_tree", "faiss_ivf", "faiss_ivfpq", "hnswlib", "usearch")

_SIZES = [10_000, 30_000, 100_000, 300_000, 1_000_000]
_ENCODERS = [(dim, seq_len, 1) for dim in (64, 128) for seq_len in (50, 200)] + [(64, 50, 128)]
_PACKAGES = ["torch", "numpy", "faiss-cpu", "scann", "implicit", "hnswlib", "usearch", "onnxruntime", "openvino"]

FULL = [
    *(f"score_topk --num-items {n} --data clustered" for n in _SIZES),
    *(f"score_topk --num-items {n} --data isotropic" for n in (100_000, 1_000_000)),
    *(f"score_topk --num-items 1000000 --data isotropic {rest}" for rest in ("--batch 16", "--batch 256", "--k 100")),
    "score_topk --num-items 1000000 --data isotropic --interests 8",
    # For comparison with the machine's ceilings: `lsif_scan` reads all rows, `lsif` skips the short ones.
    *(f"score_topk --num-items 1000000 --data isotropic --batch {batch} --impl lsif_scan" for batch in (1, 256)),
    "score_topk --num-items 300 --impl lsif",  # nearly all overhead of the call, hardly any search
    *(f"score_topk --num-items 1000000 --batch {batch}" for batch in (16, 256)),
    "score_topk --num-items 1000000 --batch 256 --threads 2",
    *(f"score_topk --num-items 1000000 --dim 128 --batch {batch}" for batch in (1, 256)),
    "score_topk --num-items 1000000 --k 100",
    *(
        f"score_topk --num-items 1000000 --allowed {share} --batch {batch}"
        for share in (0.001, 0.01)
        for batch in (1, 16)
    ),
    *(f"score_topk --num-items {n} --data isotropic --k {k}" for n, k in ((1_000, 10), (3_000, 100), (10_000, 1_000))),
    "score_topk --num-items 1000000 --interests 8",
    # Building a graph of 1M rows takes one core 5 to 15 minutes: only the faster index is measured.
    f"score_topk --num-items 1000000 --impl {_sweep('scann_tree', 'faiss_ivf', 'faiss_ivfpq', 'hnswlib')}",
    f"score_topk --num-items 100000 --data isotropic --impl {_TREES_AND_GRAPHS}",
    *(f"encode --dim {dim} --seq-len {seq_len} --batch {batch}" for dim, seq_len, batch in _ENCODERS),
    "encode --model hstu",
    "append --model hstu",
    "append --model hstu --seq-len 10000 --impl lsif,lsif_vector",
    *(f"recommend --num-items {n} --data {data}" for n in (10_000, 100_000) for data in ("clustered", "isotropic")),
    "recommend --num-items 1000000",
    "recommend --batch 256",
    "load --num-items 100000",
]
QUICK = [
    *(f"score_topk --num-items {n}" for n in (3_000, 10_000, 30_000)),
    "score_topk --num-items 10000 --batch 16",
    f"score_topk --num-items 10000 --impl {_TREES_AND_GRAPHS}",
    "encode --impl lsif,torch,onnxruntime,openvino_f32",
    "recommend --num-items 10000",
    "load --num-items 10000",
]


def measure(plan: Iterable[str], seconds: float, folder: pathlib.Path) -> tuple[list[Row], list[Ceilings]]:
    """Runs the plan; returns its rows, and the ceilings by threads. A line that fails is reported on stderr."""
    rows_file, ceilings_file = folder / "rows.jsonl", folder / "ceilings.json"
    common = ["--seconds", str(seconds), "--json", str(rows_file), "--ceilings", str(ceilings_file)]
    common += ["--indexes", str(folder / "indexes")]
    for line in plan:
        print(f"== {line}", flush=True)
        command = [sys.executable, str(_ROOT / "bench" / "run.py"), *line.split(), *common]
        done = subprocess.run(command, check=False)
        if done.returncode:
            print(f"{line}: ended with status {done.returncode}", file=sys.stderr)
    rows = read_rows(rows_file)
    threads = sorted({row["threads"] for row in rows})
    return rows, [found for count in threads if (found := measure_ceilings(count, ceilings_file))]


def read_rows(path: pathlib.Path) -> list[Row]:
    """Rows that bench/run.py wrote; none if there is no such file."""
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def write(
    rows: Sequence[Row], ceilings: Sequence[Ceilings], versions: Sequence[str], command: str, target: pathlib.Path
) -> list[pathlib.Path]:
    """Writes the page and, beside it, the figures for which the rows have data; returns all files."""
    target.parent.mkdir(parents=True, exist_ok=True)
    images = figures(rows, ceilings, target)
    day = datetime.date.today().isoformat()
    target.write_text(markdown(rows, ceilings, versions, command, day, [image.name for image in images]))
    return [target, *images]


def installed_versions() -> list[str]:
    """Versions of Python and of the installed packages."""
    found = [f"CPython {sys.version.split()[0]}"]
    for name in _PACKAGES:
        try:
            found.append(f"{name} {importlib.metadata.version(name)}")
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="small sizes: shows that it works, not how fast it is")
    parser.add_argument("--seconds", type=float, help="time to spend on a line of the plan; default 10, quick .5")
    parser.add_argument("--out", type=pathlib.Path, default=_ROOT / "docs" / "performance.md")
    parser.add_argument("--rows", type=pathlib.Path, help="folder to keep rows, ceilings and graphs in")
    parser.add_argument("--only-write", action="store_true", help="measure nothing: use what --rows holds")
    options = parser.parse_args(arguments)
    if options.only_write and not options.rows:
        parser.error("--only-write needs --rows")
    with tempfile.TemporaryDirectory() as scratch:
        folder: pathlib.Path = options.rows or pathlib.Path(scratch)
        folder.mkdir(parents=True, exist_ok=True)
        plan = [] if options.only_write else QUICK if options.quick else FULL
        seconds = options.seconds or (0.5 if options.quick else 10.0)
        rows, ceilings = measure(plan, seconds, folder)
    if not rows:
        raise SystemExit("no rows: nothing written")
    command = "python bench/report.py" + (" --quick" if options.quick else "")
    command += f" --seconds {options.seconds:g}" if options.seconds else ""
    for path in write(rows, ceilings, installed_versions(), command, options.out):
        print(path)


if __name__ == "__main__":
    main()
