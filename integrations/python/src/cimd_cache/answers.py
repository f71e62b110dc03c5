"""What calls return."""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Literal, Union


@dataclass(frozen=True)
class Hit:
    """There is a document, and it has not expired."""

    metadata: str
    """The document as text: equal, as a JSON value, to what was put."""
    expires_at: datetime
    """When it expires, by the database's clock, rounded down to the second."""
    fresh_for: timedelta
    """How long it stays fresh, counted from when the database read it."""
    ticket: str
    """For a fetch that refreshes the document ahead of time."""

    @property
    def document(self) -> dict[str, Any]:
        """The document, parsed anew at each use."""
        parsed: dict[str, Any] = json.loads(self.metadata)
        return parsed


@dataclass(frozen=True)
class Miss:
    """There is no fresh document."""

    ticket: str
    """For the put after the fetch."""


@dataclass(frozen=True)
class Swept:
    """What a sweep did."""

    removed: int
    more: bool
    """Whether another call would remove more."""


Lookup = Union[Hit, Miss]
PutOutcome = Literal["stored", "superseded"]
