"""Translation between wire formats, for providers that do not have the endpoint that the client asked.

A request is read into a `CommonRequest` and written in the other format. Where the other format has no field for
something, `TranslationLoss` is raised and the arm is left out: nothing is dropped silently. A reply is read as a
sequence of events and written as a reply, or a stream, in the client's format.
"""

from __future__ import annotations

from r2router.gateway.budgets import clamped
from r2router.gateway.dialects.dialect import Speaks
from r2router.gateway.request import Call
from r2router.gateway.splice import Members, NotJson
from r2router.gateway.translate.chat_reply import ChatReader, ChatWriter
from r2router.gateway.translate.chat_request import read_chat, write_chat
from r2router.gateway.translate.common_request import CommonRequest, TranslationLoss
from r2router.gateway.translate.messages_reply import MessagesReader, MessagesWriter
from r2router.gateway.translate.messages_request import read_messages, write_messages
from r2router.gateway.translate.reply import ReplyReader, ReplyTranslator, ReplyWriter
from r2router.gateway.translate.responses_reply import ResponsesReader, ResponsesWriter
from r2router.gateway.translate.responses_request import read_responses, write_responses
from r2router.types import Model, Provider

TRANSLATED: tuple[Speaks, ...] = ("chat", "messages", "responses")
"""The endpoints between which requests are translated, in the order in which they are tried."""

_READ = {"chat": read_chat, "messages": read_messages, "responses": read_responses}
_WRITE = {"chat": write_chat, "messages": write_messages, "responses": write_responses}
_READERS: dict[str, type[ReplyReader]] = {"chat": ChatReader, "messages": MessagesReader, "responses": ResponsesReader}
_WRITERS: dict[str, type[ReplyWriter]] = {"chat": ChatWriter, "messages": MessagesWriter, "responses": ResponsesWriter}


def loss(call: Call, end: Speaks) -> str:
    """Name what a translation of the request to another endpoint would lose; empty where nothing would be lost."""
    try:
        _WRITE[end](_asked(call), None, None)
    except TranslationLoss as lost:
        return str(lost)
    except NotJson as error:
        return str(error)
    return ""


def translated(call: Call, end: Speaks, model: Model, provider: Provider) -> Members:
    """Write the request in another endpoint's format; the result can be edited further. Raises `TranslationLoss`."""
    asked = _asked(call)
    if asked.effort is not None:
        asked.effort = clamped(asked.effort, tuple(b.id for b in model.budgets if "reasoning_effort" in b.control))
    return Members(_WRITE[end](asked, model, provider))


def reply_translator(call: Call, end: Speaks, *, shown: str | None, input_tokens: int) -> ReplyTranslator:
    """Make the translator from the replies of that endpoint to those of the endpoint that the client asked.

    input_tokens: an estimate, for formats that report it before the answer.
    """
    name = call.dialect.name
    options = call.body.get("stream_options") if name == "chat" else None
    usage = name != "chat" or (isinstance(options, dict) and options.get("include_usage") is True)
    return ReplyTranslator(_READERS[end](), _WRITERS[name](shown=shown, input_tokens=input_tokens, usage=usage))


def _asked(call: Call) -> CommonRequest:
    return _READ[call.dialect.name](call.body)
