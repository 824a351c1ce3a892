"""What the kernel said when it was asked whether something works."""

from __future__ import annotations

import errno
import os

import attrs


@attrs.frozen(slots=True, kw_only=True)
class Answer:
    """One question put to the kernel, and its answer."""

    subject: str
    """``landlock``, ``seccomp``, ``namespace.KIND``, ``idmapped-mounts``, ``cgroup.CONTROLLER``."""
    works: bool
    detail: str
    """For people: the version or path that works, or the call that failed and its error."""


def told(error: OSError) -> str:
    """An error as ``EPERM from clone``: the name that manual pages use, and the call."""
    name = errno.errorcode.get(error.errno or 0, f"error {error.errno}")
    text = error.strerror or ""
    reason = os.strerror(error.errno or 0)
    where = text.removesuffix(reason).rstrip(": ") or error.filename
    return f"{name} from {where}" if where else f"{name} ({reason})"
