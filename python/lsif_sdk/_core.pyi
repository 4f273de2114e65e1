from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

def build_info() -> dict[str, Any]: ...
def weight_specs(config: Mapping[str, Any]) -> list[tuple[str, tuple[int, ...], str]]: ...
def config_ints(config: Mapping[str, Any]) -> list[int]: ...
def default_threads() -> int: ...
def ragged_union(
    parts: Sequence[tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]], num_items: int
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]: ...

class OverloadedError(Exception): ...
class DeadlineError(Exception): ...
class ClosedError(Exception): ...

class IdRows:
    def __init__(self, ids: npt.NDArray[Any]) -> None: ...
    @property
    def repeat(self) -> int: ...
    def find(self, ids: list[Any]) -> npt.NDArray[np.int64] | None: ...
    def find_lists(self, lists: list[Any]) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]] | None: ...

class CatalogPath:
    def __init__(
        self,
        vectors: npt.NDArray[np.float32],
        bias: npt.NDArray[np.float32],
        codes: npt.NDArray[np.uint8],
    ) -> None: ...
    def top_k(
        self,
        queries: npt.NDArray[np.float32],
        weights: npt.NDArray[np.float32] | None,
        temperature: float,
        k: int,
        exclude_rows: npt.NDArray[np.int64] | None,
        exclude_offsets: npt.NDArray[np.int64] | None,
        threads: int = 0,
        error_share: float = 1.0,
        allowed: Sequence[npt.NDArray[np.uint64] | None] | None = None,
    ) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.int64], npt.NDArray[np.int64]]: ...
    @property
    def is_ordered(self) -> bool: ...

class RequestPath:
    def __init__(
        self,
        config: Mapping[str, Any],
        weights: Sequence[npt.NDArray[Any]],
        vectors: npt.NDArray[np.float32],
        bias: npt.NDArray[np.float32],
        codes: npt.NDArray[np.uint8],
        multi_interest: bool,
        temperature: float,
        threads: int = 0,
        batching: tuple[int, int, int, int] | None = None,
        precision: str = "float32",
        input_table: bool = True,
    ) -> None: ...
    def with_catalog(
        self,
        item_embedding: npt.NDArray[np.float32],
        vectors: npt.NDArray[np.float32],
        bias: npt.NDArray[np.float32],
        codes: npt.NDArray[np.uint8],
        threads: int = 0,
    ) -> RequestPath: ...
    def check_events(
        self,
        items: npt.NDArray[np.int64],
        times: npt.NDArray[np.int64] | None,
        actions: npt.NDArray[np.int64] | None,
        offsets: npt.NDArray[np.int64],
        now: npt.NDArray[np.int64] | None,
    ) -> None: ...
    def check_balance(self, balance: float) -> None: ...
    def close(self) -> None: ...
    def count_on_from(self, before: RequestPath) -> None: ...
    def batching_stats(self) -> dict[str, Any] | None: ...
    def encode(
        self,
        items: npt.NDArray[np.int64],
        times: npt.NDArray[np.int64] | None,
        actions: npt.NDArray[np.int64] | None,
        offsets: npt.NDArray[np.int64],
        now: npt.NDArray[np.int64] | None = None,
        threads: int = 0,
    ) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32], npt.NDArray[np.float32]]: ...
    def repeat_bonus(
        self,
        items: npt.NDArray[np.int64],
        times: npt.NDArray[np.int64] | None,
        offsets: npt.NDArray[np.int64],
        now: npt.NDArray[np.int64] | None,
        newest: npt.NDArray[np.float32],
        threads: int = 0,
    ) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.float32], npt.NDArray[np.int64]]: ...
    def recommend(
        self,
        items: npt.NDArray[np.int64],
        times: npt.NDArray[np.int64] | None,
        actions: npt.NDArray[np.int64] | None,
        offsets: npt.NDArray[np.int64],
        now: npt.NDArray[np.int64] | None,
        k: int,
        exclude_seen: bool,
        exclude_items: npt.NDArray[np.int64] | None,
        exclude_offsets: npt.NDArray[np.int64] | None,
        allowed: Sequence[npt.NDArray[np.uint64] | None] | None = None,
        balance: float = -1.0,
        timeout: float = -1.0,
        threads: int = 0,
        error_share: float = 1.0,
    ) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.int64], npt.NDArray[np.int64], npt.NDArray[np.float32]]: ...
    def new_state(self, model: bytes, remember: int) -> npt.NDArray[np.uint8]: ...
    def append(
        self,
        model: bytes,
        states: Sequence[npt.NDArray[np.uint8]],
        items: npt.NDArray[np.int64],
        times: npt.NDArray[np.int64] | None,
        actions: npt.NDArray[np.int64] | None,
        offsets: npt.NDArray[np.int64],
        unknown: npt.NDArray[np.int64],
        threads: int = 0,
    ) -> list[npt.NDArray[np.uint8]]: ...
    def prepend(
        self, model: bytes, older: npt.NDArray[np.uint8], newer: npt.NDArray[np.uint8]
    ) -> npt.NDArray[np.uint8]: ...
    def seen_events(
        self, states: Sequence[npt.NDArray[np.uint8]]
    ) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64] | None, npt.NDArray[np.int64]]: ...
    def encode_states(
        self,
        states: Sequence[npt.NDArray[np.uint8]],
        now: npt.NDArray[np.int64] | None = None,
        threads: int = 0,
    ) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32], npt.NDArray[np.float32]]: ...
    def recommend_states(
        self,
        states: Sequence[npt.NDArray[np.uint8]],
        now: npt.NDArray[np.int64] | None,
        k: int,
        exclude_seen: bool,
        exclude_items: npt.NDArray[np.int64] | None,
        exclude_offsets: npt.NDArray[np.int64] | None,
        allowed: Sequence[npt.NDArray[np.uint64] | None] | None = None,
        balance: float = -1.0,
        timeout: float = -1.0,
        threads: int = 0,
        error_share: float = 1.0,
    ) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.int64], npt.NDArray[np.int64], npt.NDArray[np.float32]]: ...
