"""A request, parsed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

import msgspec

from r2router.decide import AnyPolicy
from r2router.errors import R2Error, Refused
from r2router.gateway.conversation import Ceilings, Conversation
from r2router.gateway.dialects.dialect import Dialect
from r2router.gateway.splice import Members, NotJson

_USUAL = (None, "auto", "default", "standard", "standard_only", "flex", "batch")
"""Service tiers and speeds that cost no more than the usual price. Others (`priority`, `fast`) have prices of their own."""
_Names = Annotated[tuple[Annotated[str, msgspec.Meta(max_length=300)], ...], msgspec.Meta(max_length=100)]
"""Each is compared with every arm, while all other requests wait."""


class Wanted(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The body object `r2router`: options for this one request. The provider never sees it.

    policy: replaces the preset's.
    models, exclude, effort: as in a preset.
    require: capabilities that the model must have.
    session: the name of the conversation.
    """

    policy: AnyPolicy | None = None
    models: _Names = ()
    exclude: _Names = ()
    require: _Names = ()
    effort: Literal["ceiling", "caller"] | None = None
    session: str = ""


@dataclass(frozen=True, slots=True)
class Call:
    """A request, parsed.

    body: without the object `r2router`.
    asked: the model that the client named.
    """

    dialect: Dialect
    body: Members
    asked: str
    wanted: Wanted
    stream: bool
    conversation: Conversation
    ceilings: Ceilings


def read_call(dialect: Dialect, data: bytes, default: str) -> Call:
    """Parse the body of a request. Raises `Refused`."""
    try:
        if not data.isascii():
            data.decode()
        body = Members(data)
        asked, wanted = body.get("model"), body.raw("r2router")
        body.remove("r2router")
        model, stream = _model_of(asked, default), _stream_of(body)
        options = Wanted() if wanted is None else msgspec.json.decode(wanted, type=Wanted)
        said = dialect.read(body)
        said.own_rates = body.get("speed") not in _USUAL or body.get("service_tier") not in _USUAL
        return Call(dialect, body, model, options, stream, said, dialect.ceilings(body))
    except Refused:
        raise
    except UnicodeDecodeError as error:
        raise Refused(f"the body is not UTF-8 (byte {error.start})", status=400, code="invalid_json") from None
    except NotJson as error:
        raise Refused(f"the body is refused: {error}", status=400, code="invalid_json") from None
    except (msgspec.ValidationError, R2Error) as error:
        raise Refused(f"r2router: {error}", status=400, code="invalid_r2router", param="r2router") from None


def _model_of(asked: object, default: str) -> str:
    model = default if asked is None else asked
    if not isinstance(model, str) or not model or len(model) > 300:
        raise Refused("model must be a string, as in 'auto'", status=400, code="invalid_model", param="model")
    return model


def _stream_of(body: Members) -> bool:
    stream = body.get("stream")
    if stream is not None and not isinstance(stream, bool):
        raise Refused("stream must be true or false", status=400, code="invalid_stream", param="stream")
    return bool(stream)
