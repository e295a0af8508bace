"""A request as it was understood."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import msgspec

from r2router.decide import AnyPolicy
from r2router.errors import R2Error
from r2router.gateway.conversation import Ceilings, Conversation
from r2router.gateway.dialects.dialect import Dialect
from r2router.gateway.refusal import Refusal
from r2router.gateway.splice import Members, NotJson


class Wanted(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The body object `r2router`: what this one request wants. The provider never sees it.

    policy: instead of the preset's. models, exclude, effort: as in a preset. require: capabilities. session: which conversation it is of.
    """

    policy: AnyPolicy | None = None
    models: tuple[str, ...] = ()
    exclude: tuple[str, ...] = ()
    require: tuple[str, ...] = ()
    effort: Literal["ceiling", "caller"] | None = None
    session: str = ""


@dataclass(frozen=True, slots=True)
class Call:
    """A request as it was understood. body: without the object `r2router`. asked: the model that the client named."""

    dialect: Dialect
    body: Members
    asked: str
    wanted: Wanted
    stream: bool
    conversation: Conversation
    ceilings: Ceilings


def read_call(dialect: Dialect, data: bytes, default: str) -> Call:
    """Raises `Refusal`."""
    try:
        if not data.isascii():
            data.decode()
        body = Members(data)
        asked, wanted = body.get("model"), body.raw("r2router")
        body.remove("r2router")
        if asked is None:
            asked = default
        if not isinstance(asked, str) or not asked or len(asked) > 300:
            raise Refusal(400, "invalid_model", "model must be a string, as in 'auto'", param="model")
        stream = body.get("stream")
        if stream is not None and not isinstance(stream, bool):
            raise Refusal(400, "invalid_stream", "stream must be true or false", param="stream")
        options = Wanted() if wanted is None else msgspec.json.decode(wanted, type=Wanted)
        return Call(dialect, body, asked, options, bool(stream), dialect.read(body), dialect.ceilings(body))
    except UnicodeDecodeError as error:
        raise Refusal(400, "invalid_json", f"the body is not UTF-8 (byte {error.start})") from None
    except NotJson as error:
        raise Refusal(400, "invalid_json", f"the body is refused: {error}") from None
    except (msgspec.ValidationError, R2Error) as error:
        raise Refusal(400, "invalid_r2router", f"r2router: {error}", param="r2router") from None
