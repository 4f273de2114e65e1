"""Events as files and as rows, for tests of reading."""

from __future__ import annotations

import gzip
from pathlib import Path

from lsif_sdk.training import EventLog

HEADER = "user,item,timestamp,action\n"
ROWS = "b,20,50,1\na,10,30,2\nb,30,40,1\na,30,30,3\nb,10,50,2\n"


def write(path: Path, text: str) -> Path:
    data = text.encode()
    path.write_bytes(gzip.compress(data) if path.suffix == ".gz" else data)
    return path


def as_rows(log: EventLog) -> list[tuple[object, object, int | None, int | None]]:
    rows = []
    for row in range(log.num_users):
        items, times, actions = log.user(row)
        for i, item in enumerate(items):
            time = None if times is None else int(times[i])
            rows.append((log.user_ids[row], log.item_ids[item], time, None if actions is None else int(actions[i])))
    return rows


SORTED = [("a", 10, 30, 2), ("a", 30, 30, 3), ("b", 30, 40, 1), ("b", 20, 50, 1), ("b", 10, 50, 2)]
