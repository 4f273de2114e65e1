"""ContentAdapter: rows from the nearest descriptions, their calibration, and `train(features=)`."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch

from lsif_sdk import ContentAdapter, Events, ModelConfig, Recommender
from lsif_sdk.datasets import simulated_shop
from lsif_sdk.errors import ArgumentError, ArgumentTypeError
from lsif_sdk.evaluation import evaluate, leave_one_out
from lsif_sdk.model import InterestFusionModel
from lsif_sdk.training import train
from lsif_sdk.training.pipeline import describe_items

NUM_ITEMS, NUM_FEATURES, DIM, NUM_USERS = 60, 6, 4, 80


def _world(seed=0, spread=1.0):
    """Described items, a third without events, and users whose targets are drawn by their scores."""
    rng = np.random.default_rng(seed)
    features = rng.normal(size=(NUM_ITEMS, NUM_FEATURES))
    vectors = features[:, :DIM] + 0.3 * rng.normal(size=(NUM_ITEMS, DIM))
    bias = rng.normal(size=NUM_ITEMS)
    counts = rng.integers(1, 30, NUM_ITEMS) * (rng.random(NUM_ITEMS) > 1 / 3)
    users = spread * rng.normal(size=(NUM_USERS, DIM))
    scores = np.where(counts > 0, users @ vectors.T + bias, -np.inf)
    targets = (scores + rng.gumbel(size=scores.shape)).argmax(axis=1)
    return {
        "features": features,
        "vectors": vectors,
        "bias": bias,
        "counts": counts,
        "users": users,
        "targets": targets,
    }


def _mean_of_nearest(world, chosen, feature, neighbours, temperature):
    """The docstring's formula for one description, in float64."""
    rows = np.flatnonzero(chosen)
    known = world["features"][rows]
    cosine = known @ feature / (np.linalg.norm(known, axis=1) * np.linalg.norm(feature))
    best = np.argsort(-cosine)[:neighbours]
    weights = np.exp(cosine[best] / temperature)
    weights /= weights.sum()
    return weights @ world["vectors"][rows[best]], weights @ world["bias"][rows[best]]


@pytest.mark.parametrize(("neighbours", "temperature"), [(1, 0.05), (3, 0.05), (5, 1.0), (1000, 0.2)])
def test_new_items_get_the_weighted_mean_of_the_nearest(neighbours, temperature):
    world = _world()
    adapter = ContentAdapter.fit(**world, neighbours=neighbours, temperature=temperature)
    new = np.random.default_rng(1).normal(size=(7, NUM_FEATURES)) * 10
    found = adapter.items(new, exploration=0.25)
    for row, feature in enumerate(new):
        vector, bias = _mean_of_nearest(world, world["counts"] > 0, feature, neighbours, temperature)
        # Cosines in float32, divided by the temperature: relative errors of the weights of about 2^-22 / temperature.
        np.testing.assert_allclose(found.vectors[row], vector, atol=2e-5)
        np.testing.assert_allclose(found.bias[row], bias + adapter.calibration + 0.25, atol=2e-5)


def test_known_items_lie_between_their_own_vector_and_their_description():
    world = _world()
    adapter = ContentAdapter.fit(**world)
    rows = adapter.catalog(exploration=0.5, prior_events=4.0)
    met = world["counts"] > 0
    for item in range(NUM_ITEMS):
        others = met & (np.arange(NUM_ITEMS) != item)
        vector, bias = _mean_of_nearest(world, others, world["features"][item], 3, 0.05)
        if met[item]:
            own = world["counts"][item] / (world["counts"][item] + 4.0)
            vector, bias = own * world["vectors"][item] + (1 - own) * vector, world["bias"][item]
        else:
            bias += adapter.calibration + 0.5
        np.testing.assert_allclose(rows.vectors[item], vector, atol=2e-5)
        np.testing.assert_allclose(rows.bias[item], bias, atol=2e-5)
    unchanged = adapter.catalog(prior_events=0.0)
    np.testing.assert_array_equal(unchanged.vectors[met], world["vectors"][met].astype(np.float32))


def test_calibrated_items_are_shown_as_often_as_they_are_met():
    world = _world(spread=2.0)
    adapter = ContentAdapter.fit(**world, seed=3)
    met = np.flatnonzero(world["counts"] > 0)
    fold = np.random.default_rng(3).permutation(len(met)) % 5
    shown = 0.0
    for part in range(5):
        kept = np.isin(np.arange(NUM_ITEMS), met[fold != part])
        scores = world["users"] @ world["vectors"].T + world["bias"]
        for item in met[fold == part]:
            vector, bias = _mean_of_nearest(world, kept, world["features"][item], 3, 0.05)
            scores[:, item] = world["users"] @ vector + bias + adapter.calibration
        probability = np.exp(scores[:, met] - np.logaddexp.reduce(scores[:, met], axis=1, keepdims=True))
        shown += probability[:, fold == part].sum()
    assert shown == pytest.approx(NUM_USERS, rel=1e-4)
    assert abs(adapter.calibration) < 10


def test_items_without_a_description_stay_as_they_are_and_teach_nothing():
    world = _world()
    blank = np.arange(0, NUM_ITEMS, 4)
    world["features"][blank] = 0
    adapter = ContentAdapter.fit(**world)
    rows = adapter.catalog()
    np.testing.assert_array_equal(rows.vectors[blank], world["vectors"][blank].astype(np.float32))
    np.testing.assert_array_equal(rows.bias[blank], world["bias"][blank].astype(np.float32))
    spoilt = {**world, "vectors": world["vectors"].copy()}
    spoilt["vectors"][blank] = 1e3
    new = np.random.default_rng(2).normal(size=(3, NUM_FEATURES))
    np.testing.assert_array_equal(adapter.items(new).vectors, ContentAdapter.fit(**spoilt).items(new).vectors)


@pytest.mark.parametrize(
    ("change", "argument"),
    [
        ({"features": np.full((NUM_ITEMS, 2), np.nan)}, "features"),
        ({"features": np.zeros(3)}, "features"),
        ({"features": np.zeros((NUM_ITEMS, 2))}, "counts, features"),
        ({"vectors": np.zeros((3, DIM))}, "vectors"),
        ({"bias": np.zeros((NUM_ITEMS, 1))}, "bias"),
        ({"bias": np.full(NUM_ITEMS, np.inf)}, "bias"),
        ({"counts": np.zeros(NUM_ITEMS)}, "counts"),
        ({"counts": np.full(NUM_ITEMS, -1)}, "counts"),
        ({"users": np.zeros((NUM_USERS, DIM + 1))}, "users"),
        ({"users": np.zeros((5, DIM))}, "targets"),
        ({"users": np.zeros((0, DIM)), "targets": np.zeros(0, int)}, "targets"),
        ({"targets": np.full(NUM_USERS, NUM_ITEMS)}, "targets"),
        ({"targets": np.full(NUM_USERS, -1)}, "targets"),
        ({"targets": np.zeros(NUM_USERS)}, "targets"),
        ({"neighbours": 0}, "neighbours"),
        ({"temperature": 0.0}, "temperature"),
        ({"temperature": 1e-320}, r"^temperature: expected a number in \[1\.17"),
        ({"seed": -1}, r"^seed: expected an integer in \[0, 9223372036854775807\], got -1"),
        ({"seed": "x"}, "^seed: expected an integer in .*, got str 'x'"),
        ({"seed": None}, "^seed: expected an integer in .*, got NoneType"),
        ({"features": np.full((NUM_ITEMS, 2), np.inf)}, r"^features: expected finite float32 values, got inf at"),
        ({"features": np.full((NUM_ITEMS, 2), 1e39)}, r"^features: expected finite float32 values, got inf at"),
        ({"features": [["a"]] * NUM_ITEMS}, "^features: expected an array of numbers, got list"),
        ({"vectors": np.full((NUM_ITEMS, DIM), 1j)}, "^vectors: expected an array of numbers, not of complex128"),
        ({"bias": np.full(NUM_ITEMS, 1e300)}, r"^bias: expected finite float32 values, got inf at position \[0\]"),
        *(
            ({name: odd}, f"^{name}: expected")
            for name in ("bias", "counts", "targets")
            for odd in (
                [[1], [1, 2]],
                ["a"] * NUM_ITEMS,
                np.full(NUM_ITEMS, 1j),
                np.ma.masked_array(np.ones(NUM_ITEMS), np.ones(NUM_ITEMS)),
            )
        ),
        ({"targets": torch.ones(NUM_USERS, dtype=torch.bfloat16)}, "^targets: expected one dimension, as NumPy reads"),
    ],
)
@pytest.mark.filterwarnings("error")
def test_bad_arguments_are_named(change, argument):
    with pytest.raises((ArgumentError, ArgumentTypeError), match=argument):
        ContentAdapter.fit(**_world() | change)


def test_tensors_of_any_kind_are_read_as_a_catalogue_reads_them():
    world = _world()
    for name in ("bias", "counts"):
        rounded = torch.tensor(world[name], dtype=torch.bfloat16)
        expected = ContentAdapter.fit(**world | {name: rounded.float().numpy()})
        for tensor in (rounded, rounded.float().requires_grad_()):
            assert ContentAdapter.fit(**world | {name: tensor}).calibration == expected.calibration


def test_bad_descriptions_are_refused():
    adapter = ContentAdapter.fit(**_world())
    with pytest.raises(ArgumentError, match="features"):
        adapter.items(np.ones((2, NUM_FEATURES + 1)))
    with pytest.raises(ArgumentError, match="zeros in row 1"):
        adapter.items(np.eye(2, NUM_FEATURES) * [[1], [0]])
    with pytest.raises(ArgumentError, match="exploration"):
        adapter.items(np.ones((2, NUM_FEATURES)), exploration=np.nan)
    with pytest.raises(ArgumentError, match="prior_events"):
        adapter.catalog(prior_events=-1.0)
    assert adapter.items(np.zeros((0, NUM_FEATURES))).vectors.shape == (0, DIM)


def test_items_without_events_are_found_by_their_description():
    log = simulated_shop(300, 60, seed=2)
    words = sorted({word for title in log.titles for word in title.split()[:-1]})  # the last one is a number
    features = np.array([[word in title.split() for word in words] for title in log.titles], np.float32)
    cold = np.random.default_rng(0).random(log.num_items) < 0.15
    known = log.select(~cold[log.items])
    settings = {"epochs": 12, "patience": 12}
    shape = {"dim": 16, "num_layers": 1, "num_heads": 2}
    split = leave_one_out(log)
    history = split.test_history.select(~cold[split.test_history.items])
    targets = np.where(cold[split.test_items] & (split.test_items >= 0), split.test_items, -1)
    targets[history.lengths == 0] = -1
    of_cold = dataclasses.replace(split, test_history=history, test_items=targets)
    recall = {
        name: evaluate(train(known, shape, settings, features=rows, progress=False), of_cold, progress=False)
        for name, rows in (("ids", None), ("titles", features))
    }
    assert recall["titles"].num_users > 20
    assert recall["titles"].metrics["hr@10"] > recall["ids"].metrics["hr@10"] + 0.2


def test_a_model_is_described_by_its_own_users():
    """`describe_items` gives the adapter each user's vector before the newest event, and that event's item."""
    log = simulated_shop(50, 40, seed=1)
    features = np.random.default_rng(0).normal(size=(40, 5)).astype(np.float32)
    torch.manual_seed(0)
    config = ModelConfig(num_items=40, dim=8, num_layers=1, num_heads=2, request_time=log.times is not None)
    model = InterestFusionModel(config).eval()
    torch.nn.init.normal_(model.item_embedding)
    users, targets = [], []
    for user in range(log.num_users):
        events = log.user(user)
        *before, newest = range(len(events.items))
        with torch.inference_mode():
            encoded = model.encode(
                torch.from_numpy(events.items[before]),
                None if events.times is None else torch.from_numpy(events.times[before]),
                offsets=torch.tensor([0, len(before)]),
                now=None if events.times is None else torch.from_numpy(events.times[newest:]),
            )
        users.append(encoded.fused.numpy()[0])
        targets.append(events.items[newest])
    rows = [part.detach().numpy().copy() for part in model.catalog_rows()]
    counts = np.bincount(log.items, minlength=40)
    expected = ContentAdapter.fit(features, *rows, counts, np.array(users), np.array(targets))
    adapter = describe_items(model, log, features)
    assert adapter.calibration == pytest.approx(expected.calibration, abs=1e-4)
    np.testing.assert_allclose(model.item_embedding.detach(), expected.catalog().vectors, atol=1e-6)
    np.testing.assert_allclose(model.catalog.bias.detach(), expected.catalog().bias, atol=1e-4)


def test_features_that_do_not_describe_the_items_are_refused():
    log = simulated_shop(20, 10)
    for bad, message in (
        (np.ones((9, 2), np.float32), r"features: expected floats of shape \[10, feature_dim\]"),
        (np.ones((10, 2), np.int64), "features: expected floats"),
        (np.ones(10, np.float32), "features: expected floats"),
        (np.full((10, 2), np.nan, np.float32), "features: expected finite numbers"),
    ):
        with pytest.raises(ArgumentError, match=message):
            train(log, {"dim": 8}, {"epochs": 1}, features=bad, progress=False)
    with pytest.raises(ArgumentError, match="normalize_items: expected False"):
        train(log, {"normalize_items": True}, features=np.ones((10, 2), np.float32), progress=False)


def test_a_described_model_is_served_like_any_other(tmp_path):
    log = simulated_shop(40, 12)
    features = np.random.default_rng(0).normal(size=(12, 5)).astype(np.float32)
    recommender = train(log, {"dim": 8, "num_layers": 1}, {"epochs": 1}, features=features, progress=False)
    recommender.save(tmp_path / "model")
    history = Events([log.item_ids[0], log.item_ids[3]])
    loaded = Recommender.load(tmp_path / "model")
    assert np.array_equal(loaded.recommend(history).items, recommender.recommend(history).items)
