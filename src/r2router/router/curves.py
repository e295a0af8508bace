"""What a forecast of one query says: a curve per model, and the exact path over all trade-offs."""

from __future__ import annotations

import numpy as np

from r2router.metrics.frontier import sweep
from r2router.pool.pool import Pool
from r2router.router.reason import infeasible
from r2router.types import Arm, BoolArray, Curve, Forecast, PathStep


def path_of(arms: tuple[Arm, ...], scale: float, forecast: Forecast, usable: BoolArray | None) -> list[PathStep]:
    """Do the work of `Router.path`, for a forecast of one query."""
    cost = forecast.cost if usable is None else np.where(usable, forecast.cost, np.inf)
    if not (np.isfinite(cost) & ~np.isnan(forecast.quality)).any():
        raise infeasible(arms, forecast, None, usable)
    steps = sweep(forecast.quality, cost)
    order = [int(steps.start[0]), *steps.after.tolist()]
    values = [0.0, *steps.value.tolist()]
    return [
        PathStep(arms[a], scale / (scale + v), v, float(forecast.quality[0, a]), float(cost[0, a]))
        for a, v in zip(order, values, strict=True)
    ]


def curves_of(pool: Pool, forecast: Forecast) -> list[Curve]:
    """Return the curves of the first query of a forecast."""
    curves = []
    for number, model in enumerate(pool.models):
        at = np.flatnonzero(pool.model_of_arm == number)
        values = (tuple(a[0, at].tolist()) for a in (forecast.quality, forecast.tokens, forecast.cost, forecast.spread))
        curves.append(Curve(model.id, tuple(b.id for b in model.budgets), *values))
    return curves
