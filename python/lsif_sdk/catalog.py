"""The catalogue: item vectors and biases with their integer codes, and top-k search over them."""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import torch

from lsif_sdk import _core
from lsif_sdk.arguments import as_flag, as_integer, as_k, as_threads
from lsif_sdk.bitmaps import Bitmap
from lsif_sdk.calibration import Calibration, as_recall_target, trial_queries, trial_rows, trial_search
from lsif_sdk.errors import ArgumentError
from lsif_sdk.float_arrays import as_float_array, as_floats
from lsif_sdk.fold_in import FoldedItem, fold_in
from lsif_sdk.ids import Id
from lsif_sdk.items import ItemTable
from lsif_sdk.locks import OfOneProcess, made_once
from lsif_sdk.native_errors import native_errors
from lsif_sdk.ops import ops
from lsif_sdk.row_lists import Exclude, ragged_rows

__all__ = ["Catalog", "TopK"]


class TopK(NamedTuple):
    """The best rows of each query: higher score first, then lower row.

    scores: float32 [batch, k], 0 past `counts`. indices: int64 [batch, k] row numbers, -1 past `counts`.
    counts: int64 [batch], less than k where fewer rows were left.
    """

    scores: npt.NDArray[np.float32]
    indices: npt.NDArray[np.int64]
    counts: npt.NDArray[np.int64]


@dataclasses.dataclass(frozen=True, eq=False)
class Catalog(OfOneProcess):
    """An immutable catalogue of `num_items` rows: score = query . vector + bias. Make one with `from_vectors`.

    vectors: float32 [num_items, dim]; bias: float32 [num_items]; items: ids and titles;
    codes: uint8, these vectors and biases as the search scans them (docs/score_topk.md).
    Thread-safe.
    """

    vectors: torch.Tensor
    bias: torch.Tensor
    items: ItemTable
    codes: torch.Tensor

    @classmethod
    def from_vectors(
        cls,
        vectors: torch.Tensor | npt.ArrayLike,
        ids: Sequence[Id] | npt.NDArray[Any] | ItemTable | None = None,
        bias: torch.Tensor | npt.ArrayLike | None = None,
        *,
        threads: int | None = None,
        ordered: bool | None = None,
    ) -> Catalog:
        """Makes a catalogue and builds its codes.

        A contiguous float32 array is used in place, not copied: do not change it. A read-only one is copied, since
        torch would let callers write to it; a memory map by `numpy.load(file, mmap_mode="c")` is used in place.

        Args:
            vectors: [num_items, dim], real and finite; num_items may be 0, dim is at least 1.
            ids: unique external ids, one per row; None: the row numbers.
            bias: [num_items], finite; None: zero.
            threads: how many threads build the codes; None: as many as this process may use.
            ordered: store the codes in an order that lets a search skip most of a clustered catalogue, or the short
                rows of one whose rows differ in length; building takes up to several times as long. None: if it seems
                worthwhile for exact searches (docs/score_topk.md, "Cells"), whose results do not change. Approximate
                ones (`top_k(recall_target=)`) are faster only with it, on any catalogue.

        Raises:
            ArgumentError: a shape is wrong, a value is NaN or infinite, or ids are not unique.
            ArgumentTypeError: an argument is of the wrong type.
        """
        if ordered is not None:
            ordered = as_flag("ordered", ordered)
        return cls.from_checked(*checked_items(vectors, ids, bias), threads, ordered=ordered)

    @classmethod
    def from_checked(
        cls,
        vectors: torch.Tensor,
        bias: torch.Tensor,
        items: ItemTable,
        threads: int | None = None,
        codes: torch.Tensor | None = None,
        *,
        ordered: bool | None = None,
    ) -> Catalog:
        """`from_vectors` for contiguous float32 CPU tensors, known to be finite and with one row per item.

        codes: the codes of these vectors and biases, if they exist already; None: they are built.
        """
        vectors, bias = vectors.detach(), bias.detach()
        if codes is None:
            with torch.inference_mode(), native_errors():
                codes = ops.code_catalog(vectors, bias, as_threads(threads), ordered)
        return cls(vectors, bias, items, codes)

    def with_items(self, items: ItemTable) -> Catalog:
        """A copy with another table of as many items, which shares the codes and what is derived from them."""
        twin = copy.copy(self)
        twin.__dict__["items"] = items
        return twin

    def __len__(self) -> int:
        return self.vectors.shape[0]

    def __repr__(self) -> str:
        return f"Catalog({len(self):,} items, dim={self.dim})"

    @property
    def ids(self) -> npt.NDArray[Any]:
        """External ids in row order: int64, or object with strings."""
        return self.items.ids

    @property
    def dim(self) -> int:
        """Width of the item vectors."""
        return self.vectors.shape[1]

    @property
    def code_bytes(self) -> int:
        """Memory that the codes take in addition to the vectors, in bytes; most of a search reads nothing else."""
        return self.codes.numel()

    def top_k(
        self,
        queries: torch.Tensor | npt.ArrayLike,
        k: int,
        exclude: Exclude | None = None,
        threads: int | None = None,
        recall_target: float = 1.0,
    ) -> TopK:
        """Returns the k best rows of each query by inner product plus bias: exactly, or most of them in less time.

        A score is the float64 value rounded once to float32; the exact result does not depend on batch size, threads or
        instruction set. In a snapshot of a `LiveRecommender`, rows of hidden, removed and expired items are also found
        (`recommend` leaves them out; `items.is_available` tells which).

        Args:
            queries: [batch, dim], or [dim] for a batch of one; real and finite.
            k: how many: at least 1, at most 2**20 or `num_items`, whichever is larger. It may exceed the number of
                rows.
            exclude: row numbers to leave out: one list or set for all queries, or one (or an array row, or None) per
                query; -1 is ignored.
            threads: None: as many as this process may use.
            recall_target: the share of the exact result that is enough on average, above 0; 1: all of it. Rows that are
                found have their exact score and are in order; which rows are missed may depend on batch size and
                threads. The first call with a given target and size of k calibrates the search, with rows of the
                catalogue as queries, and takes as long as a few thousand calls. If the codes are not ordered
                (`is_ordered`) an approximate search would not be faster, and the result is exact.

        Raises:
            ArgumentError: a shape is wrong, a value is not finite or out of range, or a score does not fit float32.
            ArgumentTypeError: an argument is of the wrong type.
        """
        matrix = self.as_queries(queries)
        target = as_recall_target(recall_target)
        share = 1.0 if target == 1 else self._error_share(target, as_k(k, len(self)))
        return self.search(matrix, None, 1.0, k, ragged_rows(exclude, len(matrix)), threads, share)

    def as_queries(self, queries: torch.Tensor | npt.ArrayLike) -> npt.NDArray[np.float32]:
        """Checked query vectors, float32 [batch, dim], from such an array or one of [dim]; `search` checks the values.

        Raises:
            ArgumentError: the shape is wrong, or the values are not real.
            ArgumentTypeError: not an array.
        """
        matrix = as_float_array("queries", queries)
        if matrix.ndim == 1:
            matrix = matrix[None]
        if matrix.ndim != 2 or matrix.shape[1] != self.dim:
            raise ArgumentError("queries", f"shape [batch, {self.dim}]", list(matrix.shape))
        return matrix

    def search(
        self,
        queries: npt.NDArray[np.float32],
        weights: npt.NDArray[np.float32] | None,
        temperature: float,
        k: int,
        exclude: tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]] | None,
        threads: int | None,
        error_share: float = 1.0,
        allowed: Sequence[Bitmap | None] | None = None,
    ) -> TopK:
        """`top_k` with one or several interests per query (docs/model.md, 5), on contiguous arrays.

        Args:
            queries: float32 [batch, dim] or [batch, num_interests, dim].
            weights: float32 [batch, num_interests], or None for one interest.
            temperature: tau of the log-sum-exp over interests.
            k: see `top_k`.
            exclude: ragged (rows int64 [total], -1 ignored; offsets int64 [batch + 1]).
            threads: see `top_k`.
            error_share: the share of the error that the bounds allow for; below 1, rows may be missed
                (`lsif_sdk.calibration`).
            allowed: per query a bitmap of the rows that may be found (`lsif_sdk.bitmaps`), or None; None: all rows.
        """
        unwanted = (None, None) if exclude is None else exclude
        limits = as_k(k, len(self)), *unwanted, as_threads(threads), error_share, allowed
        with native_errors():
            return TopK(*self._path.top_k(queries, weights, temperature, *limits))

    @property
    def is_ordered(self) -> bool:
        """Whether the codes are ordered so that searches can skip rows; see `from_vectors`."""
        return self._path.is_ordered

    def _error_share(self, recall_target: float, k: int) -> float:
        if not self.is_ordered:
            return 1.0
        known = self._calibration.known(recall_target, k)
        if known is not None:
            return known
        rows = trial_rows(len(self))
        queries = trial_queries(self.vectors.numpy(), rows)
        return self._calibration.error_share(recall_target, k, trial_search(self.search, rows, queries))

    @made_once
    def _calibration(self) -> Calibration:
        return Calibration()

    @made_once
    def _path(self) -> _core.CatalogPath:
        return _core.CatalogPath(self.vectors.numpy(), self.bias.numpy(), self.codes.numpy())

    def fit_item(
        self,
        met: torch.Tensor | npt.ArrayLike,
        others: torch.Tensor | npt.ArrayLike,
        *,
        place: int = 1,
        ridge: float = 100.0,
        others_weight: float = 100.0,
        threads: int | None = None,
    ) -> FoldedItem:
        """Computes the row of a new item, in closed form and without training: see `lsif_sdk.fold_in.fold_in`.

        For a user who met the item, its score should equal that of the item at `place` in the user's list; for other
        users, the average score of this catalogue's items. Only for models with `fused` scoring, whose scores are
        inner products with the catalogue.

        Args:
            met: fused vectors of users just before they met the item (`Recommender.user_vectors`), [num_met, dim].
            others: fused vectors of a sample of all users, [num_others, dim]; some thousands are enough.
            place: a position in the list, counted from 1; at most the number of items.
            ridge: see `fold_in`.
            others_weight: see `fold_in`; the larger, the less the new item displaces items of other users' lists.
            threads: None: as many as this process may use.

        Raises:
            ArgumentError: a shape is wrong, a value is not finite or out of range, or there are no users.
            ArgumentTypeError: an argument is of the wrong type.
        """
        users = {"met": as_floats("met", met, 2), "others": as_floats("others", others, 2)}
        for name, vectors in users.items():
            if vectors.shape[1] != self.dim or len(vectors) == 0:
                raise ArgumentError(name, f"shape [at least 1, {self.dim}]", list(vectors.shape))
        place = as_integer("place", place, 1, len(self))
        met_scores = self.top_k(users["met"], place, threads=threads).scores[:, -1]
        center = self.vectors.numpy().mean(axis=0, dtype=np.float64)
        other_scores = users["others"].numpy().astype(np.float64) @ center + self.bias.numpy().mean(dtype=np.float64)
        return fold_in(
            users["met"].numpy(),
            met_scores,
            users["others"].numpy(),
            other_scores,
            ridge=ridge,
            others_weight=others_weight,
        )


def checked_items(
    vectors: torch.Tensor | npt.ArrayLike,
    ids: Sequence[Id] | npt.NDArray[Any] | ItemTable | None,
    bias: torch.Tensor | npt.ArrayLike | None,
) -> tuple[torch.Tensor, torch.Tensor, ItemTable]:
    """Checked vectors [num_items, dim], biases [num_items] and ids, with the errors of `Catalog.from_vectors`."""
    matrix = as_floats("vectors", vectors, 2)
    num_items, dim = matrix.shape
    if dim < 1:
        raise ArgumentError("vectors", "at least one dimension", f"shape {list(matrix.shape)}")
    offsets = torch.from_numpy(np.zeros(num_items, np.float32)) if bias is None else as_floats("bias", bias, 1)
    if len(offsets) != num_items:
        raise ArgumentError("bias", f"shape [{num_items}]", list(offsets.shape))
    table = ids if isinstance(ids, ItemTable) else ItemTable(np.arange(num_items) if ids is None else ids)
    if len(table) != num_items:
        raise ArgumentError("ids", f"{num_items} ids, one per row", len(table))
    return matrix, offsets, table
