"""For whom and where a policy is resolved."""

from __future__ import annotations

import os

import attrs


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
    cwd: str = attrs.field(validator=_absolute)
    """Where ``./policies.toml`` and relative file names are looked up. Absolute."""
    config_dir: str = attrs.field(validator=_absolute)
    """Where the user's own ``policies.toml`` is. Need not exist."""
    private_paths: tuple[str, ...] = ()
    """Directories of nemoclaw's own, out of every agent's reach."""

    @classmethod
    def here(cls, workdir: str | None = None) -> Context:
        """The context of this process.

        :param workdir: the work directory; the current one when None.
        """
        from nemoclaw_core import state

        cwd = os.getcwd()
        return cls(
            workdir=cwd if workdir is None else os.path.join(cwd, workdir),
            home=os.path.expanduser("~"),
            uid=os.geteuid(),
            gid=os.getegid(),
            cwd=cwd,
            config_dir=state.config_dir(),
            private_paths=state.private_dirs(),
        )
