"""A cascade on real answers: ask an arm, check its answer, and pay for another one only where it does not pass.

R2-Bench-mini comes with r2router, every answer included, so that nothing is called here: an arm is "asked" by looking
its answer up. The check knows the correct answer, as a program's tests would: where a check is the truth, the cheapest
answer that passes wins, and no cascade must be learned from answers. The value of a correct answer is that of the
router's own policy, which keeps 95 % of the best arm's quality by cross-validation on the training queries. The arm
beside it is the best one on those queries too, so that nothing is chosen on the queries that score it.

    python examples/cascade_with_a_check.py
"""

from __future__ import annotations

import asyncio

import numpy as np
import polars as pl

import r2router as r2
from r2router.bench.checks import Scored
from r2router.bench.suite import Query
from r2router.mini import TABLES, mini


async def main() -> None:
    train, test = mini().split(test=0.2)
    router = r2.Recipe().fit(train)
    rows = pl.read_parquet(TABLES["r2bench-mini"])
    texts = {
        (query, f"{model}@{budget}"): text
        for query, model, budget, text in rows.select("query", "model", "budget", "response").iter_rows()
    }
    asked = rows.drop_nulls("judge").unique("query").select("query", "reference", "judge").iter_rows()
    check = Scored.by_suite(
        "exact", [Query(id=text, text=text, reference=right, scorer=judge) for text, right, judge in asked]
    )
    columns, cost = {str(arm): column for column, arm in enumerate(test.arms)}, test.cost()
    passed = paid = calls = 0.0
    for row, question in enumerate(test.queries):

        def call(decision: r2.Decision, question: str = question) -> r2.Answer:  # yours asks an endpoint here
            return r2.Answer(str(decision.arm), texts[question, str(decision.arm)] or "")

        result = await router.answer(question, call, check=check)
        passed += bool(result.answer.check)
        calls += len(result.seen)
        paid += sum(float(cost[row, columns[answer.arm]]) for answer in result.seen)
    n, best = len(test), int(np.nanmean(train.quality, axis=0).argmax())
    print(
        f"always {test.arms[best]}: {test.quality[:, best].mean():.0%} right, ${1e3 * cost[:, best].mean():.4f} per 1,000 requests"
    )
    print(
        f"a cascade with a check: {passed / n:.0%} right, ${1e3 * paid / n:.4f} per 1,000 requests, {calls / n:.1f}"
        " calls per request"
    )


if __name__ == "__main__":
    asyncio.run(main())
