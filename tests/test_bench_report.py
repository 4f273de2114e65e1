"""bench/: the arithmetic of ceilings and ratios, and the report from rows as bench/run.py writes them."""

from __future__ import annotations

import json
import shutil
import subprocess

import numpy as np
import pytest

import ceilings as ceilings_script
import report
from bench_modules import BENCH
from ceilings import Ceilings, share_of_ceiling
from compare import Ratio, compare, ratio_of
from figures import missed, recall_points, roofline_points, size_series
from report_text import markdown, title_of

CEILINGS = Ceilings(
    threads=1,
    isa="avx2",
    bandwidth=((1 << 10, 100e9), (1 << 20, 50e9), (1 << 30, 10e9)),
    peaks={"fma_f32": 100e9, "int8": 400e9, "bf16": None},
    instructions={"fma_f32": "vfmadd ymm", "int8": "vpmaddubsw ymm", "bf16": None},
)
assert BENCH.is_dir()


def row(impl="lsif", num_items=1000, median=10.0, **others):
    values = {
        "case": "score_topk", "impl": impl, "params": {"num_items": num_items, "k": 10}, "threads": 1, "isa": "avx2",
        "median_us": median, "p10_us": 0.9 * median, "p90_us": 1.1 * median, "p99_us": 2 * median, "samples": 100,
        "ratio": 1.0, "bytes": 80 * num_items, "flops": 128 * num_items, "unit": "int8", "pct_ceiling": 40.0,
        "max_error": 0.0, "recall": 1.0, "build_s": 0.5, "index_bytes": 1 << 20, "commit": "abc", "cpu": "some CPU",
    }  # fmt: skip
    return values | others


def test_bandwidth_lies_between_what_was_measured():
    assert CEILINGS.bandwidth_at(1 << 20) == 50e9
    assert CEILINGS.bandwidth_at(1 << 15) == pytest.approx(75e9)  # half-way on the logarithmic axis
    assert CEILINGS.bandwidth_at(1) == 100e9
    assert CEILINGS.bandwidth_at(1 << 40) == 10e9


def test_share_of_the_ceiling_is_the_larger_need():
    def share(**needs):
        return share_of_ceiling(CEILINGS, 1e-3, **{"moved": None, "flops": None, "unit": "int8", **needs})

    assert share(moved=1 << 20) == pytest.approx(100 * (1 << 20) / 50e9 / 1e-3)
    assert share(flops=200e6) == pytest.approx(50)  # half of the int8 peak in a millisecond
    assert share(flops=80e6, unit="fma_f32") == pytest.approx(80)
    assert share(moved=1 << 20, flops=200e6) == pytest.approx(50)
    assert share(moved=1 << 20, flops=1e6) == share(moved=1 << 20)
    assert share(flops=1e6, unit="bf16") is None  # no peak to compare with
    assert share() is None


def test_ceilings_are_read_as_they_are_written():
    assert Ceilings.from_json(CEILINGS.to_json()) == CEILINGS


def test_the_program_of_the_ceilings_prints_what_is_read(monkeypatch, tmp_path):
    if shutil.which("c++") is None:
        pytest.skip("no C++ compiler")
    monkeypatch.setattr(ceilings_script, "_PROGRAM", tmp_path / "ceilings")
    monkeypatch.setattr(ceilings_script, "_MAX_BYTES", 1 << 16)
    monkeypatch.delenv("CXX", raising=False)
    cache = tmp_path / "ceilings.json"
    found = ceilings_script.measure_ceilings(1, cache)
    assert [size for size, _ in found.bandwidth] == [1 << 15, 1 << 16]
    assert all(1e8 < rate < 1e13 for _, rate in found.bandwidth)  # no machine is slower or faster
    assert 1e8 < found.peaks["fma_f32"] < 1e13
    for name, peak in found.peaks.items():
        assert (peak is None) == (found.instructions[name] is None)
    (tmp_path / "ceilings").unlink()
    assert ceilings_script.measure_ceilings(1, cache) == found  # from the cache: the program is gone
    assert set(json.loads(cache.read_text())) == {"1"}


def test_the_program_says_how_it_is_called(tmp_path):
    if shutil.which("c++") is None:
        pytest.skip("no C++ compiler")
    program = ceilings_script._compiled()
    done = subprocess.run([program, "0"], capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "usage:" in done.stderr


def test_without_a_compiler_there_are_no_ceilings(monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(ceilings_script, "_PROGRAM", tmp_path / "ceilings")
    monkeypatch.setenv("CXX", "no-such-compiler")
    assert ceilings_script.measure_ceilings(1) is None
    assert "No C++ compiler" in capsys.readouterr().err


def test_ratio_and_its_interval():
    base, head = np.full(30, 20.0), np.full(30, 10.0)
    assert ratio_of(base, head) == (2, 2, 2)
    rng = np.random.default_rng(0)
    noise = rng.lognormal(sigma=0.1, size=200)
    value, low, high = ratio_of(12 * noise, 10 * rng.lognormal(sigma=0.1, size=200))
    assert low < 1.2 < high
    assert low < value < high
    assert high - low < 0.15
    # A turn that is slow for both does not widen the interval.
    assert ratio_of(12 * noise, 10 * noise)[1:] == pytest.approx((1.2, 1.2), rel=0.02)
    assert str(Ratio((1.5, 1.25, 1.75))) == "1.500 [1.250, 1.750]"


@pytest.mark.parametrize(("base", "head"), [([], []), ([1.0], [])])
def test_ratio_of_nothing_is_refused(base, head):
    with pytest.raises(ValueError, match=r"one or more a turn|inhomogeneous"):
        ratio_of(base, head)


def test_workers_take_turns_and_the_first_one_changes():
    class Fake:
        def __init__(self, name, time):
            self.name, self.time = name, time

        def sample(self):
            order.append(self.name)
            return [self.time, self.time, 100 * self.time]

    order: list[str] = []
    assert compare(Fake("base", 3.0), Fake("head", 2.0), seconds=0.0) == (1.5, 1.5, 1.5)
    assert order[:8] == ["head", "base", "base", "head"] * 2
    assert order.count("base") == order.count("head") >= 20


ROWS = [
    row(num_items=1000, median=10.0),
    row("faiss_flat", num_items=1000, median=25.0, params={"num_items": 1000, "k": 10, "settings": {"blas": False}}),
    row(num_items=100_000, median=500.0),
    row("faiss_flat", num_items=100_000, median=2000.0),
    row("hnswlib@8", num_items=100_000, median=20.0, recall=0.9),
    row("hnswlib@64", num_items=100_000, median=60.0, recall=0.99),
    {**row(median=100.0, bytes=None, flops=None), "case": "encode", "params": {"seq_len": 50}},
]


def test_series_of_the_figures():
    assert size_series(ROWS) == {
        "lsif": [(1000, 10.0), (100_000, 500.0)],
        "faiss_flat": [(1000, 25.0), (100_000, 2000.0)],
    }
    assert recall_points(ROWS) == {
        title_of(ROWS[2]): {
            "lsif": [(1.0, 500.0)],
            "faiss_flat": [(1.0, 2000.0)],
            "hnswlib": [(0.9, 20.0), (0.99, 60.0)],
        }
    }
    over_missed = missed({"tree": [(0.9, 20.0), (1.0, 60.0)]})
    assert over_missed["tree"] == [(pytest.approx(0.1), 20.0), (1e-4, 60.0)]
    names, intensities, rates = zip(*roofline_points(ROWS), strict=True)
    assert names == ("score_topk: 1,000 items, k 10", "score_topk: 100,000 items, k 10")
    assert intensities == pytest.approx((1.6, 1.6))
    assert rates == pytest.approx((12.8e9, 25.6e9))
    assert size_series(ROWS[:2]) == {}  # one size does not make a curve
    assert recall_points(ROWS[:4]) == {}


def test_the_page_has_a_table_a_measurement():
    page = markdown(ROWS, [CEILINGS], ["faiss-cpu 1.0"], "python x", "2026-01-02", ["a-size.png"])
    assert "`python x` on 2026-01-02" in page
    assert "CPU some CPU; our kernels avx2; commit abc; faiss-cpu 1.0." in page
    assert "![a-size](a-size.png)" in page
    assert page.count("### ") == 3
    assert f"### {title_of(ROWS[0])}\n" in page
    assert f"### {title_of(ROWS[2])}, exact and approximate\n" in page
    assert "| faiss_flat (blas False) | 25.0 | 22.5 | 27.5 | 50.0 | 2.50 | 1.000 | 0e+00 | 40 | 0.50 | 1.0 |" in page
    assert "| 1 | 75.0 |" in page  # 32 KiB
    assert "none |" in page  # bf16
    assert "encode: 50 events, 1 thread" in page


def test_report_from_rows_of_another_run(tmp_path):
    pytest.importorskip("matplotlib", reason="matplotlib (the extra 'bench') is not installed")
    folder = tmp_path / "rows"
    folder.mkdir()
    (folder / "rows.jsonl").write_text("".join(json.dumps(one) + "\n" for one in ROWS))
    (folder / "ceilings.json").write_text(json.dumps({"1": json.loads(CEILINGS.to_json())}))
    target = tmp_path / "docs" / "performance.md"
    report.main(["--only-write", "--rows", str(folder), "--out", str(target)])
    names = sorted(path.name for path in target.parent.iterdir())
    images = [f"performance-{name}.png" for name in ("recall", "roofline", "size")]
    assert names == ["performance.md", *images] or names == [*images, "performance.md"]
    assert all((target.parent / name).read_bytes().startswith(b"\x89PNG") for name in images)


def test_report_of_no_rows_is_refused(tmp_path):
    with pytest.raises(SystemExit, match="no rows"):
        report.main(["--only-write", "--rows", str(tmp_path), "--out", str(tmp_path / "page.md")])


@pytest.mark.parametrize("plan", [report.QUICK, report.FULL])
def test_plans_are_lines_of_the_command(plan):
    from bench_modules import bench_run

    options_of = bench_run().options_of
    assert all(options_of(line.split()).case for line in plan)
