"""Ten lines: train on events, recommend, save, load. Run after `make dev`: .venv/bin/python examples/quickstart.py"""

import lsif_sdk
from lsif_sdk.datasets import simulated_shop
from lsif_sdk.training import TrainConfig

log = simulated_shop()  # or a CSV, TSV or Parquet file, or a DataFrame, with the columns user, item, timestamp
rec = lsif_sdk.train(log, {"dim": 32}, TrainConfig(epochs=8))
rec.save("build/quickstart-model", overwrite=True)

rec = lsif_sdk.Recommender.load("build/quickstart-model")
for user in rec.recommend([["sku-7", "sku-12", "sku-7"], ["sku-41"], []], k=3):
    found = [(rec.items.title_of(item), round(score, 2)) for item, score in user]
    print(found, "popular" if user.fallback else "personal")
