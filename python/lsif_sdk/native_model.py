"""A trained model in native code: from users' events to interests, and to states that are updated event by event."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from typing import overload

import numpy as np
import numpy.typing as npt

from lsif_sdk.arguments import as_integer
from lsif_sdk.device.states import TableUsers
from lsif_sdk.device_states import DeviceStates, DeviceUsers
from lsif_sdk.errors import ArgumentError, ArgumentTypeError
from lsif_sdk.event_batch import EventBatch, check_seconds
from lsif_sdk.events import Histories, History, check_same_users
from lsif_sdk.locks import made_once
from lsif_sdk.native_errors import native_errors
from lsif_sdk.placed_model import PlacedModel
from lsif_sdk.recommendations import Encoded, RepeatBonuses
from lsif_sdk.times import Now, check_recent, request_times
from lsif_sdk.user_state import DEFAULT_REMEMBER, MOST_REMEMBERED, UserState, as_states

__all__ = ["AskedUsers", "KnownUsers", "NativeModel", "States", "unchanging"]

States = UserState | Sequence[UserState] | DeviceUsers
AskedUsers = EventBatch | list[UserState] | DeviceUsers
"""The users of a request: their histories, their states, or the places of their states on a GPU."""
KnownUsers = EventBatch | list[UserState] | TableUsers
"""The same users, with data that does not change while the request is answered."""

Int64s = npt.NDArray[np.int64]

_SCORING = {"scoring", "temperature", "normalize_items", "item_scale"}  # fields that no user state depends on


class NativeModel(PlacedModel):
    """The model's computations for users. `Recommender` adds those for items."""

    older_fingerprints: frozenset[bytes] = frozenset()
    """Fingerprints of the earlier snapshots that this one is derived from."""

    @made_once
    def fingerprint(self) -> bytes:
        """Identifies the model in its user states: 32 bytes, a hash of hyper-parameters, item ids and encoder."""
        shape = {name: value for name, value in self.config.to_dict().items() if name not in _SCORING}
        if self.precision != "float32":
            shape["precision"] = self.precision
        result = hashlib.blake2b(json.dumps([shape, self.items.ids.tolist()], sort_keys=True).encode(), digest_size=32)
        for weight in self.artifact.encoder_weights:
            result.update(weight.detach().numpy().data)
        return result.digest()

    def knows(self, state: UserState | DeviceStates) -> bool:
        """Whether the state is of this model, or of an earlier snapshot of it (`LiveRecommender`)."""
        return state.model == self.fingerprint or state.model in self.older_fingerprints

    def new_state(self, history: History = (), *, remember: int = DEFAULT_REMEMBER) -> UserState:
        """Makes the state of one user.

        Args:
            history: the user's events so far; see `recommend`.
            remember: how many of the newest events `exclude_seen` and models with `repeats` see; 8 bytes each (16 with
                `repeats` and times). Up to this many events, answers are exactly those for the whole history.

        Raises:
            ArgumentError: `remember` or an action is out of range, or some times are known and others are not.
            ArgumentTypeError: an argument is of the wrong type, or ids are not of the catalogue's kind.
        """
        remember = as_integer("remember", remember, 1, MOST_REMEMBERED)
        with native_errors():
            empty = UserState(self._host.new_state(self.fingerprint, remember))
        return self.append(empty, history)

    @overload
    def append(self, state: UserState, history: History) -> UserState: ...

    @overload
    def append(self, state: Sequence[UserState], history: Sequence[History]) -> list[UserState]: ...

    def append(self, state: UserState | Sequence[UserState], history: Histories) -> UserState | list[UserState]:
        """Returns new states of the same users after more events; the old states do not change.

        The cost does not depend on the number of earlier events.

        Args:
            state: the state of one user, or a list of states.
            history: the user's new events (a list, even for one item), or a list with those of each user.

        Raises:
            ArgumentError: a state is of another model, the numbers of states and histories differ, an action is out of
                range, an event is older than the state's newest one, or some times of a history are known and others
                are not. If events are too old, make a new state from the sorted history.
            ArgumentTypeError: an argument is of the wrong type, or ids are not of the catalogue's kind.
        """
        states = self._states(state)
        if not states and isinstance(history, (list, tuple)) and not history:  # [] is a user without events otherwise
            return []
        events = self._events(history)
        if len(states) != len(events):
            expected = "one user's" if isinstance(state, UserState) else f"one for each of {len(states)} states"
            raise ArgumentError("history", expected, f"those of {len(events)} users")
        with native_errors():
            grown = self._host.append(
                self.fingerprint,
                [entry.data for entry in states],
                events.items,
                events.times,
                events.actions,
                events.offsets,
                events.unknown,
                self._threads,
            )
        result = [UserState(data) for data in grown]
        self._metrics.called("append")
        return result[0] if isinstance(state, UserState) else result

    def join_states(self, older: UserState, newer: UserState) -> UserState:
        """The exact state of the history of `older` followed by that of `newer`.

        Raises:
            ArgumentError: `newer` has too few events (the message says how many it needs) or begins before `older`
                ends, `remember` differs, or a state is of another model.
            ArgumentTypeError: an argument is not a state.
        """
        self._check_encoder("older")
        for name, state in (("older", older), ("newer", newer)):
            if not isinstance(state, UserState):
                raise ArgumentTypeError(name, "a UserState", state)
            self._check_known([state], name)
        with native_errors():
            return UserState(self._host.prepend(self.fingerprint, older.data, newer.data))

    def user_vectors(
        self,
        history: Histories | None = None,
        *,
        state: States | None = None,
        now: Now | None = None,
    ) -> npt.NDArray[np.float32]:
        """The fused interest of each user, float32 [batch, dim]; zeros for a user without known events.

        Args:
            history: see `recommend`; [] is one user without events here too: [1, dim].
            state: in place of `history`; see `recommend`.
            now: see `recommend`.

        Raises:
            ArgumentError: a value is out of range.
            ArgumentTypeError: an argument is of the wrong type.
        """
        return self.encode(history, state=state, now=now).fused

    def encode(
        self,
        history: Histories | None = None,
        *,
        state: States | None = None,
        now: Now | None = None,
    ) -> Encoded:
        """Interests, weights and fused vector of each user; arguments and errors are those of `user_vectors`.

        Returns:
            float32 arrays: fused [batch, dim], interests [batch, num_interests, dim], weights [batch, num_interests].
        """
        asked = self._users(history, state)
        check_same_users(history, now)
        asked_at = self._now(now, len(asked))
        return self._encoded(unchanging(asked, asked_at), asked_at)

    def _encoded(self, users: KnownUsers, asked_at: npt.NDArray[np.int64] | None) -> Encoded:
        if isinstance(users, EventBatch):
            return self.encode_rows(users.items, users.times, users.actions, users.offsets, asked_at)
        if isinstance(users, TableUsers):
            return Encoded(*(part.cpu().numpy() for part in users.encoded))
        with native_errors():
            return Encoded(*self._host.encode_states([user.data for user in users], asked_at, self._threads))

    def encode_rows(
        self,
        items: npt.NDArray[np.int64],
        times: npt.NDArray[np.int64] | None,
        actions: npt.NDArray[np.int64] | None,
        offsets: npt.NDArray[np.int64],
        now: npt.NDArray[np.int64] | None = None,
    ) -> Encoded:
        """`encode` for events given as catalogue rows, ragged and sorted by time (docs/model.md, Inputs).

        Raises:
            ArgumentError: a shape, row, action or offset is wrong.
            ArgumentTypeError: not contiguous int64 arrays.
        """
        self._check_encoder()
        _check_rows(items=items, times=times, actions=actions, offsets=offsets, now=now)
        with native_errors():
            return Encoded(*self._path.encode(items, times, actions, offsets, now, self._threads))

    def repeat_bonus_rows(
        self,
        items: npt.NDArray[np.int64],
        times: npt.NDArray[np.int64] | None,
        offsets: npt.NDArray[np.int64],
        now: npt.NDArray[np.int64] | None,
        newest: npt.NDArray[np.float32],
    ) -> RepeatBonuses:
        """What a model with `repeats` adds to the scores of each history's own items (docs/model.md, 5).

        Args:
            items: as in `encode_rows`.
            times: as in `encode_rows`.
            offsets: as in `encode_rows`.
            now: as in `encode_rows`.
            newest: the newest state of each user, float32 [batch, dim]: `encode_rows(...).interests[:, -1]`.

        Raises:
            ArgumentError: the model has no `repeats`; or a shape, row or offset is wrong.
            ArgumentTypeError: not contiguous int64 arrays.
        """
        _check_rows(items=items, times=times, offsets=offsets, now=now)
        newest = np.ascontiguousarray(newest)
        with native_errors():
            return RepeatBonuses(*self._host.repeat_bonus(items, times, offsets, now, newest, self._threads))

    def _check_encoder(self, argument: str = "history") -> None:
        if not self.artifact.has_encoder:
            expected = "a model with an encoder; for vectors of users there is search()"
            raise ArgumentError(argument, expected, "items alone")

    def _events(self, history: Histories) -> EventBatch:
        events = EventBatch.from_histories(history, self.items, self.config.num_actions)
        check_seconds(events)
        return events

    def _users(self, history: Histories | None, state: States | None) -> AskedUsers:
        self._check_encoder("history" if state is None else "state")
        if history is None and state is None:
            raise ArgumentTypeError("history", "a history, or state=", history)
        if isinstance(history, UserState):
            raise ArgumentTypeError("history", "events, and a state as state=", history)
        if state is None:
            return self._events(history)  # type: ignore[arg-type]
        if history is not None:
            raise ArgumentError("history", "None where a state is given", history)
        if not isinstance(state, DeviceUsers):
            return self._states(state)
        self._check_known([state.states])
        if state.states.device != self.device:
            raise ArgumentError("state", f"one on {self.device}", f"one on {state.states.device}")
        return state

    def _own_events(self, users: KnownUsers) -> tuple[Int64s, Int64s | None, Int64s]:
        """Rows of the items of their (remembered) events, times or None, and offsets."""
        if isinstance(users, EventBatch | TableUsers):
            return users.items, users.times, users.offsets
        with native_errors():
            return self._host.seen_events([user.data for user in users])

    def _states(self, state: UserState | Sequence[UserState]) -> list[UserState]:
        self._check_encoder("state")
        states = as_states(state)
        self._check_known(states)
        return states

    def _check_known(self, states: Sequence[UserState | DeviceStates], argument: str = "state") -> None:
        for user, state in enumerate(states):
            if not self.knows(state):
                place = argument if len(states) == 1 else f"{argument}[{user}]"
                got = "one of another model (make it anew by new_state), or of a later snapshot (get the state first)"
                raise ArgumentError(place, "a state of this model", got)

    def _now(self, now: Now | None, batch: int) -> npt.NDArray[np.int64] | None:
        times = None if now is None else request_times(now, batch)  # checked even if the model does not read it
        if times is not None:
            check_recent("now", times)
        return times if self.config.request_time else None


def unchanging(users: AskedUsers, asked_at: Int64s | None) -> KnownUsers:
    """The users with their current data; users on a GPU are encoded for a request at these times."""
    return users.states.table.users(users.slots, asked_at) if isinstance(users, DeviceUsers) else users


def _check_rows(**arrays: npt.NDArray[np.int64] | None) -> None:
    for name, values in arrays.items():
        plain = isinstance(values, np.ndarray) and values.dtype == np.int64 and values.flags.c_contiguous
        if not plain and (values is not None or name in ("items", "offsets")):
            raise ArgumentTypeError(name, "a contiguous int64 array", values)
