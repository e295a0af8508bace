"""What the gateway itself refuses, and why; each endpoint writes it in its own shape."""

from __future__ import annotations

import math
from typing import Any

_OPENAI_TYPES = {401: "authentication_error", 402: "insufficient_quota", 403: "permission_error", 429: "rate_limit_error"}
_ANTHROPIC_TYPES = {
    401: "authentication_error", 402: "billing_error", 403: "permission_error", 404: "not_found_error", 413: "request_too_large",
    429: "rate_limit_error", 504: "timeout_error", 529: "overloaded_error",
}  # fmt: skip


class Refusal(Exception):
    """An answer of the gateway's own.

    status: of HTTP. code: for programs. message: one or two lines for a person; it holds no key and no prompt. param: the field that is
    wrong. retry_after: seconds after which another try makes sense. details: more members of the error. retry: false where clients must
    not send it again by themselves, although the status would let them.
    """

    def __init__(
        self,
        status: int,
        code: str,
        message: str,
        *,
        param: str | None = None,
        retry_after: float | None = None,
        details: dict[str, Any] | None = None,
        retry: bool = True,
    ) -> None:
        super().__init__(message)
        self.status, self.code, self.message, self.param = status, code, message, param
        self.retry_after, self.details, self.retry = retry_after, details or {}, retry

    def headers(self) -> list[tuple[bytes, bytes]]:
        """What goes beside it."""
        found = []
        if self.retry_after is not None:
            found.append((b"retry-after", str(max(1, math.ceil(self.retry_after))).encode()))
        if not self.retry:
            found.append((b"x-should-retry", b"false"))
        return found


def openai_error(refusal: Refusal) -> dict[str, Any]:
    """As OpenAI's endpoints report an error."""
    kind = _OPENAI_TYPES.get(refusal.status, "invalid_request_error" if refusal.status < 500 else "server_error")
    return {"error": {"message": refusal.message, "type": kind, "param": refusal.param, "code": refusal.code, **refusal.details}}


def anthropic_error(refusal: Refusal, request_id: str) -> dict[str, Any]:
    """As Anthropic's endpoints report an error."""
    kind = _ANTHROPIC_TYPES.get(refusal.status, "invalid_request_error" if refusal.status < 500 else "api_error")
    error = {"type": kind, "message": refusal.message, "code": refusal.code, **refusal.details}
    return {"type": "error", "error": error, "request_id": request_id}
