"""Stores of users' events and states, and `Users`, which recommends from them (docs/cookbook/stores.md)."""

from __future__ import annotations

from lsif_sdk.integrations.history_store import HistoryStore, StoredEvents, StoredState
from lsif_sdk.integrations.redis_store import RedisStore
from lsif_sdk.integrations.sqlite_store import SQLiteStore
from lsif_sdk.integrations.user_states import UserStates
from lsif_sdk.integrations.users import Users

__all__ = ["HistoryStore", "RedisStore", "SQLiteStore", "StoredEvents", "StoredState", "UserStates", "Users"]
