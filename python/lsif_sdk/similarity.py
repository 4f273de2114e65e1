"""Similar items: those with nearest vectors by cosine."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import torch

from lsif_sdk.bitmaps import Bitmap
from lsif_sdk.catalog import Catalog
from lsif_sdk.grown_rows import replaced
from lsif_sdk.items import ItemTable
from lsif_sdk.native_errors import native_errors
from lsif_sdk.ops import ops
from lsif_sdk.recommendations import Recommendations

__all__ = ["carried_over", "directions_of", "most_similar", "nearest"]

_ROWS_PER_BLOCK = 1 << 14


def directions_of(catalog: Catalog, threads: int) -> Catalog:
    """A catalogue of the vectors scaled to length 1 (zero vectors stay zero), for cosine similarity."""
    vectors = torch.from_numpy(_directions(catalog.vectors.numpy()))
    return Catalog.from_checked(vectors, _zeros(len(vectors)), catalog.items, threads or None)


def carried_over(
    directions: Catalog, before: Catalog, after: Catalog, threads: int, changed: npt.NDArray[np.int64] | None
) -> Catalog:
    """`directions_of(after)`, derived from that of an earlier catalogue of the same items or fewer.

    Only vectors that differ are computed and coded again; the order of the codes stays.

    Args:
        directions: `directions_of(before)`.
        before: the earlier one.
        after: the later one.
        threads: to code with; 0: all.
        changed: rows of `before` that include all that differ; None: not known.
    """
    old, new = before.vectors.numpy(), after.vectors.numpy()
    num_old = len(old)
    if changed is None:
        changed = _rows_that_differ(old, new[:num_old])
    rows = np.concatenate([changed, np.arange(num_old, len(new))])
    vectors = replaced(directions.vectors, len(new) - num_old, rows, _directions(new[rows]))
    bias = _zeros(len(new))
    with torch.inference_mode(), native_errors():
        codes = ops.update_codes(vectors, bias, directions.codes, num_old, torch.from_numpy(changed), threads)
    return Catalog.from_checked(vectors, bias, after.items, codes=codes)


def most_similar(
    directions: Catalog,
    items: ItemTable,
    rows: npt.NDArray[np.int64],
    k: int,
    excluded: tuple[npt.NDArray[np.int64] | None, npt.NDArray[np.int64] | None],
    allowed: Sequence[Bitmap | None] | None,
    threads: int,
    version: int,
) -> Recommendations:
    """The k items nearest to each row by cosine, without the row itself.

    Args:
        directions: see `directions_of`.
        items: current items of the catalogue.
        rows: the given items.
        k: how many.
        excluded: more rows to leave out, ragged, for each given row: rows and offsets, or two None.
        allowed: a bitmap of the rows that may be found, for each given row; None: all.
        threads: to search with; 0: all.
        version: of the snapshot.
    """
    batch = len(rows)
    unwanted = rows, np.arange(batch + 1)
    others, offsets = excluded
    if others is not None and offsets is not None:
        unwanted = np.insert(others, offsets[:-1], rows), offsets + unwanted[1]
    queries = directions.vectors.numpy()[rows]
    return nearest(directions, items, queries, k, unwanted, allowed, threads, version)


def nearest(
    catalog: Catalog,
    items: ItemTable,
    queries: npt.NDArray[np.float32],
    k: int,
    excluded: tuple[npt.NDArray[np.int64] | None, npt.NDArray[np.int64] | None],
    allowed: Sequence[Bitmap | None] | None,
    threads: int,
    version: int,
) -> Recommendations:
    """The k best items for each query, float32 [batch, dim]; the other arguments are as in `most_similar`."""
    others, offsets = excluded
    unwanted = None if others is None or offsets is None else (others, offsets)
    found = catalog.search(queries, None, 1.0, k, unwanted, threads or None, allowed=allowed)
    batch = len(queries)
    return Recommendations(
        items.take(found.indices),
        found.scores,
        found.counts,
        np.zeros(batch, np.float32),
        np.zeros(batch, np.int64),
        np.zeros(batch, np.bool_),
        version,
    )


# By NumPy, in this thread alone: torch's threads would take CPUs from other requests, and a forked child of a process
# that has used them would wait for ever, since it does not have them.
def _zeros(size: int) -> torch.Tensor:
    return torch.from_numpy(np.zeros(size, np.float32))


def _directions(vectors: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    result = np.empty_like(vectors)
    # In blocks, since the lengths are computed in float64, which would take twice the memory of the whole catalogue.
    for begin in range(0, len(vectors), _ROWS_PER_BLOCK):
        block = vectors[begin : begin + _ROWS_PER_BLOCK].astype(np.float64)
        lengths = np.sqrt(np.einsum("ij,ij->i", block, block))
        lengths[lengths == 0] = 1
        result[begin : begin + _ROWS_PER_BLOCK] = block / lengths[:, None]
    return result


def _rows_that_differ(old: npt.NDArray[np.float32], new: npt.NDArray[np.float32]) -> npt.NDArray[np.int64]:
    blocks = [slice(begin, begin + _ROWS_PER_BLOCK) for begin in range(0, max(1, len(old)), _ROWS_PER_BLOCK)]
    return np.concatenate(
        [block.start + np.flatnonzero((old[block] != new[block]).any(axis=1)) for block in blocks]
    ).astype(np.int64)
