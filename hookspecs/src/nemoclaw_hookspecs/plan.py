"""A plan: what will be done to start one agent, and what became of it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

import attrs

from .seal import Gap, Operation


@attrs.frozen(slots=True, kw_only=True)
class Step:
    """One operation of a plan and the plugin (or ``core``) that asked for it."""

    plugin: str
    operation: Operation


@attrs.frozen(slots=True, kw_only=True)
class LayerStatus:
    """How complete a plugin's layer is on this host."""

    plugin: str
    hook: str
    status: Literal["full", "partial", "none"]
    required: bool
    gaps: tuple[Gap, ...] = ()
    notes: tuple[str, ...] = ()


@attrs.frozen(slots=True, kw_only=True)
class Service:
    """What runs beside the agent, outside of the sandbox, and serves the sockets born in it."""

    plugin: str
    entry: str
    """``MODULE:FUNCTION``, called with an ``Egress``, the sockets by name, and the authority."""
    authority: str = ""
    """``MODULE:FUNCTION``, called with the sandbox's name before it is built; empty = none."""


@attrs.frozen(slots=True, kw_only=True)
class Plan:
    """Everything needed to start agents under one policy; immutable and serialisable."""

    policy: str
    """``FILE:NAME`` of the policy it was compiled from."""
    steps: tuple[Step, ...]
    layers: tuple[LayerStatus, ...]
    environment: Mapping[str, str] = attrs.field(factory=dict)
    """Variables that the policy sets."""
    environment_pass: tuple[str, ...] = ()
    """Names of variables that are taken from the caller."""
    workdir: str = "/"
    home: str = "/"
    timeout: float = 0.0
    compatibility: Literal["strict", "best-effort"] = "strict"
    services: tuple[Service, ...] = ()


@attrs.frozen(slots=True, kw_only=True)
class Receipt:
    """The launcher's word that a plugin's operations were carried out."""

    plugin: str
    phase: str
    operations: int


@attrs.frozen(slots=True, kw_only=True)
class ExitStatus:
    """How the agent ended: an exit code, or the number of the signal that ended it."""

    code: int | None = None
    signal: int | None = None
    reason: Literal["exited", "signaled", "timeout", "stopped", "failed"] = "exited"
