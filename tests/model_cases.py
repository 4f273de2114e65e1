"""Models for tests, and docs/model.md written out event by event in float64."""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional

from lsif_sdk.config import ModelConfig
from lsif_sdk.model import UNKNOWN_TIME, Encoded, InterestFusionModel

NUM_ITEMS = 37
CONFIGS = {
    "hstu": {},
    "transformer": {"block": "transformer"},
    "request_time": {"request_time": True, "scoring": "multi_interest", "temperature": 0.7},
    "transformer_request_time": {"block": "transformer", "request_time": True, "activation": "relu"},
    "no_times": {"use_times": False, "num_actions": 0, "activation": "silu", "block": "transformer"},
    "window_of_one": {"window": 1, "short_window": 1},
    "newest_only": {"num_long": 0, "num_short": 0},
    "long_only": {"num_short": 0, "normalize_items": True, "item_scale": 2.5},
    "normalized_inputs": {"normalize_inputs": True},
    "both_normalized": {"normalize_inputs": True, "normalize_items": True, "item_scale": 2.5},
    "short_only": {"num_long": 0, "normalize_items": True, "scoring": "multi_interest"},
}


def make_config(**changes: object) -> ModelConfig:
    values: dict[str, object] = {
        "num_items": NUM_ITEMS, "dim": 8, "num_layers": 2, "num_heads": 2, "ffn_dim": 12, "window": 4, "num_long": 3,
        "num_short": 2, "short_window": 3, "pooling_dim": 5, "fusion_dim": 6, "num_time_boundaries": 30,
        "num_actions": 3,
    }  # fmt: skip
    return ModelConfig(**{**values, **changes})  # type: ignore[arg-type]


def make_model(config: ModelConfig, seed: int = 0) -> InterestFusionModel:
    """A float64 model in eval mode whose every parameter matters (none at a symmetric initial value)."""
    generator = torch.Generator().manual_seed(seed)
    model = InterestFusionModel(config).to(torch.float64).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.4 * torch.randn(parameter.shape, generator=generator, dtype=torch.float64))
    return model


def make_history(length: int, seed: int, unknown: float = 0.0) -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(1000 + seed)
    items = torch.randint(NUM_ITEMS, (length,), generator=generator)
    gaps = torch.exp(16 * torch.rand(length, generator=generator)).long() - 1
    times = 1_000_000_000 + gaps.cumsum(0)
    times[torch.rand(length, generator=generator) < unknown] = UNKNOWN_TIME
    return items, times, torch.randint(4, (length,), generator=generator)


class Oracle:
    """docs/model.md for one history, one event at a time, straight from the artifact's tensors."""

    def __init__(self, config: ModelConfig, model: InterestFusionModel) -> None:
        self.config = config
        state = {name.removeprefix("encoder."): value for name, value in model.state_dict().items()}
        if config.num_long:
            state["long_pooling.decay"] = state.pop("long_pooling.rate") ** 2
        self.w = state

    def linear(self, name: str, x: Tensor) -> Tensor:
        return functional.linear(x, self.w[f"{name}.weight"], self.w.get(f"{name}.bias"))

    def norm(self, name: str, x: Tensor) -> Tensor:
        centred = x - x.mean()
        scaled = centred / (centred.square().mean() + self.config.norm_eps).sqrt()
        return scaled * self.w[f"{name}.weight"] + self.w[f"{name}.bias"]

    def bucket(self, q: int, t: int) -> int:
        if UNKNOWN_TIME in (q, t):
            return 0
        return 1 + sum(int(b) <= max(q - t, 0) for b in self.w["time_boundaries"])

    def attend(self, layer: str, i: int, q: Tensor, k: list[Tensor], v: list[Tensor], asked: list[int],
               times: list[int]) -> Tensor:  # fmt: skip
        c, out = self.config, []
        keys = range(max(0, i - c.window + 1), i + 1)
        for h in range(c.num_heads):
            part = slice(h * c.head_dim, (h + 1) * c.head_dim)
            logits = []
            for j in keys:
                logit = q[part] @ k[j][part] / math.sqrt(c.head_dim) + self.w[f"{layer}.position_bias"][h, i - j]
                if c.use_times:
                    logit = logit + self.w[f"{layer}.time_bias"][h, self.bucket(asked[i], times[j])]
                logits.append(logit)
            stacked = torch.stack(logits)
            weights = stacked.sigmoid() * stacked / c.window if c.block == "hstu" else stacked.softmax(0)
            out.append(sum(weight * v[j][part] for weight, j in zip(weights, keys, strict=True)))
        return torch.cat(out)

    def states(self, x: list[Tensor], times: list[int], asked: list[int]) -> list[Tensor]:
        c = self.config
        for number in range(c.num_layers):
            layer = f"layers.{number}"
            projected = [self.linear(f"{layer}.input", self.norm(f"{layer}.norm", row)) for row in x]
            if c.block == "hstu":
                q, k, v, u = zip(*(functional.silu(row).chunk(4) for row in projected), strict=True)
            else:
                q, k, v = zip(*(row.chunk(3) for row in projected), strict=True)
            attended = [self.attend(layer, i, q[i], k, v, asked, times) for i in range(len(x))]
            if c.block == "hstu":
                gated = [self.norm(f"{layer}.output_norm", o) * gate for o, gate in zip(attended, u, strict=True)]
                x = [row + self.linear(f"{layer}.output", o) for row, o in zip(x, gated, strict=True)]
                continue
            x = [row + self.linear(f"{layer}.output", o) for row, o in zip(x, attended, strict=True)]
            act = getattr(functional, c.activation)
            for i, row in enumerate(x):
                hidden = act(self.linear(f"{layer}.ffn_up", self.norm(f"{layer}.ffn_norm", row)))
                x[i] = row + self.linear(f"{layer}.ffn_down", hidden)
        return [self.norm("norm", row) for row in x]

    def pool(self, name: str, rows: list[Tensor], penalty: Tensor | None = None) -> Tensor:
        stacked = torch.stack(rows)
        logits = self.linear(f"{name}.logits", functional.silu(self.linear(f"{name}.hidden", stacked)))
        if penalty is not None:
            logits = logits - penalty
        return logits.softmax(0).t() @ stacked

    def encode(self, items: list[int], times: list[int], actions: list[int], now: int, cut_off: int = 0) -> Encoded:
        c, newest = self.config, times[-1]
        x = [self.w["item_embedding"][item].clone() for item in items]
        if c.normalize_inputs:
            x = [math.sqrt(c.dim) * row / row.norm() for row in x]
        if c.num_actions:
            x = [row + self.w["action_embedding"][action] for row, action in zip(x, actions, strict=True)]
        asked = times
        if c.request_time:
            asked = [*times[1:], newest if now == UNKNOWN_TIME else now]
        h = self.states(x, times, asked)
        interests = []
        if c.num_long:
            known = [c.use_times and UNKNOWN_TIME not in (newest, t) for t in times]
            ages = [max(newest - t, 0) / 86400 if k else 0.0 for t, k in zip(times, known, strict=True)]
            penalty = torch.tensor(ages, dtype=torch.float64)[:, None] * self.w["long_pooling.decay"]
            interests.append(self.linear("long_pooling.value", self.pool("long_pooling", x, penalty)))
        if c.num_short:
            interests.append(self.pool("short_pooling", h[-c.short_window :]))
        v = torch.cat([*interests, h[-1][None]])
        m = c.num_interests
        gap = 0.0
        if c.request_time and UNKNOWN_TIME not in (now, newest):
            gap = math.log1p(max(now - newest, 0)) / math.log1p(31536000)
        cosines = functional.normalize(v, dim=-1) @ functional.normalize(v, dim=-1).t()
        dispersion = float(1 - (cosines.sum() - m) / (m * (m - 1))) if m > 1 else 0.0
        context = v.new_tensor([gap, math.log1p(cut_off + len(items)) / math.log1p(1000), dispersion])
        hidden = functional.silu(self.linear("fusion.hidden", torch.cat([v.flatten(), context])))
        weights = self.linear("fusion.logits", hidden).softmax(0)
        return Encoded(weights @ v, v, weights)

    def score(self, encoded: Encoded, item: int) -> Tensor:
        c, vector = self.config, self.w["item_embedding"][item]
        if c.normalize_items:
            vector = c.item_scale * vector / vector.norm()
        bias = self.w["catalog.bias"][item]
        if c.scoring == "fused":
            return encoded.fused @ vector + bias
        terms = [w.log() + v @ vector / c.temperature for w, v in zip(encoded.weights, encoded.interests, strict=True)]
        return c.temperature * torch.logsumexp(torch.stack(terms), 0) + bias


def assert_encoded(actual: Encoded, expected: Encoded) -> None:
    for part, reference in zip(actual[:3], expected[:3], strict=True):  # tests/test_repeats.py has the bonus
        torch.testing.assert_close(part, reference, rtol=1e-9, atol=1e-10)
