"""How long a client waits for the service, which has a deadline of its own."""

from __future__ import annotations

# The service answers by the deadline of a call. This much later something is wrong with the service itself.
SLACK_SECONDS = 0.25


def seconds(longest: float, timeout_ms: int | None) -> float:
    if timeout_ms is None:
        return longest
    return min(longest, timeout_ms / 1_000 + SLACK_SECONDS)


def headers(timeout_ms: int | None) -> dict[str, str]:
    if timeout_ms is None:
        return {}
    if timeout_ms < 1:
        raise ValueError("timeout_ms is at least 1")
    return {"Cimd-Timeout-Ms": str(timeout_ms)}
