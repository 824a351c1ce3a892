"""A host that refuses user namespaces, and an ordinary user's desk on it."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

import attrs
import pytest

from ..desks import desk_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from ..callers import User
    from ..desks import Desk

WRAPPER = Path(__file__).with_name("without_namespaces.py")
LOOSE = """version = 1
[policy.loose]
extends = ["default"]
[policy.loose.filesystem]
compatibility = "best-effort"
"""


@attrs.frozen(slots=True)
class Poor:
    """Where namespaces cannot be had. The policy ``loose`` is the default one, best-effort.

    :param lacks: the kind that the host refuses.
    """

    desk: Desk
    policy: str
    lacks: str = "user"

    @property
    def work(self) -> Path:
        """The work directory; commands start in it."""
        return self.desk.folder("inside")

    def nemoclaw(
        self, *arguments: str, folder: Path | None = None
    ) -> subprocess.CompletedProcess[str]:
        """Run the command line of nemoclaw."""
        return self.python(*self.desk.user.nemoclaw[1:], *arguments, folder=folder)

    def python(
        self, *arguments: str, folder: Path | None = None
    ) -> subprocess.CompletedProcess[str]:
        """Run the interpreter that nemoclaw runs under."""
        wrapper = self.desk.base / WRAPPER.name
        wrapper.write_text(WRAPPER.read_text())
        wrapper.chmod(0o644)
        interpreter = self.desk.user.nemoclaw[0]
        return subprocess.run(
            [interpreter, str(wrapper), self.lacks, interpreter, *arguments],
            cwd=folder or self.work,
            env=self.desk.environment("inside"),
            capture_output=True,
            text=True,
            timeout=60,
            **self.desk.user.arguments(),
        )

    def agent(self, script: str) -> subprocess.CompletedProcess[str]:
        """Run a shell script as the agent, under ``loose``."""
        return self.nemoclaw("run", "--policy", self.policy, "--", "sh", "-c", script)

    def make(self, *names: str) -> None:
        """Make directories (names that end in ``/``) and files of the user's."""
        user = self.desk.user
        for name in names:
            path = self.work / name
            for folder in reversed([*path.relative_to(self.work).parents][:-1]):
                if not (self.work / folder).exists():
                    (self.work / folder).mkdir()
                    os.chown(self.work / folder, user.uid, user.gid)
            if name.endswith("/"):
                path.mkdir(exist_ok=True)
            else:
                path.write_text(f"content of {name}\n")
            os.chown(path, user.uid, user.gid)


@pytest.fixture
def poor(users: Mapping[str, User]) -> Iterator[Poor]:
    """The desk of the ordinary user, whoever runs the tests; root needs no user namespace."""
    with desk_of(users["user"]) as desk:
        yield Poor(desk, _loose(desk))


@pytest.fixture
def without_pid(desk: Desk) -> Poor:
    """A desk on a host that has every namespace but the PID namespace."""
    # What root starts becomes another user, and no mount shows it root's files as its own.
    desk.folder("inside").chmod(0o777)
    return Poor(desk, _loose(desk), lacks="pid")


def _loose(desk: Desk) -> str:
    policy = desk.base / "mine.toml"
    policy.write_text(LOOSE)
    policy.chmod(0o644)
    return f"{policy}:loose"
