"""Clients' keys: stored as hashes, with their limits and the presets and models that they may ask for."""

from __future__ import annotations

import asyncio
import fnmatch
import hashlib
import hmac
import secrets
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import msgspec

from r2router.errors import ConfigError, KeyRefused, LedgerDown, LedgerError, UsageError
from r2router.gateway.ledger.database import Database, Failed, connect, migrate
from r2router.gateway.ledger.entries import Limits
from r2router.gateway.ledger.windows import TOTAL, Window, window_id
from r2router.text import suggest

PREFIX = "r2-"
_LIMITS = Limits.__struct_fields__
_KEY = f"id, name, made, ended, shadow, presets, models, {', '.join(_LIMITS)}"
_ANY = ("*",)


class Key(msgspec.Struct, frozen=True, kw_only=True):
    """A client's key.

    presets, models: globs of what it may ask for.
    made, ended: microseconds since 1970.
    shadow: it only counts, and refuses nothing.
    """

    id: str
    name: str
    made: int
    ended: int | None = None
    shadow: bool = False
    presets: tuple[str, ...] = _ANY
    models: tuple[str, ...] = _ANY
    limits: Limits = Limits()

    def check(self, *, preset: str | None = None, model: str | None = None) -> None:
        """Raise `KeyRefused` (403) for what the key may not ask for."""
        for kind, name, allowed in (("preset", preset, self.presets), ("model", model, self.models)):
            if name is not None and not any(fnmatch.fnmatchcase(name, glob) for glob in allowed):
                words = f"key {self.id} may not ask for {kind} {name!r}; it may ask for {', '.join(allowed) or 'none'}"
                raise KeyRefused(words, status=403, code="not_allowed")


class KeyUsage(msgspec.Struct, frozen=True):
    """Everything that a key has used."""

    spent: int
    reserved: int
    requests: int
    open: int


class Keys:
    """The keys in a ledger. Each method is one transaction and may be called from any thread.

    fresh_s: seconds for which `find` remembers a key. The ledger still refuses an ended key at once.
    """

    def __init__(self, where: str | Path, *, fresh_s: float = 5.0, clock: Callable[[], float] = time.time) -> None:
        self._where, self._fresh_s, self._clock = where, fresh_s, clock
        self._found: dict[str, tuple[float, Key]] = {}
        self._any = (0.0, False)
        self._lock = threading.Lock()
        with self._open(made=True):
            pass

    # -- for those who run the gateway --------------------------------------------------------------------------------

    def make(
        self,
        name: str,
        limits: Limits | None = None,
        *,
        presets: tuple[str, ...] = _ANY,
        models: tuple[str, ...] = _ANY,
        shadow: bool = False,
    ) -> tuple[Key, str]:
        """Make a key. Returns it with its secret, which is shown only now and stored nowhere."""
        if not name.strip() or not name.isprintable() or len(name) > 200:
            raise ConfigError(f"name of the key is {name[:40]!r}; give 1 to 200 printable characters")
        if any(not glob for glob in (*presets, *models)):
            raise ConfigError("a preset or model is empty; give a name, or a glob as in 'auto:*'")
        key = Key(
            id=f"k_{secrets.token_hex(6)}", name=name, made=self._now(), shadow=shadow, presets=presets, models=models,
            limits=limits or Limits(),
        )  # fmt: skip
        values = (
            key.id,
            key.name,
            key.made,
            None,
            int(shadow),
            _globs(presets),
            _globs(models),
            *msgspec.structs.astuple(key.limits),
        )
        with self._open() as database:
            database.rows(f"INSERT INTO keys ({_KEY}) VALUES (?{', ?' * (len(values) - 1)})", values)  # noqa: S608 - our own names
            return key, self._secret(database, key.id)

    def list(self) -> list[tuple[Key, KeyUsage]]:
        """Return all keys, the oldest first, with what each has used."""
        with self._open() as database:
            keys = [_key(row) for row in database.rows(f"SELECT {_KEY} FROM keys ORDER BY made, id")]  # noqa: S608
            found = []
            for key in keys:
                rows = database.rows(
                    "SELECT spent, reserved, requests, open FROM windows WHERE id = ?", (window_id(key.id, TOTAL),)
                )
                found.append((key, KeyUsage(*rows[0]) if rows else KeyUsage(0, 0, 0, 0)))
            return found

    def windows(self, name: str) -> dict[str, Window]:
        """Return what a key has counted, by period."""
        fields = Window.__struct_fields__
        with self._open() as database:
            rows = database.rows(f"SELECT {', '.join(fields)} FROM windows WHERE scope = ?", (name,))  # noqa: S608
        return {window.period: window for window in (Window(*row) for row in rows)}

    def change(self, name: str, limits: Limits, *, shadow: bool | None = None) -> Key:
        """Change a key's limits; what it has used stays."""
        with self._open() as database:
            key = self._known(database, name)
            changes = ", ".join(f"{limit} = ?" for limit in _LIMITS)
            values = (*msgspec.structs.astuple(limits), int(key.shadow if shadow is None else shadow), name)
            database.rows(f"UPDATE keys SET {changes}, shadow = ? WHERE id = ?", values)  # noqa: S608
            return self._known(database, name)

    def rotate(self, name: str, *, keep_s: float = 0.0) -> str:
        """Make a new secret for a key; its limits and what it has used stay.

        keep_s: seconds for which the old secrets still work.
        """
        if not 0 <= keep_s <= 366 * 86400:
            raise ConfigError(f"the old secret cannot be kept for {keep_s:g} s; give 0 to {366 * 86400:,}")
        until = self._now() + round(keep_s * 1e6)
        with self._open() as database:
            key = self._known(database, name)
            if key.ended is not None:
                raise UsageError(f"key {name} has ended: make a new one")
            database.rows(
                "UPDATE key_secrets SET expires = ? WHERE key_id = ? AND (expires IS NULL OR expires > ?)",
                (until, name, until),
            )
            secret = self._secret(database, name)
        self._forget()
        return secret

    def end(self, name: str) -> Key:
        """End a key: no further request may use it. Running requests finish, and are counted."""
        with self._open() as database:
            self._known(database, name)
            database.rows("UPDATE keys SET ended = ? WHERE id = ? AND ended IS NULL", (self._now(), name))
            key = self._known(database, name)
        self._forget()
        return key

    # -- for the request path -----------------------------------------------------------------------------------------

    def any(self) -> bool:
        """Return whether a key was ever made: then every request needs one. Ending the last key does not open the
        gateway again.
        """
        with self._open() as database:
            found = bool(database.rows("SELECT 1 FROM keys LIMIT 1"))
        self._any = (self._clock() + self._fresh_s, found)
        return found

    async def needed(self) -> bool:
        """Return the answer of `any`, at most a few seconds old."""
        until, found = self._any
        return found if self._clock() < until else await asyncio.to_thread(self.any)

    def remembered(self, secret: str) -> Key | None:
        """Return the answer of `find`, if it was looked up in the last few seconds."""
        with self._lock:
            known = self._found.get(_hash(secret))
        return known[1] if known is not None and self._clock() < known[0] else None

    def find(self, secret: str) -> Key:
        """Find the key of a secret. Raises `KeyRefused` (401), or `LedgerDown` (503) where it cannot be looked up."""
        digest = _hash(secret)
        now = self._clock()
        if (known := self.remembered(secret)) is not None:
            return known
        try:
            with self._open() as database:
                rows = database.rows("SELECT hash, key_id, expires FROM key_secrets WHERE hash = ?", (digest,))
                row = next((r for r in rows if hmac.compare_digest(r[0], digest)), None)
                if row is None or (row[2] is not None and row[2] <= self._now()):
                    raise KeyRefused("the API key is not known: give the secret that `r2router keys make` showed")
                key = self._known(database, row[1])
        except LedgerError as error:
            raise LedgerDown(f"keys cannot be looked up ({error})", retry_after=1) from None
        if key.ended is not None:
            raise KeyRefused(f"key {key.id} has ended: use another one")
        fresh = now + self._fresh_s if row[2] is None else min(now + self._fresh_s, row[2] / 1e6)
        with self._lock:
            if len(self._found) >= 10_000:
                self._found.clear()
            self._found[digest] = (fresh, key)
        return key

    # -- within -------------------------------------------------------------------------------------------------------

    def _now(self) -> int:
        return round(self._clock() * 1e6)

    def _forget(self) -> None:
        with self._lock:
            self._found.clear()

    def _known(self, database: Database, name: str) -> Key:
        rows = database.rows(f"SELECT {_KEY} FROM keys WHERE id = ?", (name,))  # noqa: S608
        if not rows:
            names = [row[0] for row in database.rows("SELECT id FROM keys")]
            raise UsageError(f"no key {name!r}{suggest(name, names)}; `r2router keys list` shows them")
        return _key(rows[0])

    def _secret(self, database: Database, name: str) -> str:
        secret = PREFIX + secrets.token_urlsafe(32)
        values = (_hash(secret), name, secret[-4:], self._now())
        database.rows("INSERT INTO key_secrets (hash, key_id, shown, made) VALUES (?, ?, ?, ?)", values)
        return secret

    @contextmanager
    def _open(self, *, made: bool = False) -> Iterator[Database]:
        """Begin a transaction.

        made: create the tables first.
        """
        database = connect(self._where)
        try:
            if made:
                migrate(database)
            database.begin()
            try:
                yield database
            except BaseException:
                database.rollback()
                raise
            database.commit()
        except Failed as failed:
            raise LedgerError(f"{self._where}: cannot be used as a ledger ({failed})") from None
        finally:
            database.close()


def _key(row: tuple[Any, ...]) -> Key:
    name, called, made, ended, shadow, presets, models, *limits = row
    return Key(
        id=name, name=called, made=made, ended=ended, shadow=bool(shadow), presets=_from(presets), models=_from(models),
        limits=Limits(**dict(zip(_LIMITS, limits, strict=True))),
    )  # fmt: skip


def _globs(globs: tuple[str, ...]) -> str:
    return msgspec.json.encode(globs).decode()


def _from(text: str | None) -> tuple[str, ...]:
    return _ANY if text is None else msgspec.json.decode(text, type=tuple[str, ...])


def _hash(secret: str) -> str:
    return hashlib.sha256(secret.encode("utf-8", "surrogatepass")).hexdigest()
