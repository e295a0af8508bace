"""Every error that r2router raises on purpose, in one place.

    R2Error
    ├── UsageError              invalid arguments or input files
    │   ├── ConfigError         a file of the user's (pool, config) does not say what it must
    │   ├── PolicyError         a policy is out of range (lambda, value, cap, floor)
    │   ├── QueryError          a query cannot be routed (empty, not text)
    │   ├── DataError           an outcome table breaks a rule (names file, column, row)
    │   ├── ArtifactError       a saved router is missing, incomplete, altered, newer than this version, or not one
    │   ├── LedgerError         a ledger cannot be used: it is newer than this version, read-only, or none
    │   ├── JournalError        a journal is in use, damaged, newer than this version, or not one
    │   ├── MissingPrice        a price is needed and unknown (an unknown price is never zero)
    │   └── MissingExtra        an optional dependency is not installed (names the extra)
    ├── EncoderError            texts could not be turned into vectors (endpoint down, wrong key, bad reply)
    ├── CollectError            a collection could not go on (endpoint down, wrong key, spend limit)
    ├── NoFeasibleArm           no arm meets a hard limit (names the cheapest one)
    ├── NoAnswer                a cascade ended without any answer (names each arm and why)
    ├── Refused                 the gateway does not send a request on (each has the HTTP status that says so)
    │   ├── OverBudget          402: a limit in dollars would not be kept
    │   ├── OverRate            429: too many requests or tokens per minute, or requests at once
    │   ├── KeyRefused          401, 403: an unknown or ended key, or a model that the key may not ask for
    │   └── LedgerDown          503: what a request costs could not be written down
    └── SaveError               something could not be written; what was there before is untouched

Each message is one or two lines: what is wrong, where (file, line or field, value), and how to fix it.
`UsageError` ends a command with exit code 2, every other `R2Error` with 1.
"""

from __future__ import annotations


class R2Error(Exception):
    """Base of all errors raised on purpose."""


class UsageError(R2Error):
    """Invalid arguments or input files; the caller can fix them."""


class ConfigError(UsageError):
    """A pool or configuration file is malformed."""


class PolicyError(UsageError):
    """A policy's number is out of range, not finite, or incomplete."""


class QueryError(UsageError):
    """A query cannot be routed: it is empty or not text."""


class DataError(UsageError):
    """An outcome table breaks a rule of the data schema."""


class MissingPrice(UsageError):
    """A price is needed that the pool does not know."""


class MissingExtra(UsageError):
    """A feature needs an optional dependency that is not installed."""


class ArtifactError(UsageError):
    """A saved router cannot be trusted or understood."""


class JournalError(UsageError):
    """A journal cannot be used: another process has it, it is damaged, from a newer version, or none."""


class LedgerError(UsageError):
    """A ledger cannot be used: it is from a newer version, cannot be written to, or is none."""


class Refused(R2Error):
    """The gateway does not send a request on; each endpoint writes this as an error of its own format.

    message: one or two lines for a person; it holds no key and no prompt.
    status: the HTTP status to answer.
    code: one word for programs.
    param: the field of the request that is wrong.
    retry_after: seconds after which another try may work, where one may.
    details: more members of the error's body: limit, spent, in flight, when the window begins anew, in the units that
        their names say.
    retry: false where clients must not send it again by themselves, although the status would let them.
    """

    status = 503
    code = "refused"

    def __init__(
        self,
        message: str,
        *,
        status: int = 0,
        code: str = "",
        param: str | None = None,
        retry_after: float | None = None,
        details: dict[str, object] | None = None,
        retry: bool = True,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.status = status or type(self).status
        self.code = code or type(self).code
        self.param = param
        self.retry_after = retry_after
        self.details = details or {}
        self.retry = retry


class OverBudget(Refused):
    """A limit in dollars would not be kept."""

    status = 402
    code = "budget_exceeded"


class OverRate(Refused):
    """Too many requests or tokens per minute, or requests at once."""

    status = 429
    code = "rate_limit_exceeded"


class KeyRefused(Refused):
    """The key is not known or has ended (401), or may not ask for this model or preset (403)."""

    status = 401
    code = "invalid_api_key"


class LedgerDown(Refused):
    """What a request costs could not be written down."""

    status = 503
    code = "ledger_unavailable"


class CollectError(R2Error):
    """A collection stopped before its plan was done; what was answered is kept."""


class EncoderError(R2Error):
    """An encoder could not turn texts into vectors."""


class NoFeasibleArm(R2Error):
    """No arm meets a hard limit."""


class NoAnswer(R2Error):
    """A cascade ended, and no arm had answered."""


class SaveError(R2Error):
    """Something could not be written; what was there before is untouched."""


def expect(what: str, value: object, kind: type | tuple[type, ...], hint: str) -> None:
    """Raise `UsageError` where an argument is of another type, a flag where a number is wanted too. hint: what to give
    instead.
    """
    wrong_flag = isinstance(value, bool) and bool not in (kind if isinstance(kind, tuple) else (kind,))
    if wrong_flag or not isinstance(value, kind):
        shown = repr(value)
        shown = shown if len(shown) <= 60 else f"{shown[:57]}..."
        raise UsageError(f"{what} is {shown}, of type {type(value).__name__}; give {hint}")
