"""The gateway's own errors, in the shape of each wire format."""

from __future__ import annotations

import math
from typing import Any

from r2router.errors import Refused

_OPENAI_TYPES = {
    401: "authentication_error",
    402: "insufficient_quota",
    403: "permission_error",
    429: "rate_limit_error",
}
_ANTHROPIC_TYPES = {
    401: "authentication_error", 402: "billing_error", 403: "permission_error", 404: "not_found_error",
    413: "request_too_large",
    429: "rate_limit_error", 504: "timeout_error", 529: "overloaded_error",
}  # fmt: skip


def error_headers(refused: Refused) -> list[tuple[bytes, bytes]]:
    """Make the headers of an error."""
    found = []
    if refused.retry_after is not None:
        found.append((b"retry-after", str(max(1, math.ceil(refused.retry_after))).encode()))
    if not refused.retry:
        found.append((b"x-should-retry", b"false"))
    return found


def openai_error(refused: Refused) -> dict[str, Any]:
    """Write an error as OpenAI's endpoints do."""
    kind = _OPENAI_TYPES.get(refused.status, "invalid_request_error" if refused.status < 500 else "server_error")
    return {
        "error": {
            "message": refused.message,
            "type": kind,
            "param": refused.param,
            "code": refused.code,
            **refused.details,
        }
    }


def anthropic_error(refused: Refused, request_id: str) -> dict[str, Any]:
    """Write an error as Anthropic's endpoints do."""
    kind = _ANTHROPIC_TYPES.get(refused.status, "invalid_request_error" if refused.status < 500 else "api_error")
    error = {"type": kind, "message": refused.message, "code": refused.code, **refused.details}
    return {"type": "error", "error": error, "request_id": request_id}
