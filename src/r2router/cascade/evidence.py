"""What an answer shows: the probability that it is right, and what each other arm is now expected to give.

Everything is in log odds. An answer of arm a moves the forecast for a by a log likelihood ratio. That ratio comes from
a ridge head per arm (on the question's embedding and the answer's signals) and one head for all arms, calibrated on
left-out queries. The odds of the other arms move linearly with the surprise. Two answers to one query are compared, and
agreement counts.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Annotated, Any

import msgspec
import numpy as np

from r2router.cascade.signals import NAMES, agreement
from r2router.cascade.spec import MAX_STEPS
from r2router.errors import ArtifactError
from r2router.predict.linear import check_shapes
from r2router.types import Arm, BoolArray, FloatArray, IntArray

BINS = 5
"""Sizes of evidence that are told apart when a look is planned."""

_SURELY_WRONG = -30.0  # log odds

MIN_PROBABILITY, MAX_PROBABILITY = 0.003, 0.997
"""Bounds of a probability: no answer is surely right or wrong."""

PAIR = 10
"""Features of a pair of answers, see `pair_features`."""

_ARRAYS = ("mean", "scale", "weight", "bias", "calibration", "pooled", "beta", "right", "wrong", "pair", "verdict")


def log_odds(p: FloatArray) -> FloatArray:
    """Return the log odds of probabilities, limited to those of `MIN_PROBABILITY` and `MAX_PROBABILITY`."""
    bounded = np.clip(p, MIN_PROBABILITY, MAX_PROBABILITY)
    odds: FloatArray = np.log(bounded / (1.0 - bounded))
    return odds


def probability(z: FloatArray) -> FloatArray:
    """Return the probabilities of log odds, limited to `MIN_PROBABILITY` and `MAX_PROBABILITY`."""
    p: FloatArray = np.clip(1.0 / (1.0 + np.exp(-np.clip(z, -30.0, 30.0))), MIN_PROBABILITY, MAX_PROBABILITY)
    return p


class LookPlan(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The settings by which a cascade decides whether to ask another arm.

    max_steps: as in `Cascade`.
    caution: the share of the evidence that the decision counts on.
    ahead: the share of the value of a further call that the decision counts on.
    active: false where looking at answers did not pay on left-out queries; the cascade then only does what the router
        does.
    queries: how many queries it was learned from.
    continue_answers: as in `Cascade`.
    """

    max_steps: Annotated[int, msgspec.Meta(ge=1, le=MAX_STEPS)] = 4
    caution: Annotated[float, msgspec.Meta(ge=0, le=1)] = 0.6
    ahead: Annotated[float, msgspec.Meta(ge=0, le=1)] = 0.0
    active: bool = True
    queries: int = 0
    continue_answers: bool = False


@dataclass(frozen=True, slots=True, eq=False)
class Evidence:
    """What was learned from a table with answers; saved as arrays.

    mean, scale: (arms, signals) by which an arm's signals are standardised.
    weight: (arms, d + signals) of each arm's own head.
    bias: (arms,) of each arm's own head; NaN where an arm has none.
    calibration: (arms, 4) weights of a constant, the forecast, the arm's own head and the head for all arms, in log
        odds.
    pooled: (2 + signals,) the head for all arms.
    beta: (arms, arms) how much of a surprise about the first arm is also one about the second.
    right, wrong: (arms, `BINS`) probability of evidence of each size, given a right and a wrong answer.
    pair: (`PAIR`,) weights of the comparison of two answers.
    verdict: (2,) how often the user's check passes right and wrong answers; empty where this was not learned.
    plan: the settings of the cascade.
    """

    arms: tuple[Arm, ...]
    mean: FloatArray
    scale: FloatArray
    weight: FloatArray
    bias: FloatArray
    calibration: FloatArray
    pooled: FloatArray
    beta: FloatArray
    right: FloatArray
    wrong: FloatArray
    pair: FloatArray
    verdict: FloatArray
    plan: LookPlan = field(default_factory=LookPlan)

    @classmethod
    def empty(cls, arms: tuple[Arm, ...], dim: int, signals: int = len(NAMES)) -> Evidence:
        """Make evidence that knows nothing: answers leave all odds as they are."""
        n = len(arms)
        even = np.full((n, BINS), 1.0 / BINS)
        pair = np.zeros(PAIR)
        pooled = np.zeros(2 + signals)
        pair[1] = pooled[1] = 1.0
        weight, bias = np.zeros((n, dim + signals), dtype=np.float32), np.full(n, np.nan)
        numbers = np.zeros((n, signals)), np.ones((n, signals))
        return cls(
            arms, *numbers, weight, bias, np.zeros((n, 4)), pooled, np.eye(n), even, even.copy(), pair, np.zeros(0)
        )

    def ratio(self, x: FloatArray, arm: IntArray, numbers: FloatArray, prior: FloatArray) -> FloatArray:
        """Return (n,) log likelihood ratios of n answers: how they move the log odds of being right.

        x: (n, d) embeddings of the questions.
        arm: (n,) the arm of each answer.
        numbers: (n, signals) of the answers.
        prior: (n,) forecast quality of these arms.
        """
        offset = log_odds(prior)
        numbers = np.where(np.isnan(numbers), self.mean[arm], numbers)  # what is not known is as usual
        plain = np.column_stack([np.ones(len(offset)), offset, numbers])
        pooled = plain @ self.pooled
        z = (numbers - self.mean[arm]) / self.scale[arm]
        d = self.weight.shape[1] - len(NAMES)
        own = (x * self.weight[arm, :d]).sum(axis=1) + (z * self.weight[arm, d:]).sum(axis=1) + self.bias[arm]
        features = np.column_stack([np.ones(len(offset)), offset, log_odds(own), pooled])
        calibrated = (features * self.calibration[arm]).sum(axis=1)
        found: FloatArray = np.where(np.isnan(own), pooled, calibrated) - offset
        return found

    def verdicts(self, check: FloatArray) -> FloatArray:
        """Return (n,) log likelihood ratios of verdicts in [0, 1]; 0 where there is none (NaN).

        Where no reliability was learned, the verdict is taken as the truth: true gives infinity, and nothing more is
        asked.
        """
        if not len(self.verdict):
            with np.errstate(divide="ignore"):
                truth = np.maximum(np.log(check) - np.log1p(-np.minimum(check, 1.0)), _SURELY_WRONG)
            return np.where(np.isnan(check), 0.0, truth)
        passes, fails = self.verdict
        yes, no = np.log(passes / fails), np.log((1 - passes) / (1 - fails))
        return np.where(np.isnan(check), 0.0, check * yes + (1 - check) * no)

    def aligned(self, arms: tuple[Arm, ...], like: Mapping[str, str] | None = None) -> Evidence:
        """Return the evidence for a router with other arms.

        like: a model that nobody measured -> the measured model whose evidence it takes.

        An unknown arm has no head of its own, and its answers do not change the odds of other arms.
        """
        if arms == self.arms:
            return self
        index = {arm: i for i, arm in enumerate(self.arms)}
        stand_ins = [Arm.of((like or {}).get(arm.model, arm.model), arm.budget) for arm in arms]
        at = np.array(
            [index.get(arm, index.get(other, -1)) for arm, other in zip(arms, stand_ins, strict=True)], dtype=np.intp
        )
        known = at >= 0
        fill: dict[str, Any] = {
            "mean": self.mean.mean(axis=0),
            "scale": 1.0,
            "bias": np.nan,
            "right": 1.0 / BINS,
            "wrong": 1.0 / BINS,
        }
        found: dict[str, Any] = {}
        for name in ("mean", "scale", "weight", "bias", "calibration", "right", "wrong"):
            values = getattr(self, name)
            found[name] = np.full((len(arms), *values.shape[1:]), fill.get(name, 0.0), dtype=values.dtype)
            found[name][known] = values[at[known]]
        beta = np.eye(len(arms))
        beta[np.ix_(known, known)] = self.beta[np.ix_(at[known], at[known])]
        np.fill_diagonal(beta, 1.0)
        return replace(self, arms=arms, beta=beta, **found)

    def arrays(self) -> dict[str, Any]:
        """Everything but the settings, as named arrays."""
        return {name: getattr(self, name) for name in _ARRAYS}

    @classmethod
    def from_arrays(cls, arms: tuple[Arm, ...], dim: int, arrays: dict[str, Any], plan: LookPlan) -> Evidence:
        """Restore from named arrays. Raises `ArtifactError` where names, shapes or values are impossible."""
        n, s = len(arms), len(NAMES)
        shapes: dict[str, tuple[int | None, ...]] = {
            "mean": (n, s),
            "scale": (n, s),
            "weight": (n, dim + s),
            "bias": (n,),
            "calibration": (n, 4),
            "pooled": (2 + s,),
            "beta": (n, n),
            "right": (n, BINS),
            "wrong": (n, BINS),
            "pair": (PAIR,),
            "verdict": (None,),
        }
        check_shapes(arrays, shapes)
        for name, values in arrays.items():
            if (
                values.dtype.kind != "f"
                or not np.isfinite(values[~np.isnan(values)] if name == "bias" else values).all()
            ):
                raise ArtifactError(f"cascade.{name} holds what is not a finite number; the artifact is damaged")
        chances = [arrays[name] for name in ("right", "wrong", "verdict")]
        if (
            any(((c <= 0) | (c >= 1)).any() for c in chances)
            or len(arrays["verdict"]) not in (0, 2)
            or (arrays["scale"] <= 0).any()
        ):
            raise ArtifactError("the cascade's chances do not lie between 0 and 1; the artifact is damaged")
        return cls(arms, **arrays, plan=plan)


@dataclass(slots=True, eq=False)
class Beliefs:
    """The probabilities of n queries' answers being right, updated as answers come in.

    The arrays change in place; each question gets a new object.

    prior: (n, arms) probability that an arm's answer is right, by the forecast alone.
    now: (n, arms) the same with all answers seen.
    asked: (n, arms) whether the arm was asked.
    chance: (n, steps) probability that each answer seen is right, NaN where there is none yet.
    words, value: the key words and values of the answers seen (`signals`).
    """

    evidence: Evidence
    prior: FloatArray
    now: FloatArray
    asked: BoolArray
    chance: FloatArray
    words: IntArray
    value: IntArray

    @classmethod
    def of(cls, evidence: Evidence, quality: FloatArray, steps: int, width: int) -> Beliefs:
        """Start from (n, arms) quality forecasts, NaN where an arm is unknown."""
        prior = np.clip(np.nan_to_num(quality), MIN_PROBABILITY, MAX_PROBABILITY)
        n = len(prior)
        return cls(
            evidence,
            prior,
            prior.copy(),
            np.zeros(prior.shape, dtype=np.bool_),
            np.full((n, steps), np.nan),
            np.zeros((n, steps, width), dtype=np.uint32),
            np.zeros((n, steps), dtype=np.int64),
        )

    def take(self, rows: IntArray) -> Beliefs:
        """Copy some rows; a row may be taken several times."""
        arrays = (getattr(self, name)[rows] for name in ("prior", "now", "asked", "chance", "words", "value"))
        return Beliefs(self.evidence, *arrays)

    def best(self, rows: IntArray) -> FloatArray:
        """Return (n,) the probability of the best answer seen; 0 where none was."""
        found: FloatArray = np.nan_to_num(self.chance[rows], nan=0.0).max(axis=1, initial=0.0)
        return found

    def see(
        self, rows: IntArray, arm: IntArray, ratio: FloatArray, words: IntArray, value: IntArray, slot: int
    ) -> None:
        """Add one answer for each of some queries.

        slot: its place among the answers seen.
        ratio: log likelihood ratios. Infinity marks an answer known to be right; minus infinity one known to be wrong,
            which says nothing about other arms.
        """
        silent, sure = np.isneginf(ratio), np.isposinf(ratio)
        ratio = np.where(sure, -_SURELY_WRONG, np.where(silent, 0.0, ratio))
        before = self.now[rows, arm]
        again = self.asked[rows, arm]
        own = log_odds(np.where(again, self.prior[rows, arm], before)) + ratio
        moved, heard = np.zeros(len(rows)), np.zeros(len(rows))
        for other in range(slot):
            seen = ~np.isnan(self.chance[rows, other]) & ~silent & (self.words[rows, other] != 0).any(axis=1)
            agreed = agreement(words, self.words[rows, other])
            both = (value != 0) & (self.value[rows, other] != 0)
            same = both & (value == self.value[rows, other])
            differ = both & (value != self.value[rows, other])
            theirs = log_odds(self.chance[rows, other])
            mine = pair_features(own, theirs, agreed, same, differ) @ self.evidence.pair - own
            moved += np.where(seen, mine, 0.0)
            heard += seen
            back = pair_features(theirs, own, agreed, same, differ) @ self.evidence.pair
            self.chance[rows, other] = np.where(seen, probability(back), self.chance[rows, other])
        chance = np.where(silent, MIN_PROBABILITY, probability(own + moved / np.sqrt(np.maximum(heard, 1.0))))
        surprise = np.where(silent | again, 0.0, (chance - before) / np.sqrt(before * (1.0 - before)))
        spread = np.sqrt(self.now[rows] * (1.0 - self.now[rows]))
        self.now[rows] = np.clip(
            self.now[rows] + self.evidence.beta[arm] * surprise[:, None] * spread, MIN_PROBABILITY, MAX_PROBABILITY
        )
        self.now[rows, arm] = chance
        self.asked[rows, arm] = True
        self.chance[rows, slot] = np.where(sure, 1.0, chance)
        self.words[rows, slot], self.value[rows, slot] = words, value


def pair_features(
    mine: FloatArray, theirs: FloatArray, agreed: FloatArray, same: BoolArray, differ: BoolArray
) -> FloatArray:
    """Return (n, `PAIR`) features of an answer with log odds `mine`, compared with one with log odds `theirs`.

    agreed: (n,) share of common words.
    same, differ: (n,) whether the two give the same value, or different ones.
    """
    columns = (np.ones(len(mine)), mine, agreed, agreed * theirs, (1 - agreed) * theirs, agreed * mine)
    return np.column_stack([*columns, same, same * theirs, differ, differ * theirs])
