"""As much of HTTP/1.1 (RFC 9112) as a client of the service needs on asyncio's streams."""

from __future__ import annotations

import asyncio

from .protocol import ANSWER_BYTES


class NotHttp(Exception):
    """What came is not an answer in HTTP/1.1, or is too large."""


def write_request(method: str, target: str, headers: dict[str, str], body: bytes | None) -> bytes:
    lines = [f"{method} {target} HTTP/1.1", *(f"{name}: {value}" for name, value in headers.items())]
    if body is not None or method in ("POST", "PUT"):
        lines.append(f"Content-Length: {len(body or b'')}")
    if any("\r" in line or "\n" in line for line in lines):
        raise ValueError("a line break in a header: look at the token")
    return "\r\n".join([*lines, "", ""]).encode("latin-1") + (body or b"")


async def read_response(reader: asyncio.StreamReader) -> tuple[int, bytes, bool]:
    """The status, the body, and whether the connection can be used again."""
    while True:
        status, headers = await _head(reader)
        # 1xx come before the answer.
        if status >= 200:
            break
    keep = "close" not in headers.get("connection", "").lower()
    if status in (204, 304):
        return status, b"", keep
    if "transfer-encoding" in headers:
        if headers["transfer-encoding"].lower() != "chunked":
            raise NotHttp("a transfer coding other than chunked")
        return status, await _chunks(reader), keep
    if "content-length" in headers:
        return status, await reader.readexactly(_length(headers["content-length"], 10)), keep
    body = await reader.read(ANSWER_BYTES + 1)
    while chunk := await reader.read(ANSWER_BYTES + 1 - len(body)):
        body += chunk
    return status, body, False


async def _head(reader: asyncio.StreamReader) -> tuple[int, dict[str, str]]:
    try:
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
    except asyncio.LimitOverrunError as error:
        raise NotHttp("the head is too large") from error
    first, *lines = head[:-4].split("\r\n")
    version, _, rest = first.partition(" ")
    if version != "HTTP/1.1" or not rest[:3].isdecimal():
        raise NotHttp("not HTTP/1.1")
    headers = {}
    for line in lines:
        name, colon, value = line.partition(":")
        name = name.lower()
        # Two lengths are a way to smuggle an answer.
        if not colon or (name in headers and name in ("content-length", "transfer-encoding")):
            raise NotHttp("a head that can be read in two ways")
        headers[name] = value.strip()
    return int(rest[:3]), headers


async def _chunks(reader: asyncio.StreamReader) -> bytes:
    body = b""
    while True:
        size = (await reader.readuntil(b"\r\n")).decode("latin-1").split(";")[0].strip()
        length = _length(size, 16)
        if length == 0:
            # Trailers, which nobody here reads.
            while await reader.readuntil(b"\r\n") != b"\r\n":
                pass
            return body
        body += await reader.readexactly(length)
        if len(body) > ANSWER_BYTES or await reader.readexactly(2) != b"\r\n":
            raise NotHttp("not chunked, or too large")


def _length(text: str, base: int) -> int:
    digits = "0123456789abcdefABCDEF"[: 10 if base == 10 else 22]
    if not text or text.strip(digits) or int(text, base) > ANSWER_BYTES:
        raise NotHttp("a length that is none, or is too large")
    return int(text, base)
