"""Values that travel through the inference hooks. Text is in segments, never in findings."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from typing import Any, Literal, Protocol

import attrs

SegmentKind = Literal["system", "text", "tool_call", "tool_result", "attachment"]


@attrs.frozen(slots=True, kw_only=True)
class Segment:
    """One piece of a prompt: who said it, what it is, and where in the request it stood."""

    role: str
    kind: SegmentKind
    text: str = attrs.field(repr=False)
    location: str
    """JSON pointer (RFC 6901) into the request body."""
    digest: bytes = attrs.field(default=b"", repr=False)
    """Keyed digest of the text; the key of caches and events."""


@attrs.frozen(slots=True, kw_only=True)
class Prompt:
    """A model call's text, wire format aside: ordered segments."""

    conversation: str
    segments: tuple[Segment, ...]
    model: str = ""


@attrs.frozen(slots=True, kw_only=True)
class Finding:
    """Something sensitive in a prompt or reply. Says where and what kind, never the text."""

    label: str
    segment: int
    """Index into ``Prompt.segments``."""
    start: int
    """First character, counted in code points."""
    end: int
    """One past the last character."""
    confidence: float
    """Calibrated, 0 to 1."""
    source: str
    """Plugin and rule, for instance ``rules:iban``."""


@attrs.frozen(slots=True, kw_only=True)
class InferenceCall:
    """One model call on its way: who asks, in which wire format, for which model."""

    sandbox: str
    format: str
    prompt: Prompt
    stream: bool = False
    body: Mapping[str, Any] = attrs.field(factory=dict, repr=False)


@attrs.frozen(slots=True, kw_only=True)
class Route:
    """Where a call goes: a backend's name, ``deny`` or ``ask``."""

    target: str
    redact: bool | Literal["irreversible"] = False
    reason: str = ""


@attrs.frozen(slots=True, kw_only=True)
class InferenceResponse:
    """A model's reply, whole or so far."""

    segments: tuple[Segment, ...]
    complete: bool
    usage: Mapping[str, int] = attrs.field(factory=dict)


@attrs.frozen(slots=True, kw_only=True)
class Verdict:
    """What an inspecting plugin says: let it through, refuse it, or redact the findings."""

    action: Literal["allow", "deny", "redact"]
    reason: str = ""
    findings: tuple[Finding, ...] = ()


class Backend(Protocol):
    """A model server behind the router."""

    def complete(self, call: InferenceCall) -> AsyncIterator[InferenceResponse]:
        """Answer a call; yields partial replies when ``call.stream``, else one."""
        ...

    async def close(self) -> None:
        """Release connections and processes. May be called twice."""
        ...
