"""What of a text is the answer, and what is thinking that an endpoint left in it.

Thinking is not the answer, whatever marks it: `<think>`, `<thinking>`, `<reasoning>` and their kind, `[THINK]`, special
tokens of several model families, the channels of gpt-oss ("harmony"), also where the special tokens were dropped on the
way. Scorers, judges and the table's columns all take the answer from here. Every function reads a text once: time is
linear in its length.
"""

from __future__ import annotations

import re

import msgspec

_NAME = (
    r"think(?:ing)?|thoughts?|reason(?:ing)?|reflection|scratch_?pad|analysis|monologue|cot|"
    r"chain[_-]of[_-]thought|inner[_-](?:thoughts?|monologue)|(?:internal|hidden)[_-](?:reasoning|thoughts?|thinking)"
)
_MARK = re.compile(
    rf"""
      <(?P<angle>/?)\|?(?P<late>/?)(?:[a-z]{{1,12}}:)?(?P<name>{_NAME})(?:\ [^<>\n]{{0,60}}=[^<>\n]{{0,60}})?\|?>
        # as in <think>, </think>, <seed:think>
    | \[(?P<square>/?)(?P<bracketed>THINK(?:ING)?|THOUGHT|REASONING)\]                                  # Mistral
    | \u25c1(?P<triangle>/?)(?P<kimi>think(?:ing)?)\u25b7                                               # Kimi
    | <\|?(?P<side>begin|start|end)_(?:of_)?(?P<sided>thought|think(?:ing)?|reasoning)\|?>              # Sky-T1, Cohere
    | <\|inner_(?P<fix>prefix|suffix)\|>                                                                # Apertus
    | (?P<opened><unused94>thought|<\|channel>thought\b) | (?P<ended><unused95>|<channel\|>)             # Gemma
    """,
    re.VERBOSE | re.IGNORECASE,
)
_QUOTES = "\"'`"
_WRAP = re.compile(
    r"(?P<open>\s*(?:<(?P<name>answer|response|output|solution|final_answer|final)>|<\|(?:begin_of_solution|START_RESPONSE)\|>))"
    r"|<\|(?:end_of_solution|END_RESPONSE)\|>",
    re.IGNORECASE,
)

_CHANNEL = re.compile(r"<\|channel\|>\s{0,8}(?P<name>[A-Za-z]{1,20})")
_MESSAGE = re.compile(r"<\|(?:message|end|return|call|start|channel)\|>")
_BARE = re.compile(r"\s*(?:analysis|commentary)(?=<\|message\|>)")
_DROPPED = re.compile(r"\s*analysis(?P<sure>(?=[A-Z]))?")
_DROPPED_FINAL = re.compile(r"assistant\s?final")
_GRANITE = re.compile(r"\s*Here(?:'s| is) my thought process:", re.IGNORECASE)
_GRANITE_END = re.compile(r"Here(?:'s| is) my response:", re.IGNORECASE)
_FENCE = re.compile(r"\s*```(?:thinking|thoughts?|think|reasoning)[ \t]*\n", re.IGNORECASE)
_FENCE_END = re.compile(r"^```[ \t]*(?:\n|\Z)", re.MULTILINE)


class Split(msgspec.Struct, frozen=True):
    """A text taken apart.

    answer: what is not thinking.
    thought: there was thinking.
    cut: the text ends within its thinking.
    """

    answer: str
    thought: bool = False
    cut: bool = False


def without_thinking(text: str) -> str:
    """Return the answer in a text; empty where the text ends before one came."""
    return split_thinking(text).answer


def split_thinking(text: str) -> Split:
    """Tell the answer from the thinking in a text.

    Closed thinking is taken out wherever it stands. Behind a closing mark without an opening one everything before was
    thinking, as the opening mark was part of the prompt. Thinking that is not closed was cut off, and no answer came
    behind it. A mark in quotes or backticks is a mention, not a mark.
    """
    for read in (_harmony, _dropped, _announced):
        if (found := read(text)) is not None:
            return found
    return _marked(text)


def _marked(text: str) -> Split:
    kept: list[str] = []
    stack: list[str] = []
    begin = 0
    thought = False
    mention = ""  # the quote before an opening mark that is only mentioned
    for m in _MARK.finditer(text):
        before = text[m.start() - 1 : m.start()]
        after = text[m.end() : m.end() + 1]
        closes, name = _kind(m)
        if before and before in _QUOTES and (before == after or not closes):
            mention = "" if before == after else before
            continue
        if closes and mention and after == mention:
            mention = ""
            continue
        thought = True
        if not closes:
            if not stack:
                kept.append(text[begin : m.start()])
            if name not in stack:
                stack.append(name)
        elif not stack:
            kept.clear()
        elif name in stack:
            del stack[stack.index(name) :]
        else:
            stack.pop()
        begin = m.end()
    if not thought:
        return Split(text)
    if not stack:
        kept.append(text[begin:])
    return Split(_unwrapped("".join(kept)), thought=True, cut=bool(stack))


def _kind(m: re.Match[str]) -> tuple[bool, str]:
    """Return (whether it closes, its name) of a mark."""
    name = m["name"] or m["bracketed"] or m["kimi"] or m["sided"] or ("inner" if m["fix"] else "gemma")
    closes = m["angle"] or m["late"] or m["square"] or m["triangle"] or m["ended"]
    return bool(closes) or (m["side"] or "").lower() == "end" or (m["fix"] or "").lower() == "suffix", name.lower()


def _unwrapped(answer: str) -> str:
    """Return an answer behind thinking without the tags that some models put around it."""
    m = _WRAP.match(answer)
    if m is None:
        return answer
    answer = answer[m.end() :] if m["open"] else answer
    end = rf"</{m['name']}>" if m["name"] else r"<\|(?:end_of_solution|END_RESPONSE)\|>"
    return re.split(end, answer, maxsplit=1, flags=re.IGNORECASE)[0]


def _harmony(text: str) -> Split | None:
    """Return the channels of gpt-oss: what stands in `final`; None for a text without channels."""
    channels = [m for m in _CHANNEL.finditer(text) if m.start() == 0 or text[m.start() - 1] not in _QUOTES]
    if not channels and not _BARE.match(text):
        return None
    finals = []
    for channel in channels:
        if (
            channel["name"].lower() == "final"
            and (begin := _MESSAGE.search(text, channel.end())) is not None
            and begin[0] == "<|message|>"
        ):
            end = _MESSAGE.search(text, begin.end())
            finals.append(text[begin.end() : end.start() if end else None])
    return Split(finals[-1] if finals else "", thought=True, cut=not any(f.strip() for f in finals))


def _dropped(text: str) -> Split | None:
    """gpt-oss without its special tokens: `analysis...assistantfinal...`."""
    m = _DROPPED.match(text)
    if m is None:
        return None
    *_, last = (None, *_DROPPED_FINAL.finditer(text))
    if last is not None:
        return Split(text[last.end() :], thought=True)
    return Split("", thought=True, cut=True) if m["sure"] is not None else None


def _announced(text: str) -> Split | None:
    """Thinking that begins a text in words (Granite) or in a fence of that name."""
    for head, tail in ((_GRANITE, _GRANITE_END), (_FENCE, _FENCE_END)):
        if (m := head.match(text)) is not None:
            end = tail.search(text, m.end())
            return Split("", thought=True, cut=True) if end is None else Split(text[end.end() :], thought=True)
    return None
