"""Look at an answer before paying for a better one: evidence from answers, the value of another call, and the steps."""

from __future__ import annotations

from r2router.cascade.answers import Answer as Answer
from r2router.cascade.answers import CascadePlan as CascadePlan
from r2router.cascade.answers import Step as Step
from r2router.cascade.evidence import Evidence as Evidence
from r2router.cascade.spec import Cascade as Cascade
