"""Items whose vectors point the same way."""

from __future__ import annotations

import time

import numpy as np
import numpy.typing as npt
import torch

from lsif_sdk.bitmaps import in_bitmap
from lsif_sdk.catalog import Catalog
from lsif_sdk.items import ItemTable
from lsif_sdk.recommendations import Recommendations

__all__ = ["directions_of", "most_similar"]

_ROWS_PER_BLOCK = 1 << 14


def directions_of(catalog: Catalog, threads: int) -> Catalog:
    """The catalogue's vectors at length 1 (zero vectors stay zero), for cosine similarity."""
    vectors = torch.empty_like(catalog.vectors)
    # In blocks, since the lengths are taken in float64: of the whole catalogue that would be twice its size.
    for begin in range(0, len(vectors), _ROWS_PER_BLOCK):
        block = slice(begin, begin + _ROWS_PER_BLOCK)
        vectors[block] = torch.nn.functional.normalize(catalog.vectors[block].double(), dim=1)
    return Catalog.from_checked(vectors, torch.zeros(len(vectors)), catalog.items, threads or None)


def most_similar(
    directions: Catalog, items: ItemTable, rows: npt.NDArray[np.int64], k: int, threads: int, version: int
) -> Recommendations:
    """The k available items nearest to each row by cosine, the row itself left out.

    Args:
        directions: see `directions_of`.
        items: of the catalogue, as they are now.
        rows: of the items asked for.
        k: how many.
        threads: to search with; 0: all.
        version: of the snapshot.
    """
    batch = len(rows)
    unwanted = rows[:, None]
    if (available := items.available(time.time())) is not None:
        hidden = np.flatnonzero(~in_bitmap(available, np.arange(len(items))))
        unwanted = np.concatenate([unwanted, np.tile(hidden, (batch, 1))], axis=1)
    found = directions.top_k(directions.vectors[rows], k, exclude=unwanted, threads=threads or None)
    return Recommendations(
        items.take(found.indices),
        found.scores,
        found.counts,
        np.zeros(batch, np.float32),
        np.zeros(batch, np.int64),
        np.zeros(batch, np.bool_),
        version,
    )
