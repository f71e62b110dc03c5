"""The calls as requests of the service, and its answers: the same for both transports."""

from __future__ import annotations

import json
import ssl
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from typing import Any, TypeVar, cast
from urllib.parse import quote

from ..answers import Hit, Lookup, Miss, Swept
from ..calls import Call, Check, Delete, Get, GetMany, Purge, Put, Sweep, refuse_url
from ..errors import CimdCacheError, timed_out, unavailable
from .members import elements, members

T = TypeVar("T")

# The largest answer: 64 documents of the largest kind, with the spaces that the database adds.
ANSWER_BYTES = 16 << 20
_EPOCH = datetime(1970, 1, 1, tzinfo=timezone.utc)


@dataclass(frozen=True)
class Request:
    method: str
    target: str
    body: bytes | None = None
    is_repeatable: bool = True
    """Whether it may be sent again when it is not known whether the first one was done."""


def request(call: Call[Any]) -> Request:
    match call:
        case Get(client_id):
            return Request("GET", _target("/v1/document", client_id=client_id))
        case GetMany(client_ids):
            body = json.dumps({"client_ids": [one for one in client_ids if refuse_url(one) is None]})
            return Request("POST", "/v1/lookup", body.encode())
        case Put(client_id, metadata, ticket, expires_in, expires_at):
            query: dict[str, str] = {"client_id": client_id, "ticket": "none" if ticket is None else ticket}
            if expires_in is not None:
                query["expires_in"] = str(expires_in)
            elif expires_at is not None:
                query["expires_at"] = _rfc3339(expires_at)
            # Without a ticket, a repetition could undo a delete that came in between.
            is_repeatable = ticket is not None
            return Request("PUT", _target("/v1/document", **query), metadata.encode(), is_repeatable)
        case Delete(client_id):
            return Request("DELETE", _target("/v1/document", client_id=client_id))
        case Purge():
            return Request("POST", "/v1/purge")
        case Sweep(limit):
            return Request("POST", _target("/v1/sweep", limit=str(limit)))
        case Check():
            return Request("GET", "/v1/check")
    raise TypeError(f"no call {type(call).__name__}")


def needs_no_request(call: Call[T]) -> bool:
    return isinstance(call, GetMany) and all(refuse_url(one) is not None for one in call.client_ids)


def answer(call: Call[T], status: int, body: bytes) -> T:
    """Reads what the service answered. Raises CimdCacheError if it is a problem, or nothing of the service's."""
    try:
        text = body.decode()
        fields = members(text)
        if status == 200:
            return cast(T, _result(call, fields))
        code, detail = json.loads(fields["code"]), json.loads(fields["detail"])
    except (ValueError, KeyError):
        raise CimdCacheError(
            "unavailable", f"an answer with status {status} is not the service's: check its address and proxies"
        ) from None
    if code == "body-too-large":
        code = "invalid-metadata"
    raise CimdCacheError(str(code), str(detail))


def failure(error: BaseException) -> CimdCacheError:
    """What it means that there was no answer."""
    if isinstance(error, TimeoutError):
        return timed_out()
    if isinstance(error, ssl.SSLCertVerificationError):
        return CimdCacheError(
            "unavailable",
            f"the service's certificate is not accepted ({error.verify_message}): trust its authority in tls",
        )
    return unavailable()


def _result(call: Call[Any], fields: dict[str, str]) -> object:
    match call:
        case Get():
            return _lookup(fields)
        case GetMany(client_ids):
            return merge(client_ids, [_one(members(one)) for one in elements(fields["answers"])])
        case Put():
            outcome = json.loads(fields["outcome"])
            if outcome not in ("stored", "superseded"):
                raise ValueError("not an outcome of a put")
            return outcome
        case Delete():
            return _boolean(fields["had_document"])
        case Sweep():
            return Swept(int(fields["removed"]), _boolean(fields["more"]))
        case Purge() | Check():
            expected = "purged" if isinstance(call, Purge) else "ready"
            if json.loads(fields["outcome"]) != expected:
                raise ValueError("another outcome")
            return None
    raise TypeError(f"no call {type(call).__name__}")


def merge(
    client_ids: Any, answers: list[Lookup | CimdCacheError]
) -> list[Lookup | CimdCacheError]:
    """Puts those that were refused here between those that the service answered."""
    rest = iter(answers)
    merged: list[Lookup | CimdCacheError] = []
    for one in client_ids:
        refusal = refuse_url(one)
        if refusal is not None:
            merged.append(refusal)
            continue
        looked = next(rest, None)
        if looked is None:
            raise ValueError("fewer answers than questions")
        merged.append(looked)
    if next(rest, None) is not None:
        raise ValueError("more answers than questions")
    return merged


def _lookup(fields: dict[str, str]) -> Lookup:
    outcome, ticket = json.loads(fields["outcome"]), str(json.loads(fields["ticket"]))
    if outcome == "hit":
        metadata = fields["metadata"]
        if not metadata.startswith("{"):
            raise ValueError("a document that is no object")
        expires_at = datetime.fromisoformat(json.loads(fields["expires_at"]).replace("Z", "+00:00"))
        fresh_for = timedelta(milliseconds=int(fields["fresh_for_ms"]))
        return Hit(metadata, expires_at, fresh_for, ticket)
    if outcome == "miss":
        return Miss(ticket)
    raise ValueError("neither hit nor miss")


def _one(fields: dict[str, str]) -> Lookup | CimdCacheError:
    if json.loads(fields["outcome"]) == "error":
        return CimdCacheError(str(json.loads(fields["code"])), str(json.loads(fields["detail"])))
    return _lookup(fields)


def _boolean(text: str) -> bool:
    value = json.loads(text)
    if not isinstance(value, bool):
        raise ValueError("not a boolean")
    return value


def _target(path: str, **query: str) -> str:
    # Every byte but the unreserved ones is encoded: an & within a client_id must not end it.
    return path + "?" + "&".join(f"{name}={quote(value, safe='')}" for name, value in query.items())


def _rfc3339(seconds: int) -> str:
    return (_EPOCH + timedelta(seconds=seconds)).strftime("%Y-%m-%dT%H:%M:%SZ").zfill(20)
