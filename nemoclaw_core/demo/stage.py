"""What the demo's agent is let loose on: a project, a home with a key, a server, a process."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
import threading
from pathlib import Path
from types import TracebackType

from nemoclaw_hookspecs.errors import NemoclawError

_POLICY = """\
version = 1

[policy.demo]
extends = ["default"]
{filesystem}
[policy.demo.process]
environment = {{ set = {{ GIT_AUTHOR_NAME = "agent", GIT_AUTHOR_EMAIL = "agent@localhost", \
GIT_COMMITTER_NAME = "agent", GIT_COMMITTER_EMAIL = "agent@localhost" }} }}
"""
_PROJECT = '''\
"""A small project."""


def greet(name):
    return "hello, " + name
'''


class Stage:
    """A folder with everything, gone when the ``with`` block ends."""

    def __init__(self, folder: Path) -> None:
        self.home = folder / "home"
        self.project = self.home / "project"
        self.policy = folder / "policies.toml"
        self.info = self.project / "stage.json"
        self.agent = self.project / "agent.py"
        self._server = socket.create_server(("127.0.0.1", 0))
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Stage:
        for program in ("git",):
            if shutil.which(program) is None:
                raise NemoclawError(f"the demo needs {program}", remedy=f"install {program}")
        (self.home / ".ssh").mkdir(parents=True)
        (self.home / ".ssh/id_ed25519").write_text("not a real key, but a secret one\n")
        self.project.mkdir()
        (self.project / "greeting.py").write_text(_PROJECT)
        (self.project / ".env").write_text("TOKEN=also-secret\n")
        self._git("init", "--quiet")
        self._git("add", "greeting.py")
        self._git("commit", "--quiet", "-m", "Begin")
        shutil.copy(Path(__file__).with_name("agent.py"), self.agent)
        self._process = subprocess.Popen(["sleep", "600"])
        threading.Thread(target=self._serve, daemon=True).start()
        stage = {"port": self._server.getsockname()[1], "pid": self._process.pid}
        self.info.write_text(json.dumps(stage))
        self.policy.write_text(_POLICY.format(filesystem=_show_interpreter()))
        return self

    def _git(self, *arguments: str) -> None:
        identity = {
            f"GIT_{role}_{what}": value
            for role in ("AUTHOR", "COMMITTER")
            for what, value in (("NAME", "you"), ("EMAIL", "you@localhost"))
        }
        subprocess.run(
            ["git", "-c", "init.defaultBranch=main", *arguments],
            cwd=self.project,
            env={**os.environ, **identity, "HOME": str(self.home)},
            check=True,
        )

    def _serve(self) -> None:
        while True:
            try:
                connection, _ = self._server.accept()
            except OSError:
                return  # The stage is closed.
            with connection:
                connection.sendall(b"a server of the host")

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._server.close()
        if self._process is not None:
            self._process.kill()
            self._process.wait()


def interpreter() -> str:
    """The Python that the agent runs on: the system's, else the one that runs nemoclaw."""
    system = "/usr/bin/python3"
    return system if os.access(system, os.X_OK) else os.path.realpath(sys.executable)


def _show_interpreter() -> str:
    if interpreter().startswith("/usr/"):
        return ""
    return f'[policy.demo.filesystem]\nread = ["{os.path.realpath(sys.base_prefix)}"]\n'
