"""`Catalog` on its own: an exact inner-product index over any vectors."""

import numpy as np

import lsif_sdk

rng = np.random.default_rng(0)
vectors = rng.standard_normal((100_000, 64), dtype=np.float32)
catalog = lsif_sdk.Catalog.from_vectors(vectors, ids=[f"doc-{i}" for i in range(len(vectors))])

queries = vectors[:2] + 0.1
best = catalog.top_k(queries, k=5, exclude=[[0], [1]])  # leave out each query's own row
for rows, scores in zip(best.indices, best.scores, strict=True):
    print([(item, round(float(score), 2)) for item, score in zip(catalog.items.take(rows), scores, strict=True)])
