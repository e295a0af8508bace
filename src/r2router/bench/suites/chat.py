"""Suites from chat logs in OpenAI's format: what people really asked, so that a router learns from it."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from r2router.bench.suite import Query, Suite, json_objects
from r2router.bench.suites.registry import check_options
from r2router.errors import DataError
from r2router.text import normalised

_SECRET = re.compile(
    r"""
    -----BEGIN\ [A-Z ]*PRIVATE\ KEY-----.*?(?:-----END\ [A-Z ]*PRIVATE\ KEY-----|\Z)
    | \b(?:sk|pk|rk)[-_](?:[A-Za-z]+[-_])*[A-Za-z0-9_-]{16,}
    | \b(?:gh[pousr]_|github_pat_|glpat-|hf_|xox[abprs]-|AIza)[A-Za-z0-9_-]{16,}
    | \b(?:AKIA|ASIA)[A-Z0-9]{16}\b
    | \beyJ[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]*
    | (?<=://)[^\s/:@]+:[^\s/@]+(?=@)
    | (?i:(?<=bearer\ ))[A-Za-z0-9._~+/-]{16,}=*
    | (?i:(?<=password[:=])|(?<=password[:=]\ )|(?<=secret[:=])|(?<=api_key[:=])|(?<=api_key[:=]\ )|(?<=token[:=]))[^\s"']{6,}
    """,
    re.VERBOSE | re.DOTALL,
)
HIDDEN = "[secret]"


class ChatLog:
    """One logged request per line: an object with `messages`, by itself or as `request` or `body` (as in OpenAI's batch
    files).

    The text is the last turn of the user, the system prompt the system's or developer's; earlier turns are left out, as
    are turns with pictures or sound. Nothing else of the line is copied: no headers, no user names, no answers. What
    looks like a key, a token or a password within a text becomes `[secret]`; that is a net with holes, not a guarantee.
    Requests of the same words are taken once.

    left_out: lines without a user's text, after `queries` has run.
    hidden: secrets that were replaced.
    repeated: lines taken once.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self.name = self.path.stem
        self.left_out = self.hidden = self.repeated = 0

    @property
    def notes(self) -> list[str]:
        """What was done with the lines, after `queries` has run."""
        counts = {
            "left out, as the last turn of the user is missing or not text alone": self.left_out,
            "left out, as they repeat earlier ones": self.repeated,
            "secrets hidden; read the queries before you send them to anybody": self.hidden,
        }
        return [f"{count:,} {'requests ' if 'left' in what else ''}{what}" for what, count in counts.items() if count]

    def queries(self) -> Iterable[Query]:
        """Yield the queries in the order of the log. Raises `DataError` naming file and line."""
        self.left_out = self.hidden = self.repeated = 0
        seen: set[tuple[str, str]] = set()
        for number, entry in json_objects(self.path):
            query = self._query(entry, number)
            if query is None:
                self.left_out += 1
                continue
            words = (normalised(query.text), normalised(query.system or ""))
            if words in seen:
                self.repeated += 1
                continue
            seen.add(words)
            yield query
        if not seen:
            raise DataError(
                f"{self.path}: no user's text in {self.left_out} lines; a chat log has one request with messages per"
                " line"
            )

    def _query(self, entry: dict[str, Any], number: int) -> Query | None:
        messages = messages_of(entry)
        if messages is None:
            raise DataError(
                f"{self.path}, line {number}: no messages; a logged request has a list of them, itself or in request or"
                " body"
            )
        users = [text_of(m) for m in messages if m.get("role") == "user"]
        if not users or not (text := users[-1]):
            return None
        systems = [s for m in messages if m.get("role") in ("system", "developer") if (s := text_of(m))]
        text, system = self._clean(text), self._clean("\n\n".join(systems)) or None
        digest = hashlib.blake2b(f"{system or ''}\0{text}".encode("utf-8", "surrogatepass"), digest_size=8).hexdigest()
        return Query(id=f"chat-{digest}", text=text, system=system, task="chat")

    def _clean(self, text: str) -> str:
        cleaned, found = _SECRET.subn(HIDDEN, text)
        self.hidden += found
        return cleaned.strip()


def chat_suite(name: str, what: str, options: Mapping[str, str]) -> Suite:
    """`chat:PATH`."""
    check_options(name, options, ())
    return ChatLog(what)


def messages_of(entry: Mapping[str, Any]) -> list[dict[str, Any]] | None:
    """Return the messages of a logged request, itself or in `request` or `body`; None where there are none."""
    for holder in (entry, entry.get("request"), entry.get("body")):
        if (
            isinstance(holder, dict)
            and isinstance(found := holder.get("messages"), list)
            and all(isinstance(m, dict) for m in found)
        ):
            return found
    return None


def text_of(message: Mapping[str, Any]) -> str:
    """Return the text of a message; empty where it is more than text."""
    content = message.get("content")
    if isinstance(content, str):
        return content.strip()
    if isinstance(content, list) and all(
        isinstance(p, dict) and p.get("type") in ("text", "input_text") for p in content
    ):
        return "\n".join(str(p.get("text", "")) for p in content).strip()
    return ""
