"""The one error of this package."""

from __future__ import annotations


class CimdCacheError(Exception):
    """A call that failed. `code` says what to do; the text is for people.

    The codes are those of the service and the command: `invalid-url`, `invalid-metadata`, `invalid-expiry`,
    `invalid-ticket`, `not-configured`, `unavailable`, `timed-out`, `storage`, `not-ready`, and of a service
    that refuses a request those of its problems, such as `wrong-token`.
    """

    def __init__(self, code: str, detail: str) -> None:
        # Both, so that an error survives being pickled.
        super().__init__(code, detail)
        self.code = code
        self.detail = detail

    def __str__(self) -> str:
        return f"{self.code}: {self.detail}"


# The cache cannot be used now, whoever asks. Any other code is about the call, or about how it is set up.
AWAY = frozenset({"unavailable", "timed-out", "storage", "not-configured"})


def timed_out() -> CimdCacheError:
    return CimdCacheError("timed-out", "the cache did not answer in time: retry later")


def unavailable() -> CimdCacheError:
    return CimdCacheError("unavailable", "the cache cannot be reached: retry later")
