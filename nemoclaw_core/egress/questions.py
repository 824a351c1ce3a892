"""What an operator is asked, and what one answers.

A question is about a host and a port (``asker`` is ``policy``, no rule names the host), or about
what a plugin wants to have looked at, which is then exactly what it held: a connection, or one
method and path.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

import attrs
from nemoclaw_hookspecs.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from nemoclaw_hookspecs import EgressRequest

Scope = Literal["once", "sandbox"]
"""How long an answer holds: for what waits now, or until the sandbox ends."""
SCOPES: tuple[Scope, ...] = ("once", "sandbox")
_PLAIN = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._+-@")
_LONGEST = 40
POLICY = "policy"
"""Who asks when no rule names a host."""


@attrs.frozen(slots=True)
class Subject:
    """What a question is about. Equal subjects are one question."""

    asker: str
    host: str
    port: int
    request: str = ""
    """``METHOD PATH``, where a plugin holds one request."""


@attrs.frozen(slots=True, kw_only=True)
class Operator:
    """Who has answered."""

    uid: int
    pid: int
    command: str = ""
    """The name of the process, as of proc(5) ``comm``."""

    def __str__(self) -> str:
        named = f" ({self.command})" if self.command else ""
        return f"user {self.uid}, process {self.pid}{named}"


@attrs.frozen(slots=True, kw_only=True)
class Answer:
    """What an operator says."""

    allow: bool
    scope: Scope
    by: Operator


@attrs.frozen(slots=True, kw_only=True)
class Question:
    """What an operator is asked, at one moment."""

    sandbox: str
    id: str
    """Stands for the same host and port for as long as the sandbox lives."""
    host: str
    port: int
    request: str = ""
    """``METHOD PATH``, where a plugin asks about one request."""
    asker: str = POLICY
    """``policy``, or the plugin that holds it."""
    reason: str = ""
    program: str = ""
    """Executable that wants to connect; empty when it is not known."""
    pid: int = 0
    """Its process id, in the supervisor's PID namespace; 0: not known."""
    waiting: int = 0
    """Connections that wait for the answer now."""
    since: float = 0.0
    """When it was first asked, in seconds since the epoch."""
    remaining: float = 0.0
    """Seconds until nobody waits any more."""
    answer: str = ""
    """``allowed`` or ``denied``, if it was answered for the sandbox."""

    @property
    def what(self) -> str:
        """``HOST:PORT``, with the request if it is about one."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{host}:{self.port}" + (f" {self.request}" if self.request else "")

    @property
    def who(self) -> str:
        """The program's name as an operator can be shown it: an agent has chosen it, and could let
        it read like a question of its own."""
        name = self.program.rpartition("/")[2]
        plain = "".join(each if each in _PLAIN else "?" for each in name)
        return plain if len(plain) <= _LONGEST else f"{plain[: _LONGEST - 3]}..."

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return attrs.asdict(self)


def read_question(value: Mapping[str, Any]) -> Question:
    """The question of :meth:`Question.as_dict`.

    :raises TypeError: it is none.
    """
    return Question(**value)


def subject_of(asker: str, host: str, port: int, request: EgressRequest) -> Subject:
    """What a held request is about.

    :param host: canonical.
    """
    http = request.http
    if asker == POLICY or http is None:
        return Subject(asker, host, port)
    return Subject(asker, host, port, f"{http.method} {http.path}")


def read_scope(text: str, option: str = "for") -> Scope:
    """:raises UsageError: an answer cannot hold for that."""
    for scope in SCOPES:
        if text == scope:
            return scope
    raise UsageError(
        f"an answer cannot hold for {text!r}", where=option, remedy=f"one of {', '.join(SCOPES)}"
    )
