"""Evaluation at several k at once: each k gives the same as alone; a single k as before."""

from __future__ import annotations

import json
import tracemalloc

import numpy as np
import pandas as pd
import pytest

from evaluation_cases import make_log, random_log
from lsif_sdk.arguments import as_ks
from lsif_sdk.cli import main
from lsif_sdk.errors import ArgumentError, ArgumentTypeError
from lsif_sdk.evaluation import OwnItems, Popularity, compare, evaluate, format_table, leave_one_out, rank_gains
from lsif_sdk.evaluation.behaviour import Behaviour
from lsif_sdk.evaluation.html_report import write_report
from lsif_sdk.evaluation.metrics import MISSED, ranks_to_metrics

KS = (4, 1, 30)  # unordered, and one is more than the number of items


def reports_at(k, exclude_seen=False):
    split = leave_one_out(random_log(3))
    own = OwnItems(split.test_history, "frequency")
    return compare({"own": own}, split, k, exclude_seen=exclude_seen, progress=False)


@pytest.mark.parametrize("exclude_seen", [True, False])
def test_each_k_is_what_it_is_alone(exclude_seen):
    together, alone = reports_at(KS, exclude_seen), [reports_at(k, exclude_seen) for k in KS]
    for place, report in enumerate(together):
        singles = [reports[place] for reports in alone]
        assert report.metrics == {name: value for one in singles for name, value in one.metrics.items()}
        assert report.standard_errors == {name: value for one in singles for name, value in one.standard_errors.items()}
        assert all(np.array_equal(report.per_user, one.per_user) for one in singles)
        assert len(report.metrics) == 5 * len(KS) and len(report.standard_errors) == 3 * len(KS)


def test_every_user_is_scored_once_however_many_k():
    class Counting(Popularity):
        asked = 0

        def scores(self, user_rows):
            self.asked += len(user_rows)
            return super().scores(user_rows)

    log = random_log(3)
    scorer = Counting(np.ones(log.num_items, np.int64))
    assert evaluate(scorer, log, (1, 5, 10), progress=False).num_users == scorer.asked


@pytest.mark.parametrize(
    ("k", "kept", "ks", "in_json"),
    [
        (4, 4, (4,), 4),
        (np.int32(4), 4, (4,), 4),
        ([4], (4,), (4,), [4]),
        ((4, 1), (4, 1), (4, 1), [4, 1]),
        (np.array([4, 1]), (4, 1), (4, 1), [4, 1]),
        (range(1, 4), (1, 2, 3), (1, 2, 3), [1, 2, 3]),
        (pd.Series([4, 1], index=[7, 8]), (4, 1), (4, 1), [4, 1]),
        (pd.Index([4, 1]), (4, 1), (4, 1), [4, 1]),
    ],
)
def test_a_report_says_k_as_it_was_asked_for(k, kept, ks, in_json):
    report = evaluate(Popularity(np.ones(3, np.int64)), make_log([[0, 1, 2]], 3), k, progress=False)
    assert (report.k, report.ks) == (kept, ks) and type(report.k) is type(kept)
    values = report.to_dict()
    assert values["k"] == in_json and json.loads(json.dumps(values, allow_nan=False)) == values
    assert list(rank_gains(report.per_user, report.k)) == list(report.standard_errors)


def test_memory_is_that_of_the_catalogue_however_large_k():
    log, peaks = random_log(3), []
    scorer = Popularity(np.ones(log.num_items, np.int64))
    for k in (log.num_items, 2**20):
        tracemalloc.start()
        report = evaluate(scorer, log, k, progress=False)
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
        assert list(report.metrics) == [f"{name}@{k}" for name in ("ndcg", "hr", "mrr", "coverage", "novelty")]
    assert peaks[1] < 2 * peaks[0] + 2**20


def test_gains_and_metrics_of_ranks_at_several_k():
    ranks = np.array([1, 3, 8, MISSED])
    for several in (rank_gains, ranks_to_metrics):
        together = several(ranks, (2, 5))
        alone = several(ranks, 2) | several(ranks, 5)
        assert list(together) == list(alone)
        assert all(np.array_equal(together[name], alone[name]) for name in alone)
    assert ranks_to_metrics(ranks, (2, 5))["hr@5"] == 0.5


def test_the_table_has_a_part_for_each_k_and_one_footnote():
    *parts, last = format_table(reports_at(KS)).split("\n\n")
    last, footnote = last.rsplit("\n", 1)
    for k, part in zip(KS, [*parts, last], strict=True):
        assert format_table(reports_at(k)) == f"{part}\n{footnote}"
    with pytest.raises(ArgumentError, match="the same protocol, targets, users, items, k and masking"):
        format_table([reports_at(4)[0], reports_at((4, 1))[1]])
    assert format_table([reports_at(4)[0], reports_at([4])[1]]) == format_table(reports_at(4))
    assert format_table([reports_at(KS)[0], reports_at(KS[::-1])[1]]) == format_table(reports_at(KS))


def test_the_page_has_plots_of_the_first_k_and_a_table_for_each(tmp_path):
    pytest.importorskip("matplotlib", reason="matplotlib (the extra 'report') is not installed")
    together, alone = reports_at(KS), reports_at(KS[0])
    users = Behaviour(np.full(together[0].num_users, 3))
    page, first = (
        write_report(tmp_path / name, reports, users).read_text("utf-8")
        for name, reports in (("several", together), ("one", alone))
    )
    table = first[first.index("<table>") : first.index("</table>")]
    assert page.count("<table>") == 3 and first.count("<table>") == 1 and table in page
    assert page.count("<figcaption>NDCG@4 ") == first.count("<figcaption>NDCG@4 ") == 2
    for k in KS[1:]:
        error = together[1].standard_errors[f"ndcg@{k}"]
        assert f"<th>NDCG@{k} ± standard error</th>" in page and f"{together[1].metrics[f'hr@{k}']:.4f}" in page
        assert f"{together[1].metrics[f'ndcg@{k}']:.4f} ± {error:.4f}" in page
    of_several, of_one = (
        json.loads((tmp_path / name / "report.json").read_text("utf-8"))["models"][0] for name in ("several", "one")
    )
    for interval in ("ndcg_interval", "reference_minus_this"):
        assert of_several[interval] == of_one[interval]
    write_report(tmp_path / "reordered", [together[0], reports_at(KS[::-1])[1]], users)
    assert (tmp_path / "reordered" / "index.html").read_text("utf-8").count("<table>") == 3
    with pytest.raises(ArgumentError, match=r"reports: expected the same k, \(4, 1, 30\), got 4"):
        write_report(tmp_path / "mixed", [together[0], alone[1]], users)


@pytest.mark.parametrize(
    ("k", "error", "message"),
    [
        ((), ArgumentError, r"k: expected an integer, or different ones in a sequence, got none$"),
        ((5, 10, 5), ArgumentError, r"k: expected an integer, or different ones in a sequence, got 5 twice$"),
        ((5, 0), ArgumentError, r"k: expected an integer in \[1, 1048576\], got 0"),
        (0, ArgumentError, r"k: expected an integer in \[1, 1048576\], got 0"),
        ((5, 1.5), ArgumentTypeError, "k: expected an integer in .*, got float 1.5"),
        ((5, True), ArgumentTypeError, "k: expected an integer in .*, got bool"),
        (([5],), ArgumentTypeError, "k: expected an integer in .*, got list"),
        ("5", ArgumentTypeError, "k: expected an integer, or different ones in a sequence, got str '5'"),
        (b"5", ArgumentTypeError, "k: expected an integer, or different ones in a sequence, got bytes"),
        ({5, 10}, ArgumentTypeError, "k: expected an integer, or different ones in a sequence, got set"),
        (None, ArgumentTypeError, "k: expected an integer, or different ones in a sequence, got NoneType"),
        (
            np.array(5),
            ArgumentError,
            "k: expected .*, or different ones in a sequence, got an array without a dimension",
        ),
        (np.float64(5), ArgumentTypeError, "k: expected an integer, or different ones in a sequence, got float64"),
        (pd.Series([5.0]), ArgumentTypeError, "k: expected an integer in .*, got float 5.0"),
        (np.array([[5]]), ArgumentTypeError, "k: expected an integer in .*, got list"),
    ],
)
def test_what_is_no_k_is_refused(k, error, message):
    log = random_log(3)
    scorer = Popularity(np.ones(log.num_items, np.int64))
    calls = (
        lambda: as_ks(k),
        lambda: evaluate(scorer, log, k, progress=False),
        lambda: compare({"m": scorer}, log, k, progress=False),
    )
    for call in calls:
        with pytest.raises(error, match=message):
            call()


@pytest.mark.parametrize("text", ["x", "5,", "5,x", ",", "", "5 10"])
def test_the_command_says_what_k_is(text, capsys):
    with pytest.raises(SystemExit):
        main(["evaluate", "model", "events", f"--k={text}"])
    assert f"argument --k: expected an integer, or several with commas between, got {text!r}" in capsys.readouterr().err
