"""Calls that strict type checkers must accept: `make lint` checks this file with mypy; it is never run."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd
    import torch

    from lsif_sdk import Events, LiveRecommender, Recommender
    from lsif_sdk.evaluation import evaluate, measure_lists
    from lsif_sdk.integrations import Users

    def accepted(rec: Recommender, plain: list[str], several: list[Events]) -> None:
        """One user and many, as lists, arrays, columns and mixtures of them."""
        rec.recommend([Events(["i42"], times=[1_700_000_000]), []], k=10, exclude=["i1"])
        for history in (["a", "b"], [["a"], [], ["b"]], [1, 2], [], plain, several, [plain, plain]):
            rec.recommend(history)
        rec.recommend([np.array([1]), [3]])
        rec.recommend([plain, np.array([1])])
        rec.recommend(torch.tensor([1]))
        rec.append(rec.new_state(plain), Events([7]))
        rec.score([["a"], Events(["b"])], [["b"], ["c"]])
        rec.score(state=rec.new_state(plain), candidates=[1, 2])

    def measured(rec: Recommender, frame: pd.DataFrame) -> None:
        """One k and several; our own lists and those of others."""
        length: int = evaluate(rec, frame, 5).ks[0]
        evaluate(rec, "events.csv", (5, length))
        measure_lists(rec.recommend([["a"], ["b"]]), frame, [5, 10], users=["anna", "bert"])
        measure_lists(frame, "relevant.csv", user="user_id", rank="rank")

    async def handed_on(live: LiveRecommender, users: Users) -> None:
        """Options keep their types where methods pass them on."""
        live = LiveRecommender.load("model", keep=2, threads=1, precision="bfloat16")
        await live.current.recommend_async(["a"], 5, exclude=["b"], budget_ms=20)
        users.recommend("anna", 5, now=1_700_000_000, where={"year": (1990, None)})
        users.recommend("anna", exclude_sean=True)  # type: ignore[call-arg]
        LiveRecommender.load("model", device=1)  # type: ignore[arg-type]
