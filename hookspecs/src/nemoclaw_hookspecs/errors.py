"""One tree of errors. Each says what failed, where, and what to do about it.

This module imports nothing at run time, so the code on the path of every start can raise these
errors before anything heavy has been imported.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import ClassVar


class NemoclawError(Exception):
    """Something nemoclaw refuses or cannot do.

    :param what: one sentence, what was refused or failed. Never holds a secret.
    :param where: the policy line, file or operation it came from, for instance
        ``policies.toml:12 filesystem.read[0]``.
    :param remedy: what the reader can do about it.
    """

    exit_code: ClassVar[int] = 125
    code: ClassVar[str] = "error"

    def __init__(self, what: str, *, where: str | None = None, remedy: str | None = None) -> None:
        super().__init__(what)
        self.what = what
        self.where = where
        self.remedy = remedy

    def __str__(self) -> str:
        text = self.what
        if self.where:
            text = f"{self.where}: {text}"
        if self.remedy:
            text = f"{text}\n  remedy: {self.remedy}"
        return text


class UsageError(NemoclawError, ValueError):
    """The command line or an argument of the Python API makes no sense."""

    exit_code = 2
    code = "usage"


class PolicyError(NemoclawError, ValueError):
    """A policy file is not valid. ``problems`` lists every problem found in it, in file order."""

    exit_code = 3
    code = "policy"

    def __init__(
        self,
        what: str,
        *,
        where: str | None = None,
        remedy: str | None = None,
        problems: tuple[str, ...] = (),
    ) -> None:
        super().__init__(what, where=where, remedy=remedy)
        self.problems = problems

    def __str__(self) -> str:
        return _listed(self.what, self.problems) if self.problems else super().__str__()


class PluginError(NemoclawError, RuntimeError):
    """A plugin cannot be used, broke its contract, or refused.

    ``plugin`` is its entry-point name; ``problems`` lists everything that it refused at once.
    """

    exit_code = 4
    code = "plugin"

    def __init__(
        self,
        what: str,
        *,
        plugin: str,
        where: str | None = None,
        remedy: str | None = None,
        problems: tuple[str, ...] = (),
    ) -> None:
        super().__init__(what, where=where, remedy=remedy)
        self.plugin = plugin
        self.problems = problems

    def __str__(self) -> str:
        return _listed(self.what, self.problems) if self.problems else super().__str__()


def _listed(what: str, problems: tuple[str, ...]) -> str:
    return "\n".join((what, *(f"  {problem}" for problem in problems)))


class LayerUnavailable(NemoclawError, OSError):
    """This host cannot enforce a layer that the policy requires. Nothing was started."""

    code = "layer-unavailable"


class LayerFailed(NemoclawError, OSError):
    """An operation of the plan failed while the sandbox was being built. The agent never ran."""

    code = "layer-failed"


class LauncherError(NemoclawError, RuntimeError):
    """The launcher refused a plan or request, or died before the agent ended."""

    code = "launcher"


class EventLogError(NemoclawError, OSError):
    """An event could not be written. Nothing that needed it was done."""

    code = "event-log"


class EgressDenied(NemoclawError, PermissionError):
    """A connection or request was refused by the network policy."""

    code = "egress-denied"


class UpstreamError(NemoclawError, ConnectionError):
    """A server that nemoclaw talked to on the agent's behalf failed."""

    code = "upstream"


class CommandNotExecutable(NemoclawError, PermissionError):
    """The command exists inside the sandbox but cannot be executed."""

    exit_code = 126
    code = "not-executable"


class CommandNotFound(NemoclawError, FileNotFoundError):
    """The command does not exist inside the sandbox."""

    exit_code = 127
    code = "not-found"
