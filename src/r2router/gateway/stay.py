"""Decides whether a conversation stays with the model that answered last.

It must stay where the conversation carries state that only one provider can read, and within a tool loop. It should
stay while the model has the prefix in its cache, which counts as a lower price.
"""

from __future__ import annotations

import time
from dataclasses import dataclass

import numpy as np

from r2router.errors import Refused
from r2router.gateway.conversation import Conversation
from r2router.gateway.sessions import Session
from r2router.gateway.setting import Setting
from r2router.types import Arm, BoolArray, FloatArray

CACHE_S = 300.0
"""How long providers keep a prefix, about."""
_ERRORS = 2
_MIN_TURNS = 6
_OWNERS = {"signature": "anthropic", "encrypted": "openai", "thought_signature": "gemini"}
"""Whose state it is, where no session tells."""


@dataclass(frozen=True, slots=True)
class Stay:
    """Which arms a conversation may use now.

    mask: (arms,) which arms may be asked.
    extra: (arms,) US dollars that each arm costs more, or (negative) less.
    arm: the arm to keep; empty for none.
    cold: (arms,) nano-dollars of the cached prefix that asking the arm gives up.
    reason: why; empty where the conversation is free.
    escalate: whether the best arm should be asked.
    """

    mask: BoolArray
    extra: FloatArray
    cold: FloatArray
    arm: str = ""
    reason: str = ""
    escalate: bool = False


class Staying:
    """Makes that decision for one setting."""

    def __init__(self, setting: Setting) -> None:
        self._setting, self._pool = setting, setting.router.pool
        models = [self._pool.models[m] for m in self._pool.model_of_arm]
        self._providers = np.array([m.provider for m in models])
        self._models = np.array([m.id for m in models])
        self._dialects = np.array(
            [setting.providers[m.provider].dialect if m.provider in setting.providers else "" for m in models]
        )
        self._fresh = self._pool.usd_per_token[0]
        self._cached = self._pool.usd_per_token[2]

    def decide(
        self, said: Conversation, session: Session | None, usable: BoolArray, tokens: int, switch_usd: float
    ) -> Stay:
        """Decide which arms a conversation may use now.

        usable: (arms,) which can take the request.
        tokens: of its prompt.
        switch_usd: US dollars that may be spent on leaving cached prefixes.

        Raises `Refused` where the only provider that can continue is not available.
        """
        none = np.zeros(len(usable))
        last = self._index(session)
        if said.state:
            return Stay(self._pinned(said, last, usable), none, none, reason=self._pin_reason(last, said, usable))
        if session is None or last is None:
            return Stay(usable, none, none)
        compacted = session.turns >= _MIN_TURNS and said.turns < session.turns // 2
        if said.errors >= _ERRORS or compacted:
            return Stay(
                usable,
                none,
                none,
                reason="escalated:error" if said.errors >= _ERRORS else "escalated:compaction",
                escalate=True,
            )
        if said.loop and usable[last]:
            return Stay(usable, none, none, arm=self._pool.arms[last], reason="kept:loop")
        return self._priced(session, last, usable, tokens, switch_usd)

    def _index(self, session: Session | None) -> int | None:
        """Find the arm that answered last, or one of the same model where its budget was between two arms."""
        if session is None:
            return None
        arm = Arm(session.arm)
        found = self._pool.index.get(arm)
        if found is None:
            same = np.flatnonzero(self._models == (arm.model or session.arm))
            found = int(same[0]) if len(same) else None
        return found

    def _pinned(self, said: Conversation, last: int | None, usable: BoolArray) -> BoolArray:
        if last is not None:
            mask = usable & (self._providers == self._providers[last])
            if not mask.any():
                name = self._providers[last]
                message = (
                    f"this conversation carries state that only provider {name!r} can read, and that cannot take it"
                    " now; begin a new one"
                )
                raise Refused(message, status=409, code="pinned_provider_gone", retry=False)
            return mask
        owners = {_OWNERS[kind] for kind in said.state if kind in _OWNERS}
        mask = usable & np.isin(self._dialects, list(owners))
        return mask if mask.any() else usable

    def _pin_reason(self, last: int | None, said: Conversation, usable: BoolArray) -> str:
        return "pinned:state" if last is not None or (self._pinned(said, None, usable) != usable).any() else ""

    def _priced(self, session: Session, last: int, usable: BoolArray, tokens: int, switch_usd: float) -> Stay:
        prefix = min(session.tokens, tokens)
        if time.time() - session.at > CACHE_S or not prefix:
            return Stay(usable, np.zeros(len(usable)), np.zeros(len(usable)))
        warm = self._models == self._models[last]
        saved = prefix * (self._fresh - self._cached)
        cold = np.where(warm, 0.0, prefix * self._fresh)
        left = switch_usd - session.switched / 1e9
        mask = usable & (warm | (cold <= left))
        return Stay(mask if mask.any() else usable, np.where(warm, -saved, 0.0), cold * 1e9)
