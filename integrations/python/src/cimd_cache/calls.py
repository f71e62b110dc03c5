"""The calls, checked, before either backing turns them into something it can send.

What is checked here are the limits that would otherwise be met on the way: a request line that is too long for
HTTP, a text that is no UTF-8. The rules check everything again.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from typing import Generic, TypeVar, Union

from .answers import Lookup, PutOutcome, Swept
from .errors import CimdCacheError

T = TypeVar("T", covariant=True)

URL_BYTES = 2_048
URLS_AT_ONCE = 64
DOCUMENT_BYTES = 16_384
# More than ten years means "for ever", and is stored as ten years; this fits every integer on the way.
LONGEST_SECONDS = 2**53
_EPOCH = datetime(1970, 1, 1, tzinfo=timezone.utc)


class Call(Generic[T]):
    """A call that is answered with a T."""


@dataclass(frozen=True)
class Get(Call[Lookup]):
    client_id: str


@dataclass(frozen=True)
class GetMany(Call["list[Lookup | CimdCacheError]"]):
    client_ids: Sequence[str]


@dataclass(frozen=True)
class Put(Call[PutOutcome]):
    client_id: str
    metadata: str
    ticket: str | None
    expires_in: int | None
    expires_at: int | None
    """Seconds since 1970; one of the two is given."""


@dataclass(frozen=True)
class Delete(Call[bool]):
    client_id: str


@dataclass(frozen=True)
class Purge(Call[None]):
    pass


@dataclass(frozen=True)
class Sweep(Call[Swept]):
    limit: int


@dataclass(frozen=True)
class Check(Call[None]):
    pass


def refuse_url(client_id: str) -> CimdCacheError | None:
    """Why a `client_id` cannot be a key, if it cannot."""
    try:
        size = len(client_id.encode())
    except UnicodeEncodeError:
        return CimdCacheError("invalid-url", "the client_id URL is not Unicode text")
    if size == 0:
        return CimdCacheError("invalid-url", "the client_id URL is empty")
    if size > URL_BYTES:
        return CimdCacheError("invalid-url", f"the client_id URL has more than {URL_BYTES} bytes")
    if "\0" in client_id:
        return CimdCacheError("invalid-url", "the client_id URL contains NUL")
    return None


def _checked_url(client_id: str) -> str:
    refusal = refuse_url(client_id)
    if refusal is not None:
        raise refusal
    return client_id


def get(client_id: str) -> Get:
    return Get(_checked_url(client_id))


def get_many(client_ids: Sequence[str]) -> GetMany:
    if isinstance(client_ids, str):
        raise TypeError("get_many takes a list of client_ids")
    if len(client_ids) > URLS_AT_ONCE:
        raise CimdCacheError("invalid-url", f"at most {URLS_AT_ONCE} client_ids are looked up at once")
    return GetMany(list(client_ids))


def put(
    client_id: str,
    metadata: str | bytes,
    ticket: str | None,
    expires_in: int | None,
    expires_at: datetime | None,
) -> Put:
    if (expires_in is None) == (expires_at is None):
        raise TypeError("give one of expires_in and expires_at")
    _checked_url(client_id)
    text = _text(metadata)
    if expires_in is not None:
        return Put(client_id, text, _checked_ticket(ticket), _seconds(expires_in), None)
    assert expires_at is not None
    return Put(client_id, text, _checked_ticket(ticket), None, _timestamp(expires_at))


def delete(client_id: str) -> Delete:
    return Delete(_checked_url(client_id))


def sweep(limit: int) -> Sweep:
    if limit < 1:
        raise ValueError("the limit of a sweep is at least 1")
    return Sweep(min(limit, 2**32 - 1))


def _text(metadata: Union[str, bytes]) -> str:
    try:
        text = metadata.decode() if isinstance(metadata, bytes) else metadata
        size = len(text.encode())
    except UnicodeError:
        raise CimdCacheError("invalid-metadata", "the document is not UTF-8") from None
    if size > DOCUMENT_BYTES:
        raise CimdCacheError("invalid-metadata", f"the document has more than {DOCUMENT_BYTES} bytes")
    return text


def _checked_ticket(ticket: str | None) -> str | None:
    # `none` is how the service is told that there is no ticket; as a ticket it is not one.
    if ticket is not None and not (ticket.isascii() and ticket.isprintable() and ticket != "none"):
        raise CimdCacheError("invalid-ticket", "the ticket is not one that a get gave")
    return ticket


def _seconds(expires_in: int) -> int:
    if expires_in < 0:
        raise CimdCacheError("invalid-expiry", "expires_in is below 0: a lifetime that is over is 0")
    return min(expires_in, LONGEST_SECONDS)


def _timestamp(expires_at: datetime) -> int:
    if expires_at.tzinfo is None:
        raise CimdCacheError("invalid-expiry", "expires_at has no time zone: use datetime.now(timezone.utc)")
    return (expires_at - _EPOCH) // timedelta(seconds=1)
