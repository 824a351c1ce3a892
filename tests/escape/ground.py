"""A stage for some attempts, its host process, and the ways to run them there."""

from __future__ import annotations

import json
import os
import secrets
import shutil
import subprocess
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..callers import PYTHON, User
from . import evidence

TESTS = str(Path(__file__).resolve().parent.parent)
SOURCE = str(Path(TESTS).parent / "nemoclaw_core" / "__init__.py")
PLACE = os.environ.get("NEMOCLAW_ESCAPE_PLACE", "/var/tmp")
"""Where stages are made: not below /tmp, which a sandbox replaces as a whole."""
SECRET_VARIABLE = "NEMOCLAW_ESCAPE_SECRET"
WORKED, STOPPED, CANNOT_JUDGE, BROKEN, MISSING = 0, 10, 20, 30, -1
NEMOCLAW_FAILED = range(1, 128)
"""Exit statuses of ``nemoclaw run`` that are neither the attempt's success nor a signal's."""

Attempt = dict[str, Any]
"""The fields of ``battery.registry.Attempt``."""


@dataclass(frozen=True)
class Outcome:
    """What became of one attempt on one side."""

    status: int
    detail: str
    effect: bool | None
    """Whether the host shows the attempt's effect; None when it has none to show."""

    @property
    def worked(self) -> bool:
        """True when the attempt got what it wanted; the host's word counts, if it has one."""
        return self.status == WORKED if self.effect is None else self.effect

    @property
    def judged(self) -> bool:
        """False when the attempt means nothing on this host."""
        return self.status != CANNOT_JUDGE

    @property
    def sound(self) -> bool:
        """False when the attempt did not run to its end, or is itself wrong."""
        return self.status not in (BROKEN, MISSING)


class Ground:
    """A stage, prepared as ``user`` for ``attempts``; ``side`` is ``outside`` or ``inside``.

    That user attacks, and is attacked.

    :raises RuntimeError: the stage could not be prepared.
    """

    def __init__(self, user: User, side: str, attempts: list[Attempt]) -> None:
        self.user = user
        self.side = side
        self.base = tempfile.mkdtemp(prefix="nemoclaw-escape-", dir=PLACE)
        os.chmod(self.base, 0o755)
        if user.uid != os.geteuid():
            os.chown(self.base, user.uid, user.gid)
        self.environment = {
            "HOME": f"{self.base}/home",
            "PATH": "/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin",
            "LANG": "C.UTF-8",
            "XDG_RUNTIME_DIR": f"{self.base}/run",
            # As it is anyway; so root's notes are not this machine's.
            "XDG_STATE_HOME": f"{self.base}/home/.local/state",
            "PYTHONDONTWRITEBYTECODE": "1",
            SECRET_VARIABLE: f"nemoclaw-secret-{secrets.token_hex(16)}",
        }
        if any(attempt["stage"] == "state-in-work" for attempt in attempts):
            self.environment["XDG_STATE_HOME"] = f"{self.base}/work/state"
        if "PYTHONPATH" in os.environ:
            self.environment["PYTHONPATH"] = os.environ["PYTHONPATH"]
        self.environment.update(user.variables())
        self._host: subprocess.Popen[str] = subprocess.Popen(
            [PYTHON, "-m", "escape.host"],
            cwd=TESTS,
            env=self.environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            **user.arguments(),
        )
        assert self._host.stdin
        assert self._host.stdout
        request = {"base": self.base, "side": side, "attempts": attempts, "source": SOURCE}
        self._host.stdin.write(json.dumps(request) + "\n")
        self._host.stdin.flush()
        prepared = self._host.stdout.readline()
        if not prepared:
            raise RuntimeError(f"no stage as {user.name}: {self.close()}")
        self.facts: dict[str, Any] = json.loads(prepared)

    def close(self) -> str:
        """End the host process, which cleans up after itself, and remove what is left.

        Returns what the host process had to say.
        """
        _, said = self._host.communicate()
        shutil.rmtree(self.base, ignore_errors=True)
        return said

    def start(
        self, command: list[str], *, stdin: str = "", timeout: float = 60
    ) -> subprocess.CompletedProcess[str]:
        """Run a command by way of the starter: as the user, with everything left lying about."""
        starter = [PYTHON, "-m", "escape.starter", self.base, stdin]
        return subprocess.run(
            [*starter, *command],
            cwd=TESTS,
            env=self.environment,
            capture_output=True,
            text=True,
            timeout=timeout,
            **self.user.arguments(),
        )

    def nemoclaw(self, *words: str) -> list[str]:
        """The command line of nemoclaw."""
        return [*self.user.nemoclaw, *words]

    def inside(self, policy: str, command: list[str]) -> list[str]:
        """The command line that runs ``command`` in a sandbox."""
        work: str = self.facts["work"]
        return self.nemoclaw("run", "--policy", policy, "--workdir", work, "--", *command)

    def attack(self, attempts: list[Attempt]) -> dict[str, Outcome]:
        """Run attempts, together if there are several, and look at what the host shows of them."""
        if self.side == "inside":
            policy = f"{self.facts['policy']}:{attempts[0]['policy']}"
            return self._run(self.inside(policy, self._runner(attempts)), attempts)
        outcomes = {}
        for wrapper in {self._wrapper(attempt) for attempt in attempts}:
            part = [attempt for attempt in attempts if self._wrapper(attempt) == wrapper]
            outcomes.update(self._run([*wrapper, *self._runner(part)], part))
        return outcomes

    def _runner(self, attempts: list[Attempt]) -> list[str]:
        script, stage = f"{self.facts['work']}/attempts.py", f"{self.facts['work']}/stage.json"
        names = [attempt["name"] for attempt in attempts]
        words = [names[0], stage] if attempts[0]["alone"] else ["--batch", stage, *names]
        return [PYTHON, script, *words]

    def _wrapper(self, attempt: Attempt) -> tuple[str, ...]:
        """What makes the proof outside possible, or keeps it from changing the host for real."""
        if attempt["needs"] in ("any", "user"):
            return ()
        if not self.user.uid:
            return ("unshare", "--mount", "--uts")
        return ("unshare", "--map-root-user", "--mount", "--net", "--uts", "--ipc")

    def _run(self, command: list[str], attempts: list[Attempt]) -> dict[str, Outcome]:
        alone = attempts[0]["alone"]
        before = {attempt["name"]: self._look(attempt) for attempt in attempts}
        ended = self.start(command, stdin=attempts[0]["stdin"], timeout=30 if alone else 150)
        time.sleep(max(attempt["settle"] for attempt in attempts))
        lines = [line for line in ended.stdout.splitlines() if line.startswith('{"name"')]
        said = {fields["name"]: fields for fields in map(json.loads, lines)}
        outcomes = {}
        for attempt in attempts:
            fields = said.get(attempt["name"]) or _unsaid(ended, alone=alone)
            effect = self._effect(attempt, before[attempt["name"]])
            outcomes[attempt["name"]] = Outcome(fields["status"], fields["detail"], effect)
        return outcomes

    def _path(self, attempt: Attempt) -> str:
        own = self.facts["attempts"][attempt["name"]]
        path = attempt["effect"].partition(" ")[2]
        return str(path.format(**self.facts, target=own["target"], name=attempt["name"]))

    def _look(self, attempt: Attempt) -> Any:
        if attempt["effect"] == "victim":
            return evidence.process(self.facts["attempts"][attempt["name"]]["victim"]["pid"])
        return evidence.file(self._path(attempt)) if attempt["effect"] else None

    def _effect(self, attempt: Attempt, before: Any) -> bool | None:
        kind = attempt["effect"].partition(" ")[0]
        if kind in ("setid", "device"):
            return evidence.left(self._path(attempt), kind)
        return bool(self._look(attempt) != before) if kind else None


def _unsaid(ended: subprocess.CompletedProcess[str], *, alone: bool) -> dict[str, Any]:
    tail = f"exit status {ended.returncode}: {ended.stderr[-300:].strip()}"
    # Only the kernel ends an attempt before it can report, and only when it runs alone does the
    # exit status speak of it.
    killed = alone and ended.returncode and ended.returncode not in NEMOCLAW_FAILED
    return {"status": STOPPED if killed else MISSING, "detail": tail}
