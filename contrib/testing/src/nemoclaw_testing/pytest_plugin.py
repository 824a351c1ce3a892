"""Fixtures for the tests of nemoclaw and its plugins. pytest finds them by their entry point."""

from __future__ import annotations

import contextlib
import importlib.util
import os
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import pytest

from .forked import run_forked
from .values import make_host, make_policy

if TYPE_CHECKING:
    from nemoclaw_hookspecs import Host, Policy

    from nemoclaw_core.process import Completed
    from nemoclaw_core.sandbox import Sandbox


class RunInSandbox(Protocol):
    """Runs a command in a sandbox and waits for it."""

    def __call__(
        self,
        argv: Sequence[str],
        *,
        policy: str | os.PathLike[str] | None = None,
        workdir: str | os.PathLike[str] | None = None,
        cwd: str | None = None,
        env: Mapping[str, str] | None = None,
        input: bytes | None = None,
        timeout: float = 30.0,
    ) -> Completed:
        """Return the exit status and what the command wrote, as bytes.

        :param policy: a NAME, FILE or FILE:NAME; the policy ``default`` if None.
        :param workdir: what the policy calls ``{workdir}``; the test's ``tmp_path / "work"``,
            which is made, if None.
        :param timeout: seconds.
        :raises NemoclawError: the sandbox could not be built.
        """
        ...


@pytest.fixture
def policy_factory() -> Callable[..., Policy]:
    """Builds a valid policy with the differences that are named (see ``make_policy``)."""
    return make_policy


@pytest.fixture
def host_factory() -> Callable[..., Host]:
    """Builds the facts of a host with the differences that are named (see ``make_host``)."""
    return make_host


@pytest.fixture
def forked() -> Callable[..., Any]:
    """Calls a function in a forked child and gives its result (see ``run_forked``)."""
    return run_forked


@pytest.fixture
def sandbox(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[RunInSandbox]:
    """Runs a command in a real sandbox. Needs the distribution ``nemoclaw``.

    nemoclaw's directories are the test's own, so neither the user's policies nor the user's cache
    plays a part.
    """
    if importlib.util.find_spec("nemoclaw_core") is None:
        pytest.skip("the distribution nemoclaw is not installed")
    module = importlib.import_module("nemoclaw_core.sandbox")
    with contextlib.ExitStack() as stack:
        # Not below tmp_path: the path of a socket can have 107 bytes (unix(7)).
        private = stack.enter_context(tempfile.TemporaryDirectory(prefix="nemoclaw-"))
        for variable in ("CONFIG_HOME", "CACHE_HOME", "STATE_HOME", "RUNTIME_DIR"):
            monkeypatch.setenv(f"XDG_{variable}", os.path.join(private, variable.lower()))
        boxes: dict[tuple[str | None, str], Sandbox] = {}

        def run(
            argv: Sequence[str],
            *,
            policy: str | os.PathLike[str] | None = None,
            workdir: str | os.PathLike[str] | None = None,
            cwd: str | None = None,
            env: Mapping[str, str] | None = None,
            input: bytes | None = None,
            timeout: float = 30.0,
        ) -> Completed:
            if workdir is None:
                workdir = tmp_path / "work"
                workdir.mkdir(exist_ok=True)
            key = (None if policy is None else os.fspath(policy), os.fspath(workdir))
            if key not in boxes:
                boxes[key] = stack.enter_context(module.Sandbox(key[0], workdir=key[1]))
            return boxes[key].run(
                argv, input=input, capture_output=True, timeout=timeout, cwd=cwd, env=env
            )

        yield run
