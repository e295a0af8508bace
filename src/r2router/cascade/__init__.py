"""Look at an answer before paying for a better one: evidence from answers, the value of looking, and the steps that
follow.

`learn` fits `Evidence` from a table with answers; `value` decides, with arrays; `router.step` and `router.answer` are
what is called. How it works, and what it measures: docs/cascade.md.
"""

from __future__ import annotations

from r2router.cascade.answers import Answer as Answer
from r2router.cascade.answers import CascadePlan as CascadePlan
from r2router.cascade.answers import Step as Step
from r2router.cascade.evidence import Evidence as Evidence
from r2router.cascade.spec import Cascade as Cascade
