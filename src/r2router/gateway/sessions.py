"""Conversations: which one a request belongs to, and which arm answered it last.

Where this process does not know a conversation, it reads it from the ledger's rows. So replicas agree, and a restart
forgets nothing important.
"""

from __future__ import annotations

import asyncio
import hashlib
import re
from collections import OrderedDict
from pathlib import Path
from typing import Any

import msgspec

from r2router.gateway.incoming import Incoming
from r2router.gateway.ledger.database import Failed, connect
from r2router.gateway.request import Call

_HEADERS = (
    b"x-r2router-session", b"x-claude-code-session-id", b"session_id", b"session-id", b"x-session-id",
    b"x-session-affinity",
    b"x-openwebui-chat-id", b"x-conversation-id",
)  # fmt: skip
"""In this order; the first that is there counts."""

_PLAIN = re.compile(r"[\w.:@/+=-]{1,128}", re.ASCII)
_IN_USER_ID = re.compile(r"_session_([\w-]{1,64})$", re.ASCII)
_MAX_KEPT = 50_000
_BESIDE_S = 600.0
_LAST = (
    "SELECT COALESCE(served, arm), time, input_tokens, key_id FROM requests WHERE session = ? ORDER BY time DESC"
    " LIMIT 20"
)


class Session(msgspec.Struct, frozen=True, kw_only=True):
    """The state of a conversation.

    arm: the arm that answered last.
    at: when, in seconds since 1970.
    tokens: of that prompt, which may be cached.
    turns: its number of items then.
    switched: nano-dollars spent so far on leaving cached prefixes.
    """

    arm: str
    at: float
    tokens: int
    turns: int = 0
    switched: int = 0


def session_of(incoming: Incoming, call: Call, key: str | None) -> str:
    """Return the conversation's name: the client's, else a digest of key, system prompt and first turn; empty where
    there is neither.
    """
    named = (
        call.wanted.session
        or next((found for name in _HEADERS if (found := incoming.header(name))), "")
        or _in_body(call)
    )
    if named:
        return named if _PLAIN.fullmatch(named) else _digest(named)
    said = call.conversation
    return _digest(key or "", said.system, said.first) if said.first else ""


def _in_body(call: Call) -> str:
    body = call.body
    for name in ("prompt_cache_key", "conversation", "session_id"):
        found = body.get(name)
        found = found.get("id") if isinstance(found, dict) else found
        if isinstance(found, str) and found:
            return found
    about = body.get("metadata")
    about = about if isinstance(about, dict) else {}
    if isinstance(found := about.get("session_id"), str) and found:
        return found
    user = about.get("user_id")
    if not isinstance(user, str):
        return ""
    if user[:1] == "{":  # Claude Code's telemetry, which names no user
        return _in_json(user)
    ending = _IN_USER_ID.search(user)
    return ending[1] if ending else ""


def _in_json(text: str) -> str:
    try:
        told: Any = msgspec.json.decode(text.encode("utf-8", "replace"))
    except (msgspec.DecodeError, RecursionError):
        return ""
    found = told.get("session_id") if isinstance(told, dict) else None
    return found if isinstance(found, str) else ""


def _digest(*parts: str) -> str:
    text = "\0".join(parts).encode("utf-8", "surrogatepass")
    return f"s_{hashlib.sha256(text).hexdigest()[:32]}"


class Sessions:
    """What is known of conversations, by key and name.

    where: a ledger to look others up in; None for none.
    """

    def __init__(self, where: str | Path | None = None) -> None:
        self._where = where
        self._kept: OrderedDict[tuple[str | None, str], Session] = OrderedDict()

    async def find(self, key: str | None, name: str) -> Session | None:
        """Find the conversation of that name; None for a new one."""
        if not name:
            return None
        found = self._kept.get((key, name))
        if found is None and self._where is not None:
            found = await asyncio.to_thread(self._look_up, key, name)
            if found is not None:
                self.keep(key, name, found)
        return found

    def keep(self, key: str | None, name: str, session: Session) -> None:
        """Remember the state of a conversation. Small calls beside it, which have one turn, are ignored."""
        known = self._kept.get((key, name))
        if known is not None and session.turns <= 1 < known.turns and session.at - known.at < _BESIDE_S:
            return
        self._kept[key, name] = session
        self._kept.move_to_end((key, name))
        while len(self._kept) > _MAX_KEPT:
            self._kept.popitem(last=False)

    def _look_up(self, key: str | None, name: str) -> Session | None:
        try:
            database = connect(str(self._where), write=False)
            try:
                database.begin()
                rows = database.rows(_LAST, (name,))
                database.commit()
            finally:
                database.close()
        except Failed:
            return None  # it costs a cached prefix, and no answer
        for arm, at, tokens, owner in rows:
            if tokens is not None and (owner == key or (key is None and owner in (None, "", "-"))):
                return Session(arm=str(arm), at=float(at) / 1e6, tokens=int(tokens))
        return None
