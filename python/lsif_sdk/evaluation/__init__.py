"""Offline evaluation: splits, full-catalogue ranking, given lists, metrics, confidence intervals, simple baselines."""

from lsif_sdk.evaluation.baselines import OwnItems, Popularity, RecentPopularity, Scorer
from lsif_sdk.evaluation.bootstrap import Interval, paired_bootstrap
from lsif_sdk.evaluation.evaluate import compare, evaluate
from lsif_sdk.evaluation.lists import ListReport, format_lists, measure_lists
from lsif_sdk.evaluation.metrics import coverage, novelty, pessimistic_ranks, rank_gains, ranks_to_metrics
from lsif_sdk.evaluation.report import Report, format_table
from lsif_sdk.evaluation.scorer import RecommenderScorer
from lsif_sdk.evaluation.splits import Split, leave_one_out, targets_hash, time_split

__all__ = [
    "Interval",
    "ListReport",
    "OwnItems",
    "Popularity",
    "RecentPopularity",
    "RecommenderScorer",
    "Report",
    "Scorer",
    "Split",
    "compare",
    "coverage",
    "evaluate",
    "format_lists",
    "format_table",
    "leave_one_out",
    "measure_lists",
    "novelty",
    "paired_bootstrap",
    "pessimistic_ranks",
    "rank_gains",
    "ranks_to_metrics",
    "targets_hash",
    "time_split",
]
