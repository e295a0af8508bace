"""Words for people and from people: money, texts compared, lists of names, the name that was probably meant, numbers of
tokens.
"""

from __future__ import annotations

import difflib
import html
import math
import re
import unicodedata
from collections.abc import Iterable, Sequence
from decimal import Decimal

from r2router.errors import ConfigError


def settled(value: float) -> float:
    """0 where a value, of dollars or of a share, is what the rounding of sums leaves of zero."""
    return 0.0 if abs(value) < _NOISE else value


def written(value: float, form: str) -> str:
    """Return a number in a format; what it shows as zero has no minus sign."""
    text = format(settled(value), form)
    return text if not text.startswith("-") or re.search("[1-9a-z]", text) else format(0.0, form)


_NOISE = 5e-13  # the least amount that `money` shows; sums of shares and of dollars are right to some 1e-15


def money(usd: float, up: bool = False) -> str:
    """US dollars with three significant digits and no exponent: $0.00132, $12.3, $45,678.

    up: never less than it is.
    """
    usd = usd if up else settled(usd)
    if usd == 0 or not math.isfinite(usd):
        return f"${usd:g}"
    places = min(max(2 - math.floor(math.log10(abs(usd))), 0), 12)
    if up and float(f"{usd:.{places}f}") < usd:
        usd += 10.0**-places
    return f"${usd:,.{places}f}"


def request_cost(usd: float, short: bool = False) -> str:
    """Return what a request costs, in the unit in which it is read: $0.00132, $0.214 per 1,000 requests.

    short: $0.214/1,000.
    """
    plain = usd == 0 or not math.isfinite(usd)
    units = ((1, ""), (1_000, "1,000"), (1_000_000, "million"))
    requests, name = next((u for u in units if plain or abs(usd) * u[0] >= _READABLE), units[-1])
    words = "" if not name else f"/{name}" if short else f" per {name} requests"
    return f"{money(usd * requests)}{words}"


def cost_column(costs: Iterable[float]) -> tuple[str, list[str]]:
    """Return (head, cells) of a column of costs of a request, all in one unit: that in which most of them can
    be read.
    """
    costs = list(costs)
    paid = sorted(abs(c) for c in costs if math.isfinite(c) and c) or [1.0]
    requests = 1 if paid[0] >= _READABLE else 1_000 if paid[len(paid) // 2] >= _READABLE / 1_000 else 1_000_000
    head = {1: "cost", 1_000: "cost per 1,000", 1_000_000: "cost per million"}[requests]
    return head, ["unknown" if math.isnan(c) else money(c * requests) for c in costs]


_READABLE = 0.001  # US dollars; what is less has zeros that must be counted


def html_table(title: str, head: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """Return a small table for a notebook, everything escaped."""
    cells = "".join(f"<th>{html.escape(name)}</th>" for name in head)
    body = "".join(f"<tr>{''.join(f'<td>{html.escape(str(cell))}</td>' for cell in row)}</tr>" for row in rows)
    return f"<p>{html.escape(title)}</p><table><thead><tr>{cells}</tr></thead><tbody>{body}</tbody></table>"


def normalised(text: str) -> str:
    """Return a text without what does not change its meaning to a reader: Unicode form, letter case, runs of white
    space, quotes' shapes.
    """
    plain = unicodedata.normalize("NFKC", text).translate(_QUOTES)
    return " ".join(plain.casefold().split())


_QUOTES = str.maketrans({"\u2018": "'", "\u2019": "'", "\u201c": '"', "\u201d": '"', "\u2013": "-", "\u2014": "-"})


def says_nothing(text: str) -> bool:
    """Return whether a reader sees nothing of a text: it is empty, or white space and characters that are not shown."""
    return not any(c.isprintable() and not c.isspace() for c in text)


def listing(names: Iterable[str], maximum: int = 6) -> str:
    """Return the first names in quotes, and how many more there are."""
    names = list(names)
    shown = ", ".join(repr(n) for n in names[:maximum])
    return shown if len(names) <= maximum else f"{shown} and {len(names) - maximum} more"


def suggest(word: str, known: Iterable[str]) -> str:
    """` (did you mean 'x'?)` where a known name is close to the word, else nothing."""
    close = difflib.get_close_matches(word, list(known), n=1)
    return f" (did you mean {close[0]!r}?)" if close else ""


def clean(text: str, keep: str = "") -> str:
    r"""Foreign words as they may be shown: what a terminal acts on, or nobody sees, is spelled out (`\u001b`), except
    `keep`.

    These are control characters, terminal escapes, marks that turn the direction of writing or have no width, and line
    separators. Within JSON the result stands for the same text.
    """
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() or c in keep or unicodedata.category(c) == "Zs" else _spelled(c) for c in text)


def _spelled(character: str) -> str:
    return "".join(f"\\u{unit:04x}" for unit in memoryview(character.encode("utf-16-le", "surrogatepass")).cast("H"))


def markdown(text: str) -> str:
    """Foreign words as Markdown that shows them and does nothing: no markup, HTML or link of theirs works, and no line
    ends early.
    """
    plain = clean(" ".join(text.split()))
    plain = plain.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;").replace("://", ":&#47;&#47;")
    return re.sub(r"([\\`*\[\]|~#!]|(?<![^\W_])_|_(?![^\W_]))", r"\\\1", plain)


def code(text: str, *, cell: bool = False) -> str:
    """Foreign words as a code span of Markdown that they cannot end.

    cell: in a table, whose columns they cannot end either.
    """
    plain = clean(" ".join(text.split())) or " "
    fence = "`" * (max(map(len, re.findall("`+", plain)), default=0) + 1)
    space = " " if plain.startswith("`") or plain.endswith("`") else ""
    span = f"{fence}{space}{plain}{space}{fence}"
    return span.replace("|", "\\|") if cell else span


_LIKE_A_NUMBER = re.compile(r"[+\u2212-]?(?:[.,]?\d|inf(?:inity)?$|nan$)", re.IGNORECASE)
_NUMBER = re.compile(
    r"\+?(?P<whole>\d{1,3}(?:,\d{3})+|\d{1,12}(?:_\d{3})*)(?P<rest>\.\d{0,12})?(?P<power>[eE]\+?\d{1,2})?(?P<k>[kK])?",
    re.ASCII,
)
_TWO_WAYS = re.compile(r"\+?\d{1,3}\.\d{3}")
MAX_BUDGET_TOKENS = 10**9  # of a budget: no answer is longer
_NO_NUMBER = (
    f"looks like a number and is not a whole number of tokens from 0 to {MAX_BUDGET_TOKENS:,}: write such a number as"
    " 1000, no limit as 'unlimited', and let a name begin with a letter"
)


def whole_tokens(text: str) -> int | None:
    """Return the tokens that a budget's text stands for; None where it is a name. The one rule for tables, pools and
    everything else.

    Raises `ConfigError` where it looks like a number and is not a whole one, or may be read in two ways.
    """
    if not (_LIKE_A_NUMBER.match(text) or text[:1].isnumeric()):
        return None
    match = _NUMBER.fullmatch(text)
    if match is None or _TWO_WAYS.fullmatch(text):
        raise ConfigError(f"budget {text!r} {_NO_NUMBER}")
    plain = re.sub("[,_]", "", match["whole"]) + (match["rest"] or "") + (match["power"] or "")
    number = Decimal(plain) * (1000 if match["k"] else 1)
    if number > MAX_BUDGET_TOKENS or number != int(number):
        raise ConfigError(f"budget {text!r} {_NO_NUMBER}")
    return int(number)
