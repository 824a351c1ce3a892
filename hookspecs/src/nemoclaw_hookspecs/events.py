"""Events as plugins receive them: OCSF 1.8 records without secrets."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import attrs


@attrs.frozen(slots=True, kw_only=True)
class Event:
    """One record of the event log (OCSF 1.8.0, https://schema.ocsf.io/1.8.0/).

    ``record`` is the JSON object exactly as it stands in the log. It never holds prompt text,
    credentials or environment values.
    """

    sandbox: str
    class_uid: int
    time: int
    """Milliseconds since the epoch."""
    record: Mapping[str, Any]
