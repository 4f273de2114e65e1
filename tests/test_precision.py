"""`precision="bfloat16"`: near float32 on every instruction set, and otherwise like float32."""

from __future__ import annotations

import json

import numpy as np
import pytest

import encode_cases
import native
from lsif_sdk import Events, Recommender, _core
from lsif_sdk.errors import ArgumentError, ArgumentTypeError
from test_encode import run_with_isa

TOLERANCE = 5e-2
"""Norm-wise error of the worst vector; tests/kernels/test_linear.cpp tests the error of single products."""
CASES = ["hstu, window 50", "transformer, window 50", "dim 65, five heads", "dim 1", "repeats", "four layers"]
CODE = f"""
import json, sys
sys.path.insert(0, "tests")
import numpy as np, torch, encode_cases, native
torch.set_num_threads(1)
errors = {{}}
for name in {CASES!r}:
    case = encode_cases.CASES[name]
    artifact, batch = case.artifact(), case.batch()
    path = native.request_path(artifact, precision="bfloat16")
    actual = batch.encode(path, 2)
    errors[name] = native.encode_error(artifact, batch, actual)
    assert all(map(np.array_equal, actual, batch.encode(path, 1)))
print(json.dumps(errors))
"""


@pytest.mark.parametrize("isa", _core.build_info()["runnable_isas"])
def test_bfloat16_is_near_the_torch_module_on_every_isa(isa):
    result = run_with_isa(isa, "-c", CODE)
    assert result.returncode == 0, result.stderr
    errors = json.loads(result.stdout)
    assert all(error < TOLERANCE for error in errors.values()), errors
    assert max(errors.values()) > 10 * encode_cases.TOLERANCE, errors  # so it is not float32


@pytest.fixture(scope="module")
def artifact():
    return native.make_artifact(native.make_config(block="transformer", request_time=True, num_actions=0))


def test_float32_is_the_default_and_other_names_are_refused(artifact):
    assert Recommender(artifact).precision == "float32"
    assert Recommender(artifact, precision="bfloat16").precision == "bfloat16"
    for wrong in ("bf16", "float16", "", None, 16, np.array(["float32"] * 2)):
        with pytest.raises(
            (ArgumentError, ArgumentTypeError), match=r"^precision: expected one of 'float32', 'bfloat16', got "
        ):
            Recommender(artifact, precision=wrong)
    with pytest.raises(ValueError, match=r"^precision: expected 'float32' or 'bfloat16', got 'half'"):
        native.request_path(artifact, precision="half")


def test_load_takes_it(artifact, tmp_path):
    Recommender(artifact).save(tmp_path / "model")
    loaded = Recommender.load(tmp_path / "model", precision="bfloat16")
    ids = artifact.items.ids[:7].tolist()
    expected = Recommender(artifact, precision="bfloat16").user_vectors(ids)
    np.testing.assert_array_equal(loaded.user_vectors(ids), expected)
    assert not np.array_equal(Recommender(artifact).user_vectors(ids), expected)


def test_states_give_what_whole_histories_give_and_belong_to_one_precision(artifact):
    exact, rounded = Recommender(artifact), Recommender(artifact, precision="bfloat16")
    rng = np.random.default_rng(0)
    ids = rng.choice(artifact.items.ids, 40).tolist()
    times = np.cumsum(rng.integers(1, 10**5, 40))
    state = rounded.new_state(Events(ids[:30], times[:30]))
    state = rounded.append(state, Events(ids[30:], times[30:]))
    num_long = artifact.config.num_long
    whole = rounded.encode(Events(ids, times)).interests[:, num_long:]
    np.testing.assert_array_equal(rounded.encode(state=state).interests[:, num_long:], whole)
    with pytest.raises(ArgumentError, match=r"^state: expected"):
        exact.recommend(state=state)
    assert exact.fingerprint != rounded.fingerprint
