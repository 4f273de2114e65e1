"""Collects and checks changes of a recommender's catalogue, and makes them all at once in a new recommender."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence, Set
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from lsif_sdk.arguments import as_array, as_int64, first_repeat
from lsif_sdk.attribute_columns import Entries, as_entries, check_order
from lsif_sdk.bitmaps import FOREVER, HIDDEN, REMOVED
from lsif_sdk.catalog import Catalog
from lsif_sdk.errors import ArgumentError, ArgumentTypeError, ClosedError, shown
from lsif_sdk.events import check_flat
from lsif_sdk.float_arrays import as_floats
from lsif_sdk.grown_rows import replaced
from lsif_sdk.ids import Id, as_list, id_list
from lsif_sdk.items import ItemEdit, ItemTable
from lsif_sdk.locks import made_once
from lsif_sdk.native_errors import native_errors
from lsif_sdk.ops import ops
from lsif_sdk.packed_texts import check_texts
from lsif_sdk.recommender import Recommender
from lsif_sdk.times import check_recent, request_times

__all__ = ["CatalogEdit", "Ids", "Items", "Until", "restored"]

Ids = Sequence[Id] | npt.NDArray[Any]
Items = Ids | Set[Id] | ItemTable
Until = Any
"""When items stop being recommended, one time for all or one per item: Unix seconds or dates, as `now` in
`Recommender.recommend`; None: never."""

_LARGEST = 1e12
"""Larger than any useful value. In tests, all models stayed finite up to 1e17, but not with 1e18."""


class CatalogEdit:
    """Collects changes of a recommender's catalogue; `LiveRecommender.edit` makes one and publishes the result.

    Each method checks its arguments at once; if an item is changed several times, the last change counts. Not
    thread-safe, and refused after the block (ClosedError).

    Args:
        base: the recommender, which does not change.
    """

    def __init__(self, base: Recommender) -> None:
        self._base = base
        self._added: dict[Id, int] = {}
        self._vectors: dict[int, npt.NDArray[np.float32]] = {}
        self._biases: dict[int, float] = {}
        self._embeddings: list[npt.NDArray[np.float32]] = []
        self._titles: dict[int, str] = {}
        self._counts: dict[int, int] = {}
        self._until: dict[int, int] = {}
        self._attributes: dict[str, dict[int, Any]] = {name: {} for name in base.attributes.names}
        self._ended = False

    def _end(self) -> None:
        """Refuses later changes, which would be lost."""
        self._ended = True

    def _check_open(self) -> None:
        if self._ended:
            raise ClosedError("the edit has ended, and further changes would be lost: make another by `edit()`")

    def upsert(
        self,
        ids: Ids,
        vectors: torch.Tensor | npt.ArrayLike,
        *,
        bias: torch.Tensor | npt.ArrayLike | None = None,
        titles: Sequence[str] | None = None,
        counts: Sequence[int] | None = None,
        until: Until = None,
        attributes: Mapping[str, Sequence[Any]] | None = None,
    ) -> None:
        """See `LiveRecommender.upsert` for arguments and errors."""
        self._check_open()
        table, catalog = self._base.items, self._base.catalog
        values, known = _as_ids(ids, table)
        matrix = as_floats("vectors", vectors, 2).numpy().copy()  # the caller may write to it later
        if matrix.shape != (len(values), catalog.dim):
            raise ArgumentError("vectors", f"shape [{len(values)}, {catalog.dim}]", list(matrix.shape))
        _check_size("vectors", matrix, values)
        biases = None if bias is None else _one_each("bias", as_floats("bias", bias, 1).tolist(), len(values))
        _check_size("bias", np.array(biases or [], np.float64)[:, None], values)
        texts = None if titles is None else _one_each("titles", as_list("titles", titles), len(values))
        if texts is not None and table.titles is None:
            raise ArgumentError("titles", "None, since the catalogue has no titles", f"{len(texts)} titles")
        if texts is not None:
            check_texts("titles", list(texts))
        numbers = None if counts is None else _one_each("counts", as_int64("counts", counts).tolist(), len(values))
        if numbers is not None and min(numbers, default=0) < 0:
            raise ArgumentError("counts", "values >= 0", min(numbers))
        ends = _ends(until, len(values))
        new = [item for item, row in zip(values, known.tolist(), strict=True) if row < 0 and item not in self._added]
        columns = self._columns(attributes, values)
        if new and (missing := sorted(set(self._attributes) - set(columns))):
            raise ArgumentError("attributes", f"{missing[0]!r} of the new item {new[0]!r}", "none")
        for i, item in enumerate(values):
            vector = matrix[i]
            row = self._row_for(item, int(known[i]), vector)
            self._vectors[row] = vector
            self._until[row] = ends[i]
            if biases is not None:
                self._biases[row] = biases[i]
            if texts is not None:
                self._titles[row] = texts[i]
            if numbers is not None:
                self._counts[row] = numbers[i]
            for name, column in columns.items():
                self._attributes[name][row] = column[i]

    def set_attributes(self, ids: Ids, attributes: Mapping[str, Sequence[Any]]) -> None:
        """See `LiveRecommender.set_attributes`."""
        if isinstance(ids, Set):
            raise ArgumentTypeError("ids", "a sequence of item ids, in the order of the entries", ids)
        if not isinstance(attributes, Mapping):
            raise ArgumentTypeError("attributes", "a mapping of names to columns", attributes)
        rows = self._rows(ids)
        for name, column in self._columns(attributes, list(id_list(ids))).items():
            self._attributes[name].update(zip(rows, column, strict=True))

    def hide(self, ids: Items) -> None:
        """See `LiveRecommender.hide`."""
        self._until.update(dict.fromkeys(self._rows(ids), HIDDEN))

    def show(self, ids: Items, until: Until = None) -> None:
        """See `LiveRecommender.show`."""
        rows = self._rows(ids)
        ends = _ends(until, len(rows))
        if isinstance(ids, Set) and len(set(ends)) > 1:
            raise ArgumentTypeError("ids", "a sequence of item ids, in the order of the times", ids)
        self._until.update(zip(rows, ends, strict=True))

    def remove(self, ids: Items) -> None:
        """See `LiveRecommender.remove`."""
        self._until.update(dict.fromkeys(self._rows(ids), REMOVED))

    @property
    def version(self) -> int:
        """Version of the snapshot that these changes make, or of the base if they change nothing."""
        return self._base.version + self.changes_anything

    @property
    def changes_anything(self) -> bool:
        """Whether the changes make a difference; new vectors and attributes count as one without being compared."""
        if self._vectors or any(self._attributes.values()):
            return True
        return any(self._base.items.until_of(row) != until for row, until in self._until.items())

    def apply(self) -> Recommender:
        """The recommender with these changes, which shares with the base what did not change.

        Raises:
            ArgumentError: an id or title cannot be encoded.
        """
        base = self._base
        edit = ItemEdit(list(self._added), self._titles, self._counts, self._until)
        items = base.items.edited(edit)
        attributes = base.attributes.edited(len(items), self._attributes)
        if not self._vectors:
            artifact = base.artifact.edited(base.artifact.weights, items)
            catalog = base.catalog.with_items(items)
            return base.succeeded_by(artifact, catalog, attributes, base.fingerprint)
        artifact = base.artifact.edited(self._weights(len(items)), items)
        vectors, bias = artifact.catalog_vectors, artifact.catalog_bias
        changed = np.array(sorted(row for row in self._vectors if row < len(base.items)), np.int64)
        with torch.inference_mode(), native_errors():
            codes = ops.update_codes(
                vectors, bias, base.catalog.codes, len(base.items), torch.from_numpy(changed), base.threads
            )
        catalog = Catalog.from_checked(vectors, bias, items, codes=codes)
        return base.succeeded_by(artifact, catalog, attributes, self._fingerprint(), changed)

    def _weights(self, num_items: int) -> dict[str, torch.Tensor]:
        base = self._base
        added = num_items - len(base.items)
        weights = dict(base.artifact.weights)
        embedding = weights["item_embedding"]
        if added:
            weights["item_embedding"] = replaced(embedding, added, list(self._added.values()), self._embeddings)
        embedded = dict(zip(self._added.values(), self._embeddings, strict=True))
        is_one_matrix = base.artifact.catalog_vectors is embedding and all(
            embedded.get(row) is vector for row, vector in self._vectors.items()
        )
        weights.pop("catalog.vectors", None)
        if not is_one_matrix:
            weights["catalog.vectors"] = replaced(
                base.catalog.vectors, added, list(self._vectors), list(self._vectors.values())
            )
        mean = float(base.catalog.bias.numpy().mean(dtype=np.float64))
        biases = {row: mean for row in self._added.values()} | self._biases
        weights["catalog.bias"] = replaced(base.catalog.bias, added, list(biases), list(biases.values()))
        if (penalty := base.artifact.bias_penalty) is not None:  # no penalty was subtracted from a bias given here
            weights["catalog.penalty"] = replaced(penalty, added, list(self._biases), [0.0] * len(self._biases))
        return weights

    def _fingerprint(self) -> bytes:
        """The base's fingerprint, extended by the ids and embeddings of new items."""
        result = self._base.fingerprint
        for item, embedding in zip(self._added, self._embeddings, strict=True):  # independent of how edits are grouped
            result = hashlib.blake2b(result + embedding.tobytes() + str(item).encode(), digest_size=32).digest()
        return result

    def _row_for(self, item: Id, known: int, vector: npt.NDArray[np.float32]) -> int:
        if known >= 0:
            return known
        if item not in self._added:
            self._added[item] = len(self._base.items) + len(self._added)
            self._embeddings.append(self._embedding_of(vector))
        return self._added[item]

    def _embedding_of(self, vector: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        """The encoder's input for a new item: its vector at the length of trained embeddings, or their mean length."""
        config = self._base.config
        if not config.has_two_tables:
            return vector
        length = np.linalg.norm(vector.astype(np.float64))
        wanted = config.dim**0.5 if config.normalize_inputs else self._mean_length
        return vector if length == 0 else (vector * (wanted / length)).astype(np.float32)

    @made_once
    def _mean_length(self) -> float:
        lengths = np.linalg.norm(
            self._base.artifact.weights["item_embedding"].detach().numpy().astype(np.float64), axis=1
        )
        return float(lengths.mean())

    def _rows(self, ids: Items) -> list[int]:
        self._check_open()
        values, known = _as_ids(list(ids) if isinstance(ids, (Set, ItemTable)) else ids, self._base.items)
        rows = known.tolist()
        for i, item in enumerate(values):
            row = self._added.get(item, rows[i])
            if row < 0 or self._until_of(row) == REMOVED:
                raise ArgumentError("ids", "items of the catalogue", shown(item))
            rows[i] = row
        return list(rows)

    def _until_of(self, row: int) -> int:
        return self._until.get(row, self._base.items.until_of(row))

    def _columns(self, attributes: Mapping[str, Sequence[Any]] | None, ids: list[Id]) -> dict[str, Entries]:
        if attributes is not None and not isinstance(attributes, Mapping):
            raise ArgumentTypeError("attributes", "a mapping of names to columns", attributes)
        given = attributes or {}
        if unknown := sorted(set(given) - set(self._attributes), key=str):
            raise ArgumentError("attributes", f"attributes among {sorted(self._attributes)}", shown(unknown[0]))
        for name, given_column in given.items():
            check_order(name, given_column, ids)
        columns = {name: as_entries(name, column) for name, column in given.items()}
        for name, column in columns.items():
            _one_each(f"attributes[{name!r}]", column, len(ids))
            if ids:
                self._base.attributes.check(name, column)
        return columns


def restored(current: Recommender, before: Recommender) -> Recommender:
    """A recommender with the catalogue of `before`, an earlier snapshot of `current`'s model.

    Items added since then are removed, but stay known to the encoder, so that states made since then stay usable. Their
    titles, counts and attributes are kept in case they come back, as for any removed item.
    """
    if before.catalog.codes is current.catalog.codes:  # no vectors were changed
        artifact = current.artifact.edited(current.artifact.weights, before.items)
        catalog = current.catalog.with_items(before.items)
        return current.succeeded_by(artifact, catalog, before.attributes, current.fingerprint)
    size = len(before.items)
    removed = range(size, len(current.items))
    counts = dict(zip(removed, current.items.counts[size:].tolist(), strict=True))
    titles = {} if current.items.titles is None else dict(zip(removed, current.items.titles[size:], strict=True))
    gone = dict.fromkeys(removed, REMOVED)
    items = before.items.edited(ItemEdit(current.items.ids[size:].tolist(), titles, counts, gone))
    weights = dict(current.artifact.weights)
    changed: npt.NDArray[np.int64] | None = np.zeros(0, np.int64)
    # With the same address, all rows that were added since follow the old ones in the same memory.
    if before.catalog.vectors.data_ptr() != current.catalog.vectors.data_ptr():
        changed = None
        new = current.catalog.vectors[size:]
        weights["catalog.vectors"] = replaced(before.catalog.vectors, len(removed), removed, new)
    if before.catalog.bias.data_ptr() != current.catalog.bias.data_ptr():
        weights["catalog.bias"] = replaced(before.catalog.bias, len(removed), removed, current.catalog.bias[size:])
    if (penalty := before.artifact.bias_penalty) is not None:
        weights["catalog.penalty"] = replaced(penalty, len(removed), [], [])
    artifact = current.artifact.edited(weights, items)
    vectors, bias = artifact.catalog_vectors, artifact.catalog_bias
    with torch.inference_mode(), native_errors():
        none = torch.zeros(0, dtype=torch.int64)
        codes = ops.update_codes(vectors, bias, before.catalog.codes, size, none, current.threads)
    attributes = before.attributes.with_rows_of(current.attributes)
    catalog = Catalog.from_checked(vectors, bias, items, codes=codes)
    return current.succeeded_by(artifact, catalog, attributes, current.fingerprint, changed)


def _as_ids(ids: Ids, table: ItemTable) -> tuple[list[Id], npt.NDArray[np.int64]]:
    """Checked ids of the catalogue's kind, each once, and their rows, -1 for new ones."""
    if not isinstance(ids, np.ndarray) and hasattr(ids, "__array__"):
        ids = as_array("ids", ids)  # a pandas Series, a tensor
    check_flat("ids", ids)
    values = list(id_list(ids))
    rows = table.rows(values)
    if len(set(values)) != len(values):
        raise ArgumentError("ids", "each id once", f"{shown(first_repeat(values))} more often")
    return values, rows


def _check_size(argument: str, rows: npt.NDArray[Any], ids: list[Id]) -> None:
    if (large := np.argwhere((rows > _LARGEST) | (rows < -_LARGEST))).size:
        row, column = large[0].tolist()
        got = f"{rows[row, column]!s} of {shown(ids[row])}"
        raise ArgumentError(argument, f"values within +-{_LARGEST:.0e}", got)


def _one_each(argument: str, values: Entries, num_items: int) -> Entries:
    if len(values) != num_items:
        raise ArgumentError(argument, f"{num_items} entries, one per item", len(values))
    return values


def _ends(until: Until, num_items: int) -> list[int]:
    if until is None:
        return [FOREVER] * num_items
    ends: list[int] = request_times(until, num_items, "until").tolist()
    if min(ends, default=0) <= HIDDEN:  # HIDDEN and REMOVED are special values
        raise ArgumentError("until", f"times after {HIDDEN}", min(ends))
    check_recent("until", np.array(ends, np.int64), ", or None")
    return ends
