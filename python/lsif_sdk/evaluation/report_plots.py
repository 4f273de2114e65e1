"""The plots of an evaluation's HTML page."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from lsif_sdk.evaluation.behaviour import Behaviour, Groups, drift_groups, length_groups
from lsif_sdk.evaluation.metrics import rank_gains
from lsif_sdk.evaluation.report import Report

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from numpy.typing import NDArray

__all__ = ["report_plots"]


def report_plots(
    reports: Sequence[Report], rows: Sequence[dict[str, Any]], users: Behaviour
) -> list[tuple[str, Callable[[Axes], None]]]:
    """Captions of the plots of a report, with functions that draw them.

    Args:
        reports: reports of models on the same users; of several k, the first is shown.
        rows: values of the same models, with "ndcg_interval".
        users: the same users.
    """
    k = reports[0].ks[0]
    plots: list[tuple[str, Callable[[Axes], None]]] = [
        (f"NDCG@{k} by model, with 95 % intervals over users", lambda axes: _by_model(axes, reports, rows)),
        (f"Accuracy (NDCG@{k}) against catalogue coverage@{k}", lambda axes: _accuracy_coverage(axes, reports)),
    ]
    for kind, groups, label in _groupings(users):
        plots.append((f"NDCG@{k} by {kind}", partial(_by_group, reports=reports, groups=groups, label=label)))
        if users.long_share is not None:
            caption = f"Weight of the long-term interests in the fused vector, by {kind} (quartiles)"
            plots.append((caption, partial(_share_by_group, share=users.long_share, groups=groups, label=label)))
    decays = users.decays
    if decays is not None and len(decays):
        caption = "What an event still counts for in each long-term interest, by its age"
        plots.append((caption, lambda axes: _time_scales(axes, decays)))
    return plots


def _groupings(users: Behaviour) -> list[tuple[str, Groups, str]]:
    groupings = [("length of the history", length_groups(users.lengths), "events in the history (users)")]
    if users.drift is not None and (groups := drift_groups(users.drift)):
        groupings.append(
            ("how far the taste moved", groups, "drift between the newest ten events and those before (users)")
        )
    return groupings


def _by_model(axes: Axes, reports: Sequence[Report], rows: Sequence[dict[str, Any]]) -> None:
    intervals = [row["ndcg_interval"] for row in rows]
    means = np.array([interval["mean"] for interval in intervals])
    errors = np.array([[i["mean"] - i["low"], i["high"] - i["mean"]] for i in intervals]).T
    axes.barh([report.name for report in reports], means, xerr=errors, color="#4477aa", capsize=3)
    axes.set_xlabel(f"NDCG@{reports[0].ks[0]}")


def _accuracy_coverage(axes: Axes, reports: Sequence[Report]) -> None:
    k = reports[0].ks[0]
    for report in reports:
        x, y = report.metrics[f"coverage@{k}"], report.metrics[f"ndcg@{k}"]
        axes.plot(x, y, "o", color="#4477aa")
        axes.annotate(report.name, (x, y), textcoords="offset points", xytext=(5, 5))
    axes.set_xlabel("share of the catalogue in at least one list")
    axes.set_ylabel(f"NDCG@{k}")


def _by_group(axes: Axes, reports: Sequence[Report], groups: Groups, label: str) -> None:
    k = reports[0].ks[0]
    for report in reports:
        gains = rank_gains(report.per_user, k)[f"ndcg@{k}"]
        axes.plot(_names(groups), [gains[members].mean() for members in groups.values()], "o-", label=report.name)
    axes.set_xlabel(label)
    axes.set_ylabel(f"NDCG@{k}")
    axes.legend()


def _share_by_group(axes: Axes, share: NDArray[np.float32], groups: Groups, label: str) -> None:
    axes.boxplot([share[members] for members in groups.values()], showfliers=False)
    axes.set_xticks(range(1, len(groups) + 1), _names(groups))
    axes.set_xlabel(label)
    axes.set_ylabel("long share")
    axes.set_ylim(0, 1)


def _names(groups: Groups) -> list[str]:
    return [f"{name}\n({int(members.sum())})" for name, members in groups.items()]


def _time_scales(axes: Axes, decays: NDArray[np.float32]) -> None:
    days = np.logspace(-2, 3.5, 200)
    for index, decay in enumerate(decays.tolist()):
        half = "never forgets" if decay < 1e-6 else f"half after {math.log(2) / decay:.3g} days"
        axes.semilogx(days, np.exp(-decay * days), label=f"interest {index}: {half}")
    axes.set_xlabel("age, days")
    axes.set_ylabel("factor")
    axes.legend()
