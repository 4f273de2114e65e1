"""Offline evaluation: leave-one-out splits, full-catalogue ranking, metrics, and popularity to compare with."""

from lsif_sdk.evaluation.baselines import Popularity, Scorer
from lsif_sdk.evaluation.evaluate import compare, evaluate
from lsif_sdk.evaluation.metrics import coverage, novelty, pessimistic_ranks, ranks_to_metrics
from lsif_sdk.evaluation.report import Report, format_table
from lsif_sdk.evaluation.scorer import RecommenderScorer
from lsif_sdk.evaluation.splits import LeaveOneOut, leave_one_out, targets_hash

__all__ = [
    "LeaveOneOut",
    "Popularity",
    "RecommenderScorer",
    "Report",
    "Scorer",
    "compare",
    "coverage",
    "evaluate",
    "format_table",
    "leave_one_out",
    "novelty",
    "pessimistic_ranks",
    "ranks_to_metrics",
    "targets_hash",
]
