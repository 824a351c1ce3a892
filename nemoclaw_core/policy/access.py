"""What a policy lets the agent do with a path: the rule that everything else must agree with."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal

from nemoclaw_hookspecs.policy import FilesystemPolicy, PathRule, Policy


def permits(policy: Policy | FilesystemPolicy, path: str) -> Literal["write", "read"] | None:
    """What the agent may do with ``path``: ``write`` (and read), ``read``, or None: nothing.

    A ``deny`` rule at the path or above it wins; else the deepest ``read`` or ``write`` rule at
    the path or above it decides. Says what the policy's rules say, not what permission bits add,
    and nothing about the private /tmp, /dev and /proc.

    :param path: absolute, normal and without symbolic links, like the paths of the rules.
    :raises ValueError: ``path`` is not absolute and normal.
    """
    rule = decisive(policy, path)
    return None if rule is None or rule.access == "deny" else rule.access


def decisive(policy: Policy | FilesystemPolicy, path: str) -> PathRule | None:
    """The rule that decides for ``path``, as :func:`permits` does; None when there is none."""
    if not path.startswith("/") or any(each in (".", "..") for each in path.split("/")):
        raise ValueError(f"not an absolute, normal path: {path!r}")
    filesystem = policy.filesystem if isinstance(policy, Policy) else policy
    granted: PathRule | None = None
    denied: PathRule | None = None
    for rule in filesystem.rules:
        if not covers(rule.path, path):
            continue
        if rule.access == "deny":
            denied = denied or rule
        elif (
            granted is None
            or len(rule.path) > len(granted.path)
            or (rule.path == granted.path and rule.access == "write")
        ):
            granted = rule
    return denied or granted


def covers(root: str, path: str) -> bool:
    """True when ``path`` is ``root`` or below it."""
    return path == root or path.startswith(root if root.endswith("/") else f"{root}/")


def upward(path: str) -> Iterator[str]:
    """``path``, its parent, and so on up to ``/``."""
    while path != "/":
        yield path
        path = path.rpartition("/")[0] or "/"
    yield "/"
