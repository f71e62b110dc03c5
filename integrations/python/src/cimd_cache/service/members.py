"""Reads the members of a JSON object as text.

A document has to come back as it is stored: parsed and written again, a number such as 1.500000000000000000001
would not.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

_scan: Callable[[str, int], tuple[Any, int]] = json.JSONDecoder().raw_decode
_WHITE = " \t\r\n"


def members(text: str, at: int = 0) -> dict[str, str]:
    """Each member's value as it stands in the text. Raises ValueError where there is no object."""
    found: dict[str, str] = {}
    at = _after(text, at, "{")
    if text[at : at + 1] == "}":
        return found
    while True:
        name, at = _scan(text, at)
        if not isinstance(name, str):
            raise ValueError("not an object")
        start = _after(text, at, ":")
        _, at = _scan(text, start)
        found[name] = text[start:at]
        at = _space(text, at)
        if text[at : at + 1] == "}":
            return found
        at = _after(text, at, ",")


def elements(text: str) -> list[str]:
    """Each element of an array as it stands in the text."""
    found: list[str] = []
    at = _after(text, 0, "[")
    if text[at : at + 1] == "]":
        return found
    while True:
        _, end = _scan(text, at)
        found.append(text[at:end])
        at = _space(text, end)
        if text[at : at + 1] == "]":
            return found
        at = _after(text, at, ",")


def _space(text: str, at: int) -> int:
    while text[at : at + 1] and text[at] in _WHITE:
        at += 1
    return at


def _after(text: str, at: int, sign: str) -> int:
    at = _space(text, at)
    if text[at : at + 1] != sign:
        raise ValueError(f"no {sign} at {at}")
    return _space(text, at + 1)
