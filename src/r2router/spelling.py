"""Numbers of tokens as people and programs spell them: the one rule for what a budget in a table, a pool file or Python means."""

from __future__ import annotations

import re
from decimal import Decimal

from r2router.errors import ConfigError

_LIKE_A_NUMBER = re.compile(r"[+\u2212-]?(?:[.,]?\d|inf(?:inity)?$|nan$)", re.IGNORECASE)
_NUMBER = re.compile(
    r"\+?(?P<whole>\d{1,3}(?:,\d{3})+|\d{1,12}(?:_\d{3})*)(?P<rest>\.\d{0,12})?(?P<power>[eE]\+?\d{1,2})?(?P<k>[kK])?", re.ASCII
)
_TWO_WAYS = re.compile(r"\+?\d{1,3}\.\d{3}")
MOST_TOKENS = 10**9  # of a budget: no answer is longer


def tokens_of(text: str) -> int | None:
    """The tokens that a budget stands for; None where it is a name. The one rule for tables, pools and everything else."""
    if not (_LIKE_A_NUMBER.match(text) or text[:1].isnumeric()):
        return None
    match = _NUMBER.fullmatch(text)
    if match is None or _TWO_WAYS.fullmatch(text):
        raise ConfigError(f"budget {text!r} {_NO_NUMBER}")
    plain = re.sub("[,_]", "", match["whole"]) + (match["rest"] or "") + (match["power"] or "")
    number = Decimal(plain) * (1000 if match["k"] else 1)
    if number > MOST_TOKENS or number != int(number):
        raise ConfigError(f"budget {text!r} {_NO_NUMBER}")
    return int(number)


_NO_NUMBER = (
    f"looks like a number and is not a whole number of tokens from 0 to {MOST_TOKENS:,}: write such a number as 1000, no limit as "
    "'unlimited', and let a name begin with a letter"
)
