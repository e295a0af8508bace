"""A router out of the paper's release decides as the release does."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import numpy as np
import pytest

import r2router as r2
from r2router.importers.ucf import import_release

REFERENCE = Path(__file__).parent.parent.parent / "shared" / "reference"
needs_reference = pytest.mark.skipif(
    not REFERENCE.exists(), reason="the paper's checkpoints are not at ../shared/reference"
)


@pytest.fixture(scope="module")
def recorded() -> dict:
    return json.loads(gzip.open(REFERENCE / "reference_decisions.json.gz").read())


@pytest.fixture(scope="module")
def vectors(recorded: dict) -> np.ndarray:
    return np.array([row["embedding"] for row in recorded["rows"]], dtype=np.float32)


@needs_reference
def test_faithful_import_picks_the_recorded_arm_at_every_lambda(
    recorded: dict, vectors: np.ndarray, tmp_path: Path
) -> None:
    import_release(REFERENCE, faithful=True).save(tmp_path / "router")
    router = r2.Router.load(tmp_path / "router")
    options = [r2.Arm(option.replace("|", "@")) for option in recorded["options"]]
    assert list(router.arms) == options
    for number, lam in enumerate(recorded["lambdas"]):
        choices = router.decide(vectors, r2.Tradeoff(lam, scale=1.0), input_tokens=recorded["input_tokens"])
        assert choices.arm.tolist() == [row["decisions"][number]["exact_option"] for row in recorded["rows"]], (
            f"lambda {lam}"
        )


@needs_reference
def test_faithful_import_follows_the_input_tokens_it_is_given(recorded: dict, vectors: np.ndarray) -> None:
    router = import_release(REFERENCE, faithful=True)
    for case in recorded["extra_input_tokens"]:
        choice = router.decide(
            vectors[case["row"]], r2.Tradeoff(case["lam"], scale=1.0), input_tokens=case["input_tokens"]
        )
        assert choice.arm[0] == case["exact_option"]


@needs_reference
def test_plain_import_calls_available_models_only_and_forecasts_positive_tokens(vectors: np.ndarray) -> None:
    router = import_release(REFERENCE)
    available = {m.id for m in router.pool.models if m.available}
    assert len(available) < len(router.pool.models)
    for lam in (0.0, 0.5, 0.99999):
        choices = router.decide(vectors, r2.Tradeoff(lam, scale=1.0))
        assert {router.arms[i].model for i in choices.arm} <= available
    assert (router.forecast_vectors(vectors).tokens >= 1).all()


@needs_reference
def test_import_decides_on_vectors_and_says_so_when_given_a_text() -> None:
    with pytest.raises(r2.R2Error, match="Qwen3-0.6B"):
        import_release(REFERENCE).route("What is the capital of France?")
