"""Runs the battery of attempts outside and inside of a sandbox. See README.md."""

from __future__ import annotations

import functools
import json
import re
import subprocess
from collections.abc import Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from ..callers import PYTHON, User, everybody
from .evidence import tree
from .ground import TESTS, Attempt, Ground, Outcome

WORKERS = 3
"""Stages at once. Two are busy while one waits for something to settle."""


def _can(user: User, attempt: Attempt) -> bool:
    """Whether an attempt can be shown to work outside as this user."""
    return attempt["needs"] in ("any", "namespace", "user" if user.uid else "root")


@functools.lru_cache
def _attempts() -> list[Attempt]:
    # What is compiled here is copied to every stage: importing it is most of an attempt's time.
    subprocess.run([PYTHON, "-m", "compileall", "-q", f"{TESTS}/escape"], check=False)
    script = f"{TESTS}/escape/attempts.py"
    listing = subprocess.run([PYTHON, script, "--list"], check=True, capture_output=True)
    found: list[Attempt] = json.loads(listing.stdout)
    return found


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """One test for each attempt and each user who can make it outside."""
    users = everybody()
    if "attempt" in metafunc.fixturenames:
        pairs = [
            (attempt, user) for attempt in _attempts() for user in users if _can(user, attempt)
        ]
        ids = [f"{attempt['name']}-{user.name}" for attempt, user in pairs]
        metafunc.parametrize(("attempt", "user"), pairs, ids=ids)
    elif "user" in metafunc.fixturenames:
        metafunc.parametrize("user", users, ids=[user.name for user in users])


class Battery:
    """Runs each attempt once on each side; those that do not disturb each other run together."""

    def __init__(self, wanted: list[tuple[Attempt, User]], installed: Mapping[str, User]) -> None:
        self._wanted = wanted
        self._installed = installed
        self._pool = ThreadPoolExecutor(WORKERS)
        self._running: dict[tuple[User, str, str], Future[dict[str, Outcome]]] = {}
        self.untouched: dict[User, tuple[Any, Any]] = {}
        """For each user: the stage before and after every attempt was made inside."""

    def outcome(self, attempt: Attempt, user: User, side: str) -> Outcome:
        """What became of an attempt on a side (``outside`` or ``inside``)."""
        if not self._running:
            self._start()
        alone = attempt["name"] if attempt["alone"] else ""
        return self._running[user, side, alone].result()[attempt["name"]]

    def close(self) -> None:
        """Wait for what runs, and drop what does not run yet."""
        self._pool.shutdown(cancel_futures=True)

    @staticmethod
    def forbidden(attempt: Attempt) -> str:
        """Why an ordinary user of this host cannot make an attempt; empty if nothing hinders."""
        found = re.fullmatch(r"([\w/]+)([<>]=)(\d+)", attempt["host"])
        path = Path(f"/proc/sys/{found[1]}") if found else None
        if not found or not path or not path.exists():
            return ""
        value, bound = int(path.read_text()), int(found[3])
        met = value <= bound if found[2] == "<=" else value >= bound
        return "" if met else f"this host has {path} = {value}"

    def _start(self) -> None:
        groups: dict[tuple[User, str], list[Attempt]] = {}
        for attempt, user in self._wanted:
            alone = attempt["name"] if attempt["alone"] else ""
            groups.setdefault((user, alone), []).append(attempt)
        jobs = [
            ((user, side, alone), attempts)
            for (user, alone), attempts in groups.items()
            for side in ("inside", "outside")
        ]
        jobs.sort(key=lambda job: (not job[1][0]["exclusive"], job[0][2] != ""))
        for key, attempts in jobs:
            future = self._pool.submit(self._go, key[0], key[1], attempts)
            self._running[key] = future
            if attempts[0]["exclusive"]:
                future.exception()

    def _go(self, user: User, side: str, attempts: list[Attempt]) -> dict[str, Outcome]:
        ground = Ground(self._installed[user.name], side, attempts)
        try:
            before = tree(ground.base)
            outcomes = ground.attack(attempts)
            if side == "inside" and not attempts[0]["alone"]:
                self.untouched[user] = (before, tree(ground.base))
            return outcomes
        finally:
            ground.close()


@pytest.fixture(scope="session")
def battery(request: pytest.FixtureRequest, users: Mapping[str, User]) -> Iterator[Battery]:
    """The attempts that this session selected."""
    calls = [getattr(item, "callspec", None) for item in request.session.items]
    params = [call.params for call in calls if call]
    made = Battery([(p["attempt"], p["user"]) for p in params if "attempt" in p], users)
    yield made
    made.close()


@pytest.fixture
def ground(user: User, users: Mapping[str, User]) -> Iterator[Ground]:
    """A stage for a test that brings its own commands and runs them inside."""
    attempts = [attempt for attempt in _attempts() if attempt["name"] == "files-read_neighbour"]
    made = Ground(users[user.name], "inside", attempts)
    yield made
    made.close()
