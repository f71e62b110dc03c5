"""What resolve does while the cache is away."""

from __future__ import annotations

import logging
import threading
import time
from typing import Literal

from .errors import AWAY, CimdCacheError

OnUnavailable = Literal["fetch", "fail"]

# How long a caller waits for one of the fetches that are allowed at once.
SLOT_SECONDS = 5.0

_log = logging.getLogger("cimd_cache")


class Warnings:
    """At most one warning a second of each kind, with the number of those left out. No client is named."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._kinds: dict[str, tuple[float, int]] = {}

    def say(self, kind: str, error: CimdCacheError) -> None:
        with self._lock:
            now = time.monotonic()
            last, left_out = self._kinds.get(kind, (now - 2, 0))
            if now - last < 1:
                self._kinds[kind] = (last, left_out + 1)
                return
            self._kinds[kind] = (now, 0)
        _log.warning("%s: %s (%d more like it were not logged)", kind, error, left_out)


def refuse(error: CimdCacheError, on_unavailable: OnUnavailable) -> CimdCacheError | None:
    """What to raise instead of fetching, if anything."""
    if error.code not in AWAY or on_unavailable == "fail":
        return error
    return None


def no_slot() -> CimdCacheError:
    return CimdCacheError("unavailable", "the cache is away, and as many documents are fetched as may be at once")
