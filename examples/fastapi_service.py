"""A service that routes: POST a prompt, get the model, the budget and what it is forecast to cost.

pip install 'r2router' fastapi uvicorn
uvicorn fastapi_service:app            # in this folder; R2ROUTER_ROUTER names a saved router, by default the bundled
one curl -s localhost:8000/route -H 'content-type: application/json' -d '{"prompt": "Who wrote Faust?", "max_cost":
0.002}'
"""

from __future__ import annotations

import os
from typing import Any

from fastapi import FastAPI, HTTPException
from fastapi.concurrency import run_in_threadpool
from pydantic import BaseModel, Field

import r2router as r2
from r2router.starter import starter

app = FastAPI(title="r2router")
saved = os.environ.get("R2ROUTER_ROUTER")
router = r2.Router.load(saved) if saved else starter()  # once; it is immutable, so threads may share it


class Question(BaseModel):
    """What a client sends: a prompt, and at most one wish."""

    prompt: str = Field(min_length=1, max_length=200_000)
    max_cost: float | None = None  # US dollars per request
    min_quality: float | None = None  # between 0 and 1
    value: float | None = None  # US dollars that a correct answer is worth


def policy_of(question: Question) -> r2.Policy | None:
    """The policy that the question asks for; None for the router's own."""
    wishes = {r2.Best: question.max_cost, r2.Cheapest: question.min_quality, r2.Value: question.value}
    asked = [policy(number) for policy, number in wishes.items() if number is not None]
    if len(asked) > 1:
        raise HTTPException(422, "give at most one of max_cost, min_quality, value")
    return asked[0] if asked else None


@app.post("/route")
async def route(question: Question) -> dict[str, Any]:
    """The decision for one prompt. Encoding takes a few milliseconds of CPU, so it runs in a thread."""
    try:
        decision = await run_in_threadpool(router.route, question.prompt, policy_of(question))
    except r2.NoFeasibleArm as error:
        raise HTTPException(409, str(error)) from None
    except r2.UsageError as error:
        raise HTTPException(422, str(error)) from None
    return decision.to_dict()
