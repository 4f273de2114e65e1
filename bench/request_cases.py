"""The cases encode, append, recommend and load: requests to a whole model with random weights."""

from __future__ import annotations

import argparse
import atexit
import tempfile
from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

import lsif_sdk
from checks import agree, close, recall
from composed_requests import composed
from encode_peers import BF16_TOLERANCE, EncodeProblem, encoder_peers
from implementations import Builder, Case, Implementation, Quality, build_all, params_of
from lsif_sdk.items import ItemTable
from lsif_sdk.model import InterestFusionModel
from newest_state import NewestState, newest_state_flops, plain_config
from topk_problem import Data, sample

__all__ = ["append", "eager_request", "encode", "load", "random_artifact", "random_histories", "recommend"]

_VOCABULARY = 10_000
_NUM_HISTORIES = 32  # that calls take in turn; at least one batch
_MODEL_SPREAD = 0.05  # of the noise added to the initial weights, some of which are zero

Histories = npt.NDArray[np.int64]


def random_artifact(options: argparse.Namespace, num_items: int, data: Data | None = None) -> lsif_sdk.Artifact:
    """A model of the requested size with random weights; ids are row numbers.

    data: the distribution the item vectors are drawn from (`topk_problem.sample`); None: that of the other weights.
    """
    torch.manual_seed(0)
    if options.model == "sasrec":
        config = plain_config(num_items, options.dim, options.seq_len)
    else:
        config = lsif_sdk.ModelConfig(
            num_items=num_items, dim=options.dim, block=options.model, ffn_dim=4 * options.dim
        )
    model = InterestFusionModel(config)
    with torch.no_grad():
        for weight in model.parameters():
            weight.add_(_MODEL_SPREAD * torch.randn_like(weight))
    weights = model.export_weights()
    if data is not None:
        weights.pop("catalog.vectors", None)
        weights["item_embedding"] = torch.from_numpy(sample(num_items, options.dim, data, seed=0))
    return lsif_sdk.Artifact(config, weights, ItemTable(np.arange(num_items)))


def random_histories(options: argparse.Namespace, num_items: int) -> tuple[list[Histories], Histories]:
    """Batches of items [batch, seq_len], and event times about an hour apart, the same for each batch."""
    rng = np.random.default_rng(0)
    shape = (options.batch, options.seq_len)
    items = [rng.integers(num_items, size=shape) for _ in range(max(1, _NUM_HISTORIES // options.batch))]
    return items, np.cumsum(rng.integers(1, 7200, size=shape), axis=1)


def encode(options: argparse.Namespace) -> Case:
    """Histories to fused vectors. "sasrec" has compiled peers; the peer of other models is our eager torch module."""
    artifact = random_artifact(options, _VOCABULARY)
    histories, times = random_histories(options, _VOCABULARY)
    recommender = lsif_sdk.Recommender(artifact, threads=options.threads)
    offsets = np.arange(options.batch + 1) * options.seq_len
    used_times = times.reshape(-1) if artifact.config.use_times else None

    def ours(items: Histories) -> npt.NDArray[np.float32]:
        return recommender.encode_rows(items, used_times, None, offsets).fused

    inputs = [items.reshape(-1) for items in histories]
    if options.model == "sasrec":
        problem = EncodeProblem(artifact, histories, options.threads)
        exact = problem.exact
        builders = encoder_peers(problem)
        flops = options.batch * newest_state_flops(artifact.config, options.seq_len, folded=True)

        def in_bf16(_: str) -> Implementation:
            rounded = lsif_sdk.Recommender(artifact, threads=options.threads, precision="bfloat16")
            return problem.implementation(
                call=lambda items: rounded.encode_rows(items, None, None, offsets).fused,
                inputs=inputs,
                flops=flops,
                unit="bf16",
                tolerance=BF16_TOLERANCE,
            )

        builders["lsif"] = lambda _: problem.implementation(call=ours, inputs=inputs, flops=flops)
        builders["lsif_bf16"] = in_bf16
    else:
        torch.set_num_threads(options.threads)
        eager = _eager(artifact, times, offsets)
        exact = np.concatenate([_eager(artifact, times, offsets, torch.float64)(torch.from_numpy(i)) for i in inputs])
        tensors = [torch.from_numpy(items) for items in inputs]
        builders = {
            "torch": lambda _: Implementation(call=eager, inputs=tensors),
            "lsif": lambda _: Implementation(call=ours, inputs=inputs),
        }

    def check(name: str, implementation: Implementation) -> Quality:
        found = np.concatenate(implementation.answers())
        return Quality(max_error=close(name, found, exact, implementation.tolerance))

    chosen = options.impl.split(",") if options.impl else sorted(builders, key=lambda name: not name.startswith("lsif"))
    return Case(build_all(builders, chosen), params_of(options, "model", "dim", "seq_len", "batch"), check)


def _eager(
    artifact: lsif_sdk.Artifact, times: Histories, offsets: Histories, dtype: torch.dtype = torch.float32
) -> Callable[[torch.Tensor], torch.Tensor]:
    """Our own torch module, run eagerly: the cost of a model written by hand."""
    model = InterestFusionModel.from_weights(artifact.config, artifact.weights, dtype=dtype).eval()
    event_times, parts = torch.from_numpy(times.reshape(-1)), torch.from_numpy(offsets)

    @torch.inference_mode()
    def call(items: torch.Tensor) -> torch.Tensor:
        return model.encode(items, event_times, offsets=parts).fused

    return call


def recommend(options: argparse.Namespace) -> Case:
    """The whole request: lists of ids in, ids out, without items of the history."""
    artifact = random_artifact(options, options.num_items, options.data)
    histories, times = random_histories(options, options.num_items)
    recommender = lsif_sdk.Recommender(artifact, threads=options.threads)
    torch.set_num_threads(options.threads)
    lists = [[row.tolist() for row in items] for items in histories]
    requests = [[lsif_sdk.Events(row, moments) for row, moments in zip(rows, times, strict=True)] for rows in lists]
    builders: dict[str, Builder] = {
        "lsif": lambda _: Implementation(
            call=lambda batch: recommender.recommend(batch, options.k),
            inputs=requests,
            read=lambda answer: np.asarray(answer.items, np.int64),
        ),
        "torch": lambda _: Implementation(call=eager_request(artifact, times, options.k), inputs=lists),
    }
    if options.model == "sasrec":
        builders |= composed(EncodeProblem(artifact, histories, options.threads), options.k)
    expected = np.concatenate(
        [eager_request(artifact, times, options.k, torch.float64)(rows).numpy() for rows in lists]
    )

    def check(name: str, implementation: Implementation) -> Quality:
        found = np.concatenate(implementation.answers())
        agree(name, found, expected)
        return Quality(recall=recall(found, expected))

    chosen = options.impl.split(",") if options.impl else list(builders)
    params = params_of(options, "model", "num_items", "dim", "data", "seq_len", "batch", "k")
    return Case(build_all(builders, chosen), params, check)


def eager_request(artifact: lsif_sdk.Artifact, times: Histories, k: int, dtype: torch.dtype = torch.float32) -> Any:
    """In torch: encoding, scores of all items, the history's items masked, and topk."""
    batch, seq_len = times.shape
    users = torch.arange(batch)[:, None]
    vectors, bias = artifact.catalog_vectors.to(dtype).T, artifact.catalog_bias.to(dtype)
    fused: Callable[[torch.Tensor], torch.Tensor]
    if artifact.config.num_interests == 1:
        fused = NewestState(artifact, seq_len).eval().to(dtype)
    else:
        full = _eager(artifact, times, np.arange(batch + 1) * seq_len, dtype)

        def fused(items: torch.Tensor) -> torch.Tensor:
            return full(items.reshape(-1))

    @torch.inference_mode()
    def call(rows: list[list[int]]) -> torch.Tensor:
        items = torch.from_numpy(np.array(rows))  # several times faster than torch.tensor
        scores = torch.addmm(bias, fused(items), vectors)
        scores[users, items] = -torch.inf
        return torch.topk(scores, k).indices

    return call


def append(options: argparse.Namespace) -> Case:
    """One more event for a user of seq_len events, up to the new vector: by the state, or by encoding all events."""
    artifact = random_artifact(options, _VOCABULARY)
    histories, times = random_histories(options, _VOCABULARY)
    recommender = lsif_sdk.Recommender(artifact, threads=options.threads)
    whole = [[lsif_sdk.Events(*user) for user in zip(items, times, strict=True)] for items in histories]
    last = [[lsif_sdk.Events(user.items[-1:], user.times[-1:]) for user in users] for users in whole]
    states = [
        [recommender.new_state(lsif_sdk.Events(user.items[:-1], user.times[:-1])) for user in users] for users in whole
    ]
    vectors = recommender.user_vectors
    builders: dict[str, Builder] = {
        "lsif": lambda _: Implementation(
            call=lambda users: recommender.append(*users),
            inputs=list(zip(states, last, strict=True)),
            read=lambda grown: vectors(state=grown),
        ),
        "lsif_vector": lambda _: Implementation(
            call=lambda users: vectors(state=recommender.append(*users)), inputs=list(zip(states, last, strict=True))
        ),
        "lsif_whole": lambda _: Implementation(call=vectors, inputs=whole),
    }
    exact = np.concatenate([vectors(users) for users in whole])

    def check(name: str, implementation: Implementation) -> Quality:
        return Quality(max_error=close(name, np.concatenate(implementation.answers()), exact, implementation.tolerance))

    chosen = options.impl.split(",") if options.impl else list(builders)
    return Case(build_all(builders, chosen), params_of(options, "model", "dim", "seq_len", "batch"), check)


def load(options: argparse.Namespace) -> Case:
    """Loads an artifact from disk (in the page cache) until it is ready."""
    folder = tempfile.TemporaryDirectory()
    atexit.register(folder.cleanup)
    path = f"{folder.name}/model"
    artifact = random_artifact(options, options.num_items)
    lsif_sdk.Recommender(artifact, threads=options.threads).save(path)
    implementation = Implementation(
        call=lambda source: lsif_sdk.Recommender.load(source, threads=options.threads),
        inputs=[path],
        bytes=sum(4 * weight.numel() for weight in artifact.weights.values()),
    )
    built = build_all({"lsif": lambda _: implementation}, options.impl.split(",") if options.impl else ["lsif"])
    return Case(built, params_of(options, "model", "num_items", "dim"), lambda name, impl: Quality())
