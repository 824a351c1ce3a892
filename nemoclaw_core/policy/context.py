"""For whom and where a policy is resolved."""

from __future__ import annotations

import os

import attrs

from . import own_code
from .own_code import Code


def _absolute_or_none(instance: object, attribute: attrs.Attribute[str], value: str) -> None:
    if value:
        _absolute(instance, attribute, value)


def _absolute(instance: object, attribute: attrs.Attribute[str], value: str) -> None:
    if not value.startswith("/"):
        raise ValueError(f"{attribute.name} must be absolute, and is {value!r}")


@attrs.frozen(slots=True, kw_only=True)
class Context:
    """Facts that a policy's variables and rules depend on, besides the file system.

    :raises ValueError: a path is not absolute.
    """

    workdir: str = attrs.field(validator=_absolute)
    """What ``{workdir}`` stands for. Absolute."""
    home: str = attrs.field(validator=_absolute)
    """What ``{home}`` and ``~`` stand for. Absolute."""
    uid: int
    """The caller."""
    gid: int
    cwd: str = attrs.field(validator=_absolute_or_none)
    """Where ``./policies.toml`` and relative file names are looked up. Absolute; empty where the
    current directory is gone, so that nothing can be found in it."""
    config_dir: str = attrs.field(validator=_absolute)
    """Where the user's own ``policies.toml`` is. Need not exist."""
    private_paths: tuple[str, ...] = ()
    """Directories of nemoclaw's own, out of every agent's reach."""
    own_code: tuple[Code, ...] | None = None
    """What the running nemoclaw is imported from, without its plugins, which no agent may change.
    None where that is somebody else's concern: then plugins are not looked for either."""

    @classmethod
    def here(cls, workdir: str | None = None) -> Context:
        """The context of this process.

        :param workdir: the work directory; the current one when None.
        :raises UsageError: it is no directory, or was not named and the current one is gone.
        :raises NemoclawError: the caller's home directory is not known.
        """
        from nemoclaw_core.workdir import current_dir, named_workdir

        return cls.at(current_dir() if workdir is None else named_workdir(workdir))

    @classmethod
    def at(cls, workdir: str) -> Context:
        """The context of this process, for an absolute path that is taken as it is."""
        from nemoclaw_core import state
        from nemoclaw_core.workdir import current_dir_or_none

        return cls(
            workdir=workdir,
            home=state.home(),
            uid=os.geteuid(),
            gid=os.getegid(),
            cwd=current_dir_or_none() or "",
            config_dir=state.config_dir(),
            private_paths=state.walled_dirs(),
            own_code=own_code.of_this_process(),
        )
