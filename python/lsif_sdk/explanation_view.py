"""Shows explanations, as lines of text with bars and as a figure."""

from __future__ import annotations

import datetime
import pathlib
from typing import TYPE_CHECKING

from lsif_sdk.errors import ArgumentError, MissingExtraError
from lsif_sdk.explanation import EventShare, Explanation
from lsif_sdk.ids import Id
from lsif_sdk.items import ItemTable
from lsif_sdk.terminal import on_one_line

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["as_text", "draw"]

_MOST_EVENTS = 15
_MOST_LETTERS = 48  # of a label in a figure
_BAR = 24
_SUFFIXES = (".png", ".svg", ".pdf")


def as_text(why: Explanation, items: ItemTable) -> str:
    """The parts, one per line, with events by the size of their share."""
    parts = [("the item itself (bias)", why.bias)]
    parts += [("own item (repeats)", why.repeats)] * (why.repeats != 0)
    parts += [("choice between interests", why.balance)] * (why.balance != 0)
    interests = [(f"{part.kind}, weight {part.weight:.0%}", part.share) for part in why.interests]
    shown = _largest(why)
    events = [(_event_label(part, items), part.share) for part in shown]
    events += _further(why, shown)
    largest = max(abs(share) for _, share in [*parts, *interests, *events])
    lines = [f"{_label(why.item, items)}: score {why.score:.4f}"]
    for heading, group in (("", parts), ("interests", interests), ("the same by events", events)):
        lines += [heading] * bool(heading)
        lines += [f"  {share:+9.4f}  {_bar(share, largest):{_BAR}}  {name}" for name, share in group]
    return "\n".join(lines)


def draw(why: Explanation, items: ItemTable, path: str) -> None:
    """Writes a figure of the shares by interest and by event.

    Raises:
        ArgumentError: `path` does not end in .png, .svg or .pdf, or the file cannot be written.
        MissingExtraError: matplotlib is not installed.
    """
    if pathlib.Path(path).suffix not in _SUFFIXES:
        raise ArgumentError("--plot", f"a name that ends in {', '.join(_SUFFIXES)}", path)
    try:
        from matplotlib.figure import Figure
    except ImportError:
        raise MissingExtraError("drawing an explanation", "matplotlib", "report") from None
    shown = sorted(_largest(why), key=why.events.index)
    figure = Figure(figsize=(9, 1.6 + 0.3 * (len(why.interests) + len(shown))), layout="constrained")
    axes = figure.subplots(2, 1, height_ratios=[len(why.interests) + 1, len(shown) + 2])
    names = [f"{part.kind} ({part.weight:.0%})" for part in why.interests]
    _bars(axes[0], names, [part.share for part in why.interests], "by interest, with its weight")
    events = [(_shortened(_event_label(part, items)), part.share) for part in shown] + _further(why, shown)
    _bars(axes[1], [name for name, _ in events], [share for _, share in events], "by event")
    title = _shortened(_label(why.item, items)).replace("$", r"\$")
    figure.suptitle(f"{title}: score {why.score:.3f}, of which the item itself {why.bias:+.3f}")
    try:
        figure.savefig(path, dpi=150)
    except OSError as error:
        raise ArgumentError("--plot", "a file that can be written", f"{path} ({error.strerror})") from error


def _bars(axes: Axes, names: list[str], shares: list[float], title: str) -> None:
    places = range(len(names))
    axes.barh(places, shares, color=["#3b6ea8" if share >= 0 else "#b5523b" for share in shares])
    axes.set_yticks(places, [name.replace("$", r"\$") for name in names])  # matplotlib would read $ as a formula
    axes.invert_yaxis()
    axes.axvline(0, color="black", linewidth=0.8)
    axes.set_title(f"share of the score {title}", loc="left", fontsize=10)


def _largest(why: Explanation) -> list[EventShare]:
    return sorted(why.events, key=lambda part: -abs(part.share))[:_MOST_EVENTS]


def _further(why: Explanation, shown: list[EventShare]) -> list[tuple[str, float]]:
    rest = len(why.events) - len(shown)
    left = sum(part.share for part in why.events) - sum(part.share for part in shown)
    return [(f"{rest} further events", left)] if rest else []


def _shortened(label: str) -> str:
    return label if len(label) <= _MOST_LETTERS else f"{label[: _MOST_LETTERS - 1]}…"


def _bar(share: float, largest: float) -> str:
    return ("#" if share >= 0 else "-") * round(_BAR * abs(share) / largest if largest else 0)


def _event_label(part: EventShare, items: ItemTable) -> str:
    when = "" if part.time is None else f", {_day(part.time)}"
    return f"{_label(part.item, items)}{when}"


def _day(seconds: int) -> str:
    try:
        return f"{datetime.datetime.fromtimestamp(seconds, datetime.UTC):%Y-%m-%d}"
    except (OverflowError, ValueError, OSError):  # years that a date cannot have
        return f"time {seconds}"


def _label(item: Id, items: ItemTable) -> str:
    row = int(items.rows([item])[0])  # also of a removed item, which a history may contain
    return on_one_line(items.title(row) or item)
