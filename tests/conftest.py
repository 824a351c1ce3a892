"""What holds for every test."""

from __future__ import annotations

import shutil
import signal
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from .callers import User, everybody, installed
from .desks import Desk, desk_of


def pytest_report_header() -> str:
    """Says which users start nemoclaw in this run."""
    names = [f"{user.name} ({user.uid})" for user in everybody()]
    more = "" if "root" in names[0] else "; run the tests with sudo to add root"
    return f"nemoclaw is started by: {', '.join(names)}{more}"


@pytest.fixture(autouse=True, scope="session")
def no_way_of_a_shell() -> Iterator[None]:
    """Forget how the shell came to where it started the tests: they change directories."""
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("PWD", raising=False)
        yield


@pytest.fixture(autouse=True, scope="session")
def signals_as_in_a_login() -> Iterator[None]:
    """Undo what a shell does to its background jobs (it ignores SIGINT and SIGQUIT), and nohup(1).

    What is ignored stays so in every program that the tests start, which is right, and in the way
    of those that are about signals.
    """
    handlers: dict[signal.Signals, Any] = {
        signal.SIGINT: signal.default_int_handler,
        signal.SIGQUIT: signal.SIG_DFL,
        signal.SIGHUP: signal.SIG_DFL,
    }
    before = {number: signal.signal(number, handler) for number, handler in handlers.items()}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.fixture(scope="session")
def users() -> Iterator[dict[str, User]]:
    """Callers by name: root and an ordinary user, or the one user who runs the tests."""
    copies = Path(tempfile.mkdtemp(prefix="nemoclaw-installed-"))
    copies.chmod(0o755)
    yield {user.name: installed(user, copies) for user in everybody()}
    shutil.rmtree(copies)


@pytest.fixture(params=[user.name for user in everybody()])
def caller(request: pytest.FixtureRequest, users: Mapping[str, User]) -> User:
    """Who starts nemoclaw: once root, and once an ordinary user."""
    if request.param not in users:
        pytest.skip("this test is about root alone: run the tests with sudo to see it")
    return users[request.param]


@pytest.fixture
def desk(caller: User) -> Iterator[Desk]:
    """An empty desk of the caller."""
    with desk_of(caller) as found:
        yield found
