"""The system call layer: what the agent may ask of the kernel, as one seccomp filter.

Public names: :func:`explain` and :class:`Row`; everything else is reached through the hook.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from nemoclaw_hookspecs import hookimpl

if TYPE_CHECKING:
    from nemoclaw_hookspecs import Host, Layer, Policy

    from .explanation import Row, explain

NEMOCLAW_API = (1, 0)

__all__ = ["NEMOCLAW_API", "Row", "apply_syscall", "explain"]


@hookimpl
def apply_syscall(policy: Policy, host: Host) -> Layer:
    """One filter for the policy's profile, ``allow``, ``deny`` and ``action``, ready to install."""
    # Imported here, because a cached plan needs neither these tables nor libseccomp.
    from .layer import build

    return build(policy, host)


def __getattr__(name: str) -> Any:
    if name in ("Row", "explain"):
        from . import explanation

        return getattr(explanation, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
