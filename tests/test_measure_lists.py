"""Metrics of lists against a slow oracle, and refusals of what is not a list."""

from __future__ import annotations

import contextlib
import json
import math

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from evaluation_cases import random_log
from lsif_sdk.errors import ArgumentError, ArgumentTypeError, DataError
from lsif_sdk.evaluation import Popularity, evaluate, format_lists, leave_one_out, measure_lists, paired_bootstrap
from lsif_sdk.recommendations import Recommendations
from recommender_cases import build

NAMES = ("ndcg", "recall", "precision", "map", "mrr", "hr")


def pairs(wanted):
    return pd.DataFrame([(user, item) for user, items in wanted.items() for item in items], columns=["user", "item"])


def scored(lists):
    rows = [(user, item, score) for user, scores in lists.items() for item, score in scores.items()]
    return pd.DataFrame(rows, columns=["user", "item", "score"])


def in_order(lists):
    """A table of {user: items, best first}."""
    return scored({user: {item: -place for place, item in enumerate(items)} for user, items in lists.items()})


def slow_metrics(lists, wanted, k):
    """The metrics by their definitions, one user and one rank at a time."""
    gains = {f"{name}@{k}": [] for name in NAMES}
    for user, relevant in sorted(wanted.items()):
        scores = {item: score for item, score in lists.get(user, {}).items() if score > -math.inf}
        best = sorted(scores, key=lambda item: (-scores[item], item in relevant))[:k]
        hits = [rank for rank, item in enumerate(best, 1) if item in relevant]
        reachable = min(k, len(relevant))
        ideal = math.fsum(math.log(2) / math.log(1 + rank) for rank in range(1, reachable + 1))
        of_user = (
            math.fsum(math.log(2) / math.log(1 + rank) for rank in hits) / ideal,
            len(hits) / len(relevant),
            len(hits) / k,
            math.fsum(sum(other <= rank for other in hits) / rank for rank in hits) / reachable,
            1 / hits[0] if hits else 0.0,
            float(bool(hits)),
        )
        for name, gain in zip(NAMES, of_user, strict=True):
            gains[f"{name}@{k}"].append(gain)
    return gains


@st.composite
def problems(draw):
    user, item = st.integers(-2, 6), st.integers(0, 9)
    score = st.sampled_from([-math.inf, -2.5, 0.0, 1.0, 7.0, math.inf])  # few: ties are common
    wanted = draw(st.dictionaries(user, st.sets(item, min_size=1, max_size=8), min_size=1, max_size=5))
    lists = draw(st.dictionaries(user, st.dictionaries(item, score, min_size=1, max_size=10), max_size=7))
    somebody = draw(st.sampled_from(sorted(wanted)))
    return lists | {somebody: {0: 1.0}}, wanted, draw(st.randoms(use_true_random=False))


def share_no_item(lists, wanted):
    return set().union(*lists.values()).isdisjoint(set().union(*wanted.values()))


@settings(deadline=None)
@given(problems(), st.lists(st.integers(1, 12), min_size=1, max_size=3, unique=True))
def test_metrics_equal_the_slow_oracle_whatever_the_order_of_rows(problem, ks):
    lists, wanted, random = problem
    table = scored(lists)
    table = table.iloc[random.sample(range(len(table)), len(table))]
    nothing = pytest.warns(UserWarning, match="^lists: no item of relevant is in a list")
    with nothing if share_no_item(lists, wanted) else contextlib.nullcontext():
        report = measure_lists(table, pairs(wanted), ks)
    expected = {name: values for k in ks for name, values in slow_metrics(lists, wanted, k).items()}
    assert list(report.gains) == list(report.metrics) == list(report.standard_errors) == list(expected)
    assert (report.k, report.num_users) == (tuple(ks), len(wanted))
    listed = {user for user, scores in lists.items() if max(scores.values()) > -math.inf}
    assert report.num_without_list == len(set(wanted) - listed)
    assert list(report.user_ids) == sorted(wanted)
    for name, values in expected.items():
        np.testing.assert_allclose(report.gains[name], values, rtol=1e-12, err_msg=name)
        assert report.metrics[name] == pytest.approx(np.mean(values))
        if len(wanted) > 1:
            error = np.std(values, ddof=1) / math.sqrt(len(values))
            assert report.standard_errors[name] == pytest.approx(error, abs=1e-12)


def test_a_user_by_hand():
    table, wanted = in_order({"u": ["a", "x", "b", "y"], "w": ["a"]}), pairs({"u": "abc", "v": "a"})
    report = measure_lists(table, wanted, (2, 4, 10))
    assert (report.num_users, report.num_without_list, report.user_ids) == (2, 1, ["u", "v"])
    first = {name: values[0] for name, values in report.gains.items()}
    discount = [1 / math.log2(1 + rank) for rank in range(1, 4)]
    assert first["ndcg@2"] == pytest.approx(discount[0] / (discount[0] + discount[1]))
    assert first["ndcg@4"] == pytest.approx((discount[0] + discount[2]) / sum(discount))
    assert first["map@4"] == pytest.approx((1 + 2 / 3) / 3) and first["map@2"] == 1 / 2
    assert (first["recall@4"], first["precision@4"], first["precision@10"]) == (2 / 3, 2 / 4, 2 / 10)
    assert (first["mrr@2"], first["hr@2"]) == (1, 1) and first["map@10"] == first["map@4"]
    assert all(values[1] == 0 for values in report.gains.values()), "v has no list"
    assert all(report.metrics[name] == values.mean() for name, values in report.gains.items())


def test_one_k_is_a_number_and_one_user_has_no_error():
    report = measure_lists(in_order({1: [5, 6]}), pairs({1: [6]}), 3)
    values = report.to_dict()
    assert report.k == values["k"] == 3 and list(report.metrics) == [f"{name}@3" for name in NAMES]
    assert values["standard_errors"]["ndcg@3"] is None and "gains" not in values
    values = report.to_dict(per_user=True)
    assert values["user_ids"] == [1] and values["gains"]["mrr@3"] == [0.5]
    assert json.loads(json.dumps(values, allow_nan=False)) == values
    several = measure_lists(in_order({1: [5]}), pairs({1: [5]}), [3, 1])
    assert (several.to_dict()["k"], several.ks, report.ks) == ([3, 1], (3, 1), (report.k,))


@pytest.mark.parametrize("num_relevant", [1, 2, 7, 100, 1000])
def test_a_perfect_list_has_all_that_can_be_had(num_relevant):
    items = list(range(num_relevant))
    report = measure_lists(in_order({1: items}), pairs({1: items}), (1, 10, 200))
    assert all(report.metrics[f"{name}@{k}"] == 1.0 for name in ("ndcg", "map", "mrr", "hr") for k in (1, 10, 200))
    assert report.metrics["recall@10"] == min(10, num_relevant) / num_relevant
    assert report.metrics["precision@200"] == min(200, num_relevant) / 200


def test_a_constant_model_is_not_flattered_and_ranks_only_order():
    items = list(range(20))
    constant = scored({1: dict.fromkeys(items, 0.5)})
    assert measure_lists(constant, pairs({1: [0, 1]}), 18).metrics["hr@18"] == 0
    assert measure_lists(constant, pairs({1: [0, 1]}), 19).metrics["mrr@19"] == 1 / 19
    table = pd.DataFrame({"user": 1, "item": [7, 8, 9], "score": [1, 2, 3], "place": [50, 20, 30]})
    assert measure_lists(table, pairs({1: [8]}), rank="place").metrics["mrr@10"] == 1
    assert measure_lists(table, pairs({1: [8]})).metrics["mrr@10"] == 1 / 2
    assert measure_lists(table.assign(place=4), pairs({1: [8]}), rank="place").metrics["mrr@10"] == 1 / 3


def test_one_relevant_item_a_user_is_measured_as_evaluate_does():
    log = random_log(3)
    split = leave_one_out(log)
    scorer = Popularity.from_log(split.test_history)
    ks = (3, 10)
    report = evaluate(scorer, split, ks, exclude_seen=False, progress=False)
    scores = scorer.scores(report.user_rows)
    users, width = [log.user_ids[row] for row in report.user_rows], log.num_items
    table = pd.DataFrame(
        {"user": np.repeat(users, width), "item": log.item_ids * len(users), "score": np.concatenate(list(scores))}
    )
    wanted = pd.DataFrame({"user": users, "item": [log.item_ids[row] for row in split.test_items[report.user_rows]]})
    ours = measure_lists(table, wanted, ks)
    assert {name: ours.metrics[name] for name in report.standard_errors} == pytest.approx(
        {name: report.metrics[name] for name in report.standard_errors}
    )
    assert ours.standard_errors["ndcg@3"] == pytest.approx(report.standard_errors["ndcg@3"])
    assert ours.metrics["recall@10"] == ours.metrics["hr@10"] and ours.metrics["map@3"] == ours.metrics["mrr@3"]


def test_two_systems_are_compared_user_by_user():
    rng = np.random.default_rng(0)
    wanted = pairs({user: rng.choice(30, 3, replace=False) for user in range(50)})
    good = in_order({user: wanted.item[wanted.user == user].tolist() for user in range(50)})
    poor = in_order({user: rng.permutation(30)[:10].tolist() for user in rng.permutation(45)})
    ours, theirs = (measure_lists(table, wanted, 5) for table in (good, poor))
    assert ours.num_without_list == 0 and theirs.num_without_list == 5
    gain = paired_bootstrap(ours.gains["ndcg@5"], theirs.gains["ndcg@5"], num_samples=200)
    assert gain.mean == pytest.approx(ours.metrics["ndcg@5"] - theirs.metrics["ndcg@5"]) and gain.low > 0


def test_systems_side_by_side_as_text():
    wanted = pairs({1: [5], 2: [6]})
    good, poor = (measure_lists(in_order(lists), wanted, (1, 3)) for lists in ({1: [5], 2: [7, 6]}, {1: [7, 6]}))
    lines = format_lists({"good": good, "a poor one": poor}).splitlines()
    assert lines[0].split()[:7] == ["lists", "ndcg@1", "recall@1", "precision@1", "map@1", "mrr@1", "hr@1"]
    assert lines[2].startswith("good") and lines[2].split()[1:4] == ["0.5000", "±", "0.5000"]
    assert lines[3].startswith("a poor one  0.0000 ± 0.0000") and lines[3].endswith(" 1")
    assert lines[4] == "" and "ndcg@3" in lines[5] and lines[7].split()[1] == f"{(1 + 1 / np.log2(3)) / 2:.4f}"
    assert lines[9:] == ["2 users, mean ± standard error"]


def test_what_does_not_compare_is_not_put_side_by_side():
    one, two = (measure_lists(in_order({1: [5]}), pairs({1: [5]}), k) for k in (3, (2, 3)))
    other = measure_lists(in_order({1: [5]}), pairs({1: [5], 2: [5]}), 3)
    for others, error, message in (
        ({}, ArgumentError, "reports: expected at least one report, got none"),
        ([one], ArgumentTypeError, "reports: expected ListReports by name, got list"),
        ({"a": one, "b": 1}, ArgumentTypeError, "reports: expected ListReports by name, got int 1"),
        ({"a": one, "b": two}, ArgumentError, r"expected one k, 3 as of 'a', got \(2, 3\) of 'b'"),
        ({"a": one, 7: other}, ArgumentError, "expected the same users, 1 as of 'a', got others, 2, of 7"),
    ):
        with pytest.raises(error, match=message):
            format_lists(others)
    same = measure_lists(in_order({"1": [5]}), pairs({"1": [5]}), (3, 2))
    assert format_lists({20: two, 30: same}).count("1.0000") == 20  # ids match by their text, k in any order


# Recommendations


def recommendations(rows, counts):
    batch = len(counts)
    return Recommendations(
        np.array(rows),
        np.zeros(np.shape(rows), np.float32),
        np.array(counts, np.int64),
        np.zeros(batch, np.float32),
        np.zeros(batch, np.int64),
        np.zeros(batch, bool),
    )


def test_recommendations_are_measured_in_their_order_up_to_their_counts():
    answer = recommendations([[3, 1, 2], [1, -1, -1], [-1, -1, -1]], [3, 1, 0])
    wanted = {"a": [2, 9], "b": [1], "c": [1], "d": [1]}
    for users in (["c", "b", "a"], np.array(["c", "b", "a"]), pd.Index(["c", "b", "a"])):
        report = measure_lists(answer, pairs(wanted), (1, 5), users=users)
        assert report.gains["hr@1"].tolist() == [0, 1, 0, 0] and report.num_without_list == 2
    lists = {"c": {3: 0, 1: -1, 2: -2}, "b": {1: 0}}
    assert all(np.allclose(report.gains[name], values) for name, values in slow_metrics(lists, wanted, 5).items())


def test_what_a_recommender_answers_is_measured():
    recommender = build()
    ids = recommender.items.ids
    answer = recommender.recommend([[ids[0]], [ids[1], ids[2]]], k=5)
    wanted = pairs({7: [str(item) for item in answer[1].items], 8: [str(answer[0].items[1])]})
    report = measure_lists(answer, wanted, 5, users=[8, 7])
    assert report.gains["recall@5"].tolist() == [1, 1] and report.gains["mrr@5"].tolist() == [1, 0.5]


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({}, ArgumentTypeError, "users: expected the ids of the 2 users of lists, in that order, got NoneType"),
        ({"users": [1]}, ArgumentError, "users: expected the ids of the 2 users of lists, in that order, got 1"),
        ({"users": [1, 1]}, ArgumentError, "users: expected .*, all different, got 1 twice"),
        ({"users": pd.Series(["7", 7], dtype=object)}, ArgumentError, "users: expected .*, all different, got 7 twice"),
        ({"users": 12}, ArgumentTypeError, "users: expected a sequence of ids, got int 12"),
        ({"users": [True, False]}, ArgumentTypeError, "users: expected ids, got bool"),
        ({"users": [1, None]}, ArgumentError, "users: expected .*, got None at position 1"),
        ({"users": [np.nan, 1]}, ArgumentError, "users: expected .*, got nan at position 0"),
        ({"users": [1, 2], "rank": "rank"}, ArgumentError, "rank: expected nothing beside Recommendations, .* 'rank'"),
        ({"users": [1, 2], "score": "x"}, ArgumentError, "score: expected nothing beside Recommendations, .* 'x'"),
        ({"users": [8, 9]}, DataError, "lists: no user of relevant has a list; there are lists of 8, 9, and relevant"),
    ],
)
def test_users_of_recommendations_are_named(arguments, error, message):
    answer = recommendations([[3, 1], [1, 2]], [2, 2])
    with pytest.raises(error, match=message):
        measure_lists(answer, pairs({1: [3], 2: [1]}), **arguments)


def test_columns_of_recommendations_are_lists():
    answer = recommendations([[3, 1, 2], [1, -1, -1]], [3, 1])
    wanted = pairs({"a": [2, 9], "b": [1]})
    of_columns = measure_lists(answer.columns(["b", "a"]), wanted, (1, 5), rank="rank")
    assert of_columns.metrics == measure_lists(answer, wanted, (1, 5), users=["b", "a"]).metrics
    for columns, error, message in (
        ({"user": [1, 2], "item": [1], "rank": [1, 2]}, ArgumentError, "2 of 'user', 1 of 'item', 2 of 'rank'"),
        ({"user": "ann", "item": [1], "rank": [1]}, ArgumentTypeError, r"lists\['user'\]: expected a list or an array"),
        ({"user": pd.Series([1]), "item": [1], "rank": [1]}, ArgumentTypeError, "got Series"),
    ):
        with pytest.raises(error, match=message):
            measure_lists(columns, wanted, rank="rank")


def test_users_of_recommendations_may_be_called_by_large_numbers():
    answer = recommendations([[3], [1]], [1, 1])
    users = np.array([2**63 + 5, 7], np.uint64)
    assert measure_lists(answer, pairs({str(2**63 + 5): [3]}), users=users).metrics["hr@10"] == 1


def test_one_users_recommendations_are_refused_by_name():
    answer = recommendations([[3, 1], [1, 2]], [2, 2])
    for one in (answer[0], answer[0:2]):
        with pytest.raises(ArgumentTypeError, match=r"^lists: expected"):
            measure_lists(one, pairs({1: [3]}), users=[1])
    with pytest.raises(ArgumentTypeError, match="Recommendations, of several users in one call, or a table, got User"):
        measure_lists(answer[0], pairs({1: [3]}), users=[1])


def test_recommendations_of_nothing_are_no_lists():
    nothing = recommendations(np.zeros((2, 3), np.int64), [0, 0])
    for answer, users in ((nothing, [1, 2]), (recommendations(np.zeros((0, 3), np.int64), []), [])):
        with pytest.raises(DataError, match=r"no user of relevant has a list; there are lists of nobody, and .* 1$"):
            measure_lists(answer, pairs({1: [3]}), users=users)


# Tables


def test_ids_match_by_their_text(tmp_path):
    numbers = in_order({1: [10, 20], 2: [30, 10]})
    wanted = pairs({1: [20], 2: [30]})
    expected = measure_lists(numbers, wanted).to_dict(per_user=True)
    numbers.to_csv(tmp_path / "lists.csv", index=False)
    wanted.to_csv(tmp_path / "wanted.tsv", index=False, sep="\t")
    floats = numbers.astype({"user": np.float64, "item": np.float64})
    assert measure_lists(tmp_path / "lists.csv", tmp_path / "wanted.tsv").to_dict(per_user=True) == expected
    assert measure_lists(floats, wanted).to_dict(per_user=True) == expected
    assert measure_lists(numbers.astype({"user": str, "item": str}), wanted).to_dict(per_user=True) == expected
    text = measure_lists(numbers, wanted.astype(str)).to_dict(per_user=True)
    assert text == expected | {"user_ids": ["1", "2"]}
    renamed = {"user": "who", "item": "what", "score": "points"}
    names = {"user": "who", "item": "what", "score": "points"}
    assert measure_lists(numbers.rename(columns=renamed), wanted.rename(columns=renamed), **names).to_dict() == {
        name: value for name, value in expected.items() if name not in ("user_ids", "gains")
    }
    numbers.to_csv(tmp_path / "lists.txt", index=False, sep=";")
    assert measure_lists(tmp_path / "lists.txt", wanted, separator=";").to_dict(per_user=True) == expected


@pytest.mark.parametrize("dtype", ["float32", "Int64", "Float64", "object", "double[pyarrow]", "category", "uint8"])
def test_scores_of_any_type_of_numbers(dtype):
    table = pd.DataFrame({"user": 1, "item": [1, 2, 3], "score": pd.Series([3, 9, 5]).astype(dtype)})
    assert measure_lists(table, pairs({1: [3]})).metrics["mrr@10"] == 1 / 2


def changed(**columns):
    return pd.DataFrame({"user": [1, 1, 2], "item": [1, 2, 1], "score": [3.0, 2.0, 1.0]} | columns)


@pytest.mark.parametrize(
    ("lists", "arguments", "message"),
    [
        (
            changed(score=[3, np.nan, 1]),
            {},
            r"lists \(DataFrame\): column 'score', row 2: expected a number, got .*nan",
        ),
        (changed(score=[3, "x", None]), {}, r"column 'score', row 2: expected a number, got 'x' \(2 such rows\)"),
        (changed(score=pd.array([3, 2, None], "Int64")), {}, r"column 'score', row 3: expected a number, got <NA>"),
        (changed(score=[True, False, True]), {}, "column 'score': expected numbers, got bool"),
        (
            changed(score=pd.Series([True, 1, 2], dtype=object)),
            {},
            "column 'score', row 1: expected numbers, got True",
        ),
        (changed(score=pd.to_datetime(["2024-01-01"] * 3)), {}, r"column 'score': expected numbers, got datetime64"),
        (changed(score=[3j, 2, 1]), {}, "column 'score': expected numbers, got complex128"),
        (changed(score=pd.Series([3j, 2, 1], dtype=object)), {}, "column 'score': expected numbers, got complex128"),
        (changed(score=pd.period_range("2024", periods=3)), {}, "column 'score': expected numbers, got period"),
        (changed(score=pd.Series([10**400, 2, 1])), {}, "column 'score': expected numbers that float64 can hold"),
        (changed(rank=[1, np.nan, 1]), {"rank": "rank"}, "column 'rank', row 2: expected a number, got .*nan"),
        (changed(item=[1, 1, 1]), {}, r"lists \(DataFrame\): user 1 has item 1 twice, in rows 1 and 2$"),
        (changed(user=1, item=7), {}, r"user 1 has item 7 twice, in rows 1 and 2 \(2 such rows\)"),
        (changed(item=["1", None, "2"]), {}, r"lists \(DataFrame\): column 'item', row 2: an id is missing"),
        (
            changed(),
            {"score": "points"},
            r"lists \(DataFrame\): no column 'points'; .* score= \(or rank=\) names another",
        ),
        (changed(), {"rank": "place"}, r"lists \(DataFrame\): no column 'place'; .* rank= names another"),
        (changed().iloc[:0], {}, r"lists \(DataFrame\): it has no rows"),
        (changed(user=[8, 8, 9]), {}, "there are lists of 8, 9, and relevant names 1, 2, 3"),
    ],
)
def test_what_are_no_lists_is_refused(lists, arguments, message):
    with pytest.raises(DataError, match=message):
        measure_lists(lists, pairs({1: [1], 2: [1], 3: [2]}), **arguments)


def test_lists_whose_items_match_nowhere_are_told():
    message = r"^lists: no item .* lists have 1\.0, 10\.0, 2\.0, and relevant names 1, 2$"
    with pytest.warns(UserWarning, match=message) as told:
        report = measure_lists(changed(item=["10.0", "2.0", "1.0"]), pairs({1: [1], 2: [1], 3: [2]}))
    assert told[0].filename == __file__ and set(report.metrics.values()) == {0.0}


@pytest.mark.parametrize(
    ("relevant", "message"),
    [
        (pairs({1: [1, 2, 1]}), r"relevant \(DataFrame\): user 1 has item 1 twice, in rows 1 and 3$"),
        (pairs({}), r"relevant \(DataFrame\): it has no rows"),
        (pairs({1: [1]}).rename(columns={"item": "what"}), r"relevant \(DataFrame\): no column 'item'; it has"),
        (pairs({1: [1.5, np.nan]}), r"relevant \(DataFrame\): column 'item', row 2: an id is missing"),
    ],
)
def test_what_is_not_relevant_is_refused(relevant, message):
    with pytest.raises(DataError, match=message):
        measure_lists(changed(), relevant)


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"k": 0}, ArgumentError, "k: expected an integer in"),
        ({"k": (5, 5)}, ArgumentError, "k: expected an integer, or different ones"),
        ({"users": [1, 2]}, ArgumentError, "users: expected None beside a table, .* in column 'user', got list"),
        ({"user": "item"}, ArgumentError, "item: expected a column of its own, got 'item'"),
        ({"score": "item"}, ArgumentError, "score: expected a column of its own, got 'item'"),
        ({"rank": "user"}, ArgumentError, "rank: expected a column of its own, got 'user'"),
        ({"lists": [[1, 2]]}, ArgumentTypeError, "lists: expected a path, a pandas DataFrame .*, got list"),
        ({"relevant": {1: [2]}}, ArgumentTypeError, "relevant: expected a path, a pandas DataFrame .*, got dict"),
        ({"separator": ""}, ArgumentError, "separator: expected a character"),
    ],
)
def test_bad_arguments_are_refused_by_name(arguments, error, message):
    with pytest.raises(error, match=message):
        measure_lists(**{"lists": changed(), "relevant": pairs({1: [1]})} | arguments)
