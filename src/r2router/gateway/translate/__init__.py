"""From one wire format to another, for providers that do not have the endpoint that was asked; never where something
would be lost.

A request is read into what it asks for (`asked`), and written in the words of the other format; whatever is not known
there is a loss, and the arm is left out. A reply is read as a row of events, and written as a reply, or a stream, of
the format that was asked.
"""

from __future__ import annotations

from r2router.gateway.budgets import clamped
from r2router.gateway.dialects.dialect import Speaks
from r2router.gateway.request import Call
from r2router.gateway.splice import Members, NotJson
from r2router.gateway.translate.asked import Asked, Lost
from r2router.gateway.translate.chat_reply import ChatReader, ChatWriter
from r2router.gateway.translate.chat_request import read_chat, write_chat
from r2router.gateway.translate.messages_reply import MessagesReader, MessagesWriter
from r2router.gateway.translate.messages_request import read_messages, write_messages
from r2router.gateway.translate.reply import Reader, Turning, Writer
from r2router.gateway.translate.responses_reply import ResponsesReader, ResponsesWriter
from r2router.gateway.translate.responses_request import read_responses, write_responses
from r2router.types import Model, Provider

TRANSLATED: tuple[Speaks, ...] = ("chat", "messages", "responses")
"""The endpoints between which requests are translated, in the order in which they are taken."""

_READ = {"chat": read_chat, "messages": read_messages, "responses": read_responses}
_WRITE = {"chat": write_chat, "messages": write_messages, "responses": write_responses}
_READERS: dict[str, type[Reader]] = {"chat": ChatReader, "messages": MessagesReader, "responses": ResponsesReader}
_WRITERS: dict[str, type[Writer]] = {"chat": ChatWriter, "messages": MessagesWriter, "responses": ResponsesWriter}


def loss(call: Call, end: Speaks) -> str:
    """What would be lost of a request at another endpoint; empty for nothing."""
    try:
        _WRITE[end](_asked(call), None, None)
    except Lost as lost:
        return str(lost)
    except NotJson as error:
        return str(error)
    return ""


def translated(call: Call, end: Speaks, model: Model, provider: Provider) -> Members:
    """A request in the words of another endpoint, to be edited further. Raises `Lost`."""
    asked = _asked(call)
    if asked.effort is not None:
        asked.effort = clamped(asked.effort, tuple(b.id for b in model.budgets if "reasoning_effort" in b.control))
    return Members(_WRITE[end](asked, model, provider))


def turning(call: Call, end: Speaks, *, shown: str | None, input_tokens: int) -> Turning:
    """What turns a reply of that endpoint into one of the endpoint that was asked. input_tokens: an estimate, for who
    wants it at once.
    """
    name = call.dialect.name
    options = call.body.get("stream_options") if name == "chat" else None
    usage = name != "chat" or (isinstance(options, dict) and options.get("include_usage") is True)
    return Turning(_READERS[end](), _WRITERS[name](shown=shown, input_tokens=input_tokens, usage=usage))


def _asked(call: Call) -> Asked:
    return _READ[call.dialect.name](call.body)
