"""Sentence embeddings of item titles, as descriptions of items (extra "text")."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lsif_sdk.arguments import as_flag, as_integer
from lsif_sdk.errors import ArgumentError, ArgumentTypeError, MissingExtraError
from lsif_sdk.float_arrays import as_floats
from lsif_sdk.ids import as_list

__all__ = ["embed_titles"]


def embed_titles(
    titles: Sequence[str], model: str | os.PathLike[str] | Any, *, batch_size: int = 256, progress: bool = False
) -> NDArray[np.float32]:
    """Embeds titles with a frozen sentence encoder; give the result to `train(..., features=...)`.

    Nothing is downloaded unless `model` is a name that the library `sentence-transformers` has to look up.

    Args:
        titles: one text per item, in row order (`EventLog.titles`); an empty one is no description.
        model: a folder with a sentence-transformers model, or a loaded `SentenceTransformer`.
        batch_size: how many titles to encode at once.
        progress: show a progress bar.

    Returns:
        Unit vectors float32 [num_items, feature_dim]; zeros for empty titles.

    Raises:
        ArgumentError: there are no titles, all are empty, or one is not text; or the model does not make one finite
            vector per title.
        ArgumentTypeError: an argument is of the wrong type.
        MissingExtraError: sentence-transformers is not installed.
    """
    texts = as_list("titles", titles)
    if not texts or not all(isinstance(title, str) for title in texts):
        raise ArgumentError("titles", "at least one text, and texts only", type(titles).__name__)
    batch_size, progress = as_integer("batch_size", batch_size, 1, 2**31 - 1), as_flag("progress", progress)
    if isinstance(model, (str, os.PathLike)):
        try:
            from sentence_transformers import SentenceTransformer
        except ImportError as error:
            raise MissingExtraError("text features", "sentence-transformers", "text") from error
        model = SentenceTransformer(os.fspath(model), device="cpu")
    if not callable(getattr(model, "encode", None)):
        raise ArgumentTypeError("model", "a folder or name, or a loaded SentenceTransformer", model)
    told = np.array([bool(title.strip()) for title in texts])
    if not told.any():
        raise ArgumentError("titles", "at least one that is not empty", "only empty ones")
    made = model.encode(texts, batch_size=batch_size, show_progress_bar=progress, normalize_embeddings=True)
    vectors = as_floats("model.encode(titles)", made, 2).numpy()
    if len(vectors) != len(texts):
        raise ArgumentError("model.encode(titles)", f"shape [{len(texts)}, feature_dim]", list(vectors.shape))
    return np.where(told[:, None], vectors, np.float32(0))
