"""The settings of a cascade."""

from __future__ import annotations

from collections.abc import Callable

import msgspec

from r2router.errors import ConfigError

Check = Callable[[str, str], float | bool | None]
"""A check: the question and the answer -> is it right? None where the check cannot tell."""

MAX_STEPS = 16


class Cascade(msgspec.Struct, frozen=True):
    """How a cascade looks at answers.

    max_steps: the maximum number of arms that are asked for one query.
    check: the user's own check (see `r2router.cascade.checks`); its reliability is learned from the table's answers.
        Without it, a verdict that comes with an answer is taken as the truth.
    continue_answers: the caller can continue answers. An arm with a larger budget of the same model then costs only
        what it adds, where both are controlled by `prefix_sharing`; `Step.continues` says which answer to continue.
    seed: the random seed.
    """

    max_steps: int = 4
    check: Check | None = None
    seed: int = 0
    continue_answers: bool = False

    def __post_init__(self) -> None:
        if not 1 <= self.max_steps <= MAX_STEPS:
            raise ConfigError(
                f"Cascade(max_steps={self.max_steps}): from 1 to {MAX_STEPS} arms can be asked for one query"
            )
        if self.seed < 0:
            raise ConfigError(f"Cascade(seed={self.seed}): a seed is at least 0")
        if self.check is not None and not callable(self.check):
            raise ConfigError(f"Cascade(check={self.check!r}): a check is called with the question and the answer")
