"""lsif_sdk._core.RequestPath, the native request path, refuses arrays that it cannot read in place, by name."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import native

ARTIFACT = native.make_artifact(native.make_config())
PATH = native.request_path(ARTIFACT)
EVENTS: dict[str, Any] = {
    "items": np.array([3, 5, 7]),
    "times": None,
    "actions": None,
    "offsets": np.array([0, 1, 3]),
    "now": None,
}
REQUEST: dict[str, Any] = {
    **EVENTS, "k": 4, "exclude_seen": False, "exclude_items": np.array([1, 2]), "exclude_offsets": np.array([0, 1, 2]),
}  # fmt: skip


def refused(error: type[Exception], message: str, **changes: Any) -> None:
    with pytest.raises(error, match="^" + message + "$"):
        PATH.recommend(**{**REQUEST, **changes})


def test_what_is_refused_here_is_otherwise_answered():
    assert PATH.recommend(**REQUEST)[2].tolist() == [4, 4]
    assert PATH.encode(**EVENTS)[0].shape == (2, ARTIFACT.config.dim)


@pytest.mark.parametrize("name", [*EVENTS, "exclude_items", "exclude_offsets"])
def test_arrays_of_another_kind_are_refused_by_name(name):
    good = REQUEST[name] if REQUEST[name] is not None else np.array([1, 2, 3] if name != "now" else [1, 2])
    refused(ValueError, f"{name}: expected dtype int64, got int32", **{name: good.astype(np.int32)})
    refused(ValueError, f"{name}: expected dtype int64, got float64", **{name: good.astype(float)})
    refused(TypeError, f"{name}: expected a NumPy array, got list", **{name: good.tolist()})
    spread = np.repeat(good, 2)[::2]
    message = rf"{name}: expected a C-contiguous array, got one with strides \[16\] \(bytes\)"
    refused(ValueError, message, **{name: spread})
    if name in EVENTS:
        for wrong, error in ((good.astype(np.int32), ValueError), (good.tolist(), TypeError)):
            with pytest.raises(error, match=f"^{name}: expected"):
                PATH.encode(**{**EVENTS, name: wrong})


@pytest.mark.parametrize("name", ["items", "offsets"])
def test_arrays_that_must_be_there_are_refused_as_none(name):
    refused(TypeError, f"{name}: expected a NumPy array, got NoneType", **{name: None})


@pytest.mark.parametrize(
    ("offsets", "message"),
    [
        ([0, 2, 1], "non-decreasing values, got a decrease at position 2"),
        ([1, 1, 2], "a first value of 0, got 1"),
        ([0, 1, 1], r"a last value of 2 \(the number of rows\), got 1"),
        ([0, 2], r"shape \[3\], got \[2\]"),
    ],
)
def test_offsets_that_do_not_divide_the_excluded_rows_are_refused(offsets, message):
    refused(ValueError, "exclude_offsets: expected " + message, exclude_offsets=np.array(offsets))


def test_other_values_are_refused_by_name():
    refused(ValueError, r"k: expected an integer in \[1, 1048576\], got 0", k=0)
    refused(ValueError, "exclude_offsets: expected with exclude_items and only then, got one .*", exclude_items=None)
    refused(
        ValueError, r"exclude_items: expected rows in \[0, 53\), got 53 for user 1", exclude_items=np.array([1, 53])
    )


def test_weights_that_cannot_be_read_in_place_are_refused_by_name():
    c, weights = ARTIFACT.config, [weight.numpy() for weight in ARTIFACT.encoder_weights]
    catalog = native.Catalog.from_vectors(ARTIFACT.catalog_vectors, ARTIFACT.items, ARTIFACT.catalog_bias)
    arrays = [getattr(catalog, name).numpy() for name in ("vectors", "bias", "codes")]
    for position, change, message in (
        (0, lambda a: a.astype(float), "item_embedding: expected dtype float32, got float64"),
        (0, lambda a: a[1:], r"item_embedding: expected shape \[53, 12\], got \[52, 12\]"),
        (0, np.asfortranarray, r"item_embedding: expected a C-contiguous array, got one with strides \[4, 212\] .*"),
    ):
        changed = [change(weight) if i == position else weight for i, weight in enumerate(weights)]
        with pytest.raises(ValueError, match="^" + message + "$"):
            native._core.RequestPath(c.to_dict(), changed, *arrays, False, 1.0)


def test_another_catalogue_of_the_same_model():
    c = ARTIFACT.config
    embedding = np.concatenate([ARTIFACT.weights["item_embedding"].numpy(), np.ones((2, c.dim), np.float32)])

    def arrays(rows: np.ndarray) -> list[np.ndarray]:
        catalog = native.Catalog.from_vectors(rows)
        return [getattr(catalog, name).numpy() for name in ("vectors", "bias", "codes")]

    more = PATH.with_catalog(embedding, *arrays(embedding))
    later = {"items": np.array([3, c.num_items, c.num_items + 1]), "k": c.num_items + 2}
    assert more.recommend(**{**REQUEST, **later})[2].tolist() == [c.num_items + 1] * 2
    refused(ValueError, r"items: expected values in \[0, 52\], got 53 at position 1", items=later["items"])
    for given, rows, message in (
        (embedding[:-3], embedding[:-3], "num_items: expected at least 53, got 52"),
        (embedding, embedding[1:], r"vectors: expected shape \[55, 12\], got \[54, 12\]"),
        (embedding.astype(float), embedding, "item_embedding: expected dtype float32, got float64"),
        (embedding[0], embedding, r"item_embedding: expected shape \[0, 12\], got \[12\]"),
        (np.where(embedding == 1, np.nan, embedding), embedding, "item_embedding, its new rows: expected finite .*"),
    ):
        with pytest.raises(ValueError, match="^" + message + "$"):
            PATH.with_catalog(given, *arrays(rows))
