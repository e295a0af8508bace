"""`POST /v1/feedback`: a client's score of an answer. It is kept in that request's row."""

from __future__ import annotations

from typing import Annotated

import msgspec

from r2router.errors import Refused, UsageError
from r2router.gateway.books import Books
from r2router.gateway.ledger import Ledger
from r2router.gateway.setting import Setting
from r2router.gateway.targets import Targets

MAX_MB = 0.01
"""Of the body, megabytes."""


class Feedback(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The body of `POST /v1/feedback`.

    request_id: from the answer's header x-r2router-request-id.
    score: from 0 (useless) to 1 (right).
    """

    request_id: Annotated[str, msgspec.Meta(min_length=1, max_length=200)]
    score: Annotated[float, msgspec.Meta(ge=0, le=1)]


async def take(data: bytes, key: str | None, books: Books, setting: Setting, targets: Targets) -> bytes:
    """Keep a score and return the response's body. Raises `Refused`.

    key: the key that the request must belong to; None for any.
    """
    try:
        said = msgspec.json.decode(data, type=Feedback)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise Refused(
            f'{error}; send {{"request_id": "...", "score": 1.0}}, a score from 0 to 1',
            status=400,
            code="invalid_feedback",
        ) from None
    if not isinstance(books, Ledger):
        raise Refused("this gateway keeps no ledger, so it knows no request", status=404, code="no_ledger")
    held = {name: pace for name, pace in setting.paces.items() if pace.kind == "quality"}
    try:
        scored = await books.score(said.request_id, key, said.score, held, targets.expected())
    except UsageError as error:
        raise Refused(str(error), status=404, code="request_not_found", param="request_id") from None
    if scored.pace is not None and scored.preset is not None:
        targets.put(scored.preset, scored.pace)
    return msgspec.json.encode(said)
