"""Sentence embeddings of item titles, for item vectors that know what an item is (the extra "text")."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lsif_sdk.errors import ArgumentError, MissingExtraError

__all__ = ["embed_titles"]


def embed_titles(
    titles: Sequence[str], model: str | os.PathLike[str] | Any, *, batch_size: int = 256, progress: bool = False
) -> NDArray[np.float32]:
    """Embeds titles with a frozen sentence encoder; give the result to `train(..., features=...)`.

    Nothing is downloaded unless `model` is a name that the library `sentence-transformers` has to look up.

    Args:
        titles: one text an item, in row order (`EventLog.titles`); an empty one says nothing.
        model: a folder with a sentence-transformers model, or a loaded `SentenceTransformer`.
        batch_size: titles encoded at once.
        progress: show a progress bar.

    Returns:
        Unit vectors float32 [num_items, feature_dim]; zeros for empty titles.

    Raises:
        ArgumentError: there are no titles, all are empty, or one is not text.
        MissingExtraError: sentence-transformers is not installed.
    """
    if len(titles) == 0 or not all(isinstance(title, str) for title in titles):
        raise ArgumentError("titles", "at least one text, and texts only", type(titles).__name__)
    if isinstance(model, (str, os.PathLike)):
        try:
            from sentence_transformers import SentenceTransformer
        except ImportError as error:
            raise MissingExtraError("text features", "sentence-transformers", "text") from error
        model = SentenceTransformer(os.fspath(model), device="cpu")
    told = np.array([bool(title.strip()) for title in titles])
    if not told.any():
        raise ArgumentError("titles", "at least one that is not empty", "only empty ones")
    vectors = model.encode(list(titles), batch_size=batch_size, show_progress_bar=progress, normalize_embeddings=True)
    vectors = np.asarray(vectors, dtype=np.float32)
    return np.where(told[:, None], vectors, np.float32(0))
