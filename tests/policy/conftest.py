"""One arrangement for this room: a small host of directories, and policies read against it."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import attrs
import pytest
from hypothesis import HealthCheck, settings
from nemoclaw_hookspecs import PolicyError

from nemoclaw_core.policy import Context, Policy, load
from nemoclaw_core.policy.check import read_shipped, read_source
from nemoclaw_core.policy.locate import Located
from nemoclaw_core.policy.resolve import resolve
from nemoclaw_core.policy.walk import Observer

CALM = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
"""For properties: a machine with other work to do is slow now and then, and that is no failure."""


@attrs.frozen(slots=True)
class Ground:
    """A work directory, a home and nemoclaw's own directories, all below one real directory."""

    root: Path
    context: Context

    @property
    def work(self) -> Path:
        return Path(self.context.workdir)

    @property
    def home(self) -> Path:
        return Path(self.context.home)

    def write(self, text: str, name: str = "policies.toml", folder: Path | None = None) -> Path:
        """Make a policy file, outside the work directory unless told otherwise."""
        path = (folder or self.root / "policies") / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        path.chmod(0o644)
        return path

    def load(self, text: str, name: str = "default", **changes: Any) -> Policy:
        """The policy ``name`` of a file with this text."""
        path = self.write(text)
        context = attrs.evolve(self.context, **changes)
        return load(f"{path}:{name}", context=context)

    def filesystem(self, body: str, **changes: Any) -> Policy:
        """A policy that has only a filesystem table."""
        text = f"version = 1\n[policy.default.filesystem]\n{body}\n"
        return self.load(text, **changes)

    def refused(self, text: str, name: str = "default", **changes: Any) -> str:
        """What is said when the policy is refused."""
        with pytest.raises(PolicyError) as caught:
            self.load(text, name, **changes)
        return str(caught.value)

    def refused_filesystem(self, body: str, **changes: Any) -> str:
        """What is said when a policy that has only a filesystem table is refused."""
        with pytest.raises(PolicyError) as caught:
            self.filesystem(body, **changes)
        return str(caught.value)


@pytest.fixture
def ground(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Ground:
    root = tmp_path.resolve()
    # What sandboxes of whoever runs the tests could write says nothing about these files.
    monkeypatch.setenv("XDG_STATE_HOME", str(root / "state"))
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(root / "run"))
    for name in ("work", "home", "home/.config/nemoclaw", "elsewhere"):
        (root / name).mkdir(parents=True)
    context = Context(
        workdir=str(root / "work"),
        home=str(root / "home"),
        uid=os.geteuid(),
        gid=os.getegid(),
        cwd=str(root / "elsewhere"),
        config_dir=str(root / "home/.config/nemoclaw"),
        private_paths=(str(root / "home/.config/nemoclaw"),),
    )
    return Ground(root, context)


def problems_of(text: str | bytes, file: str = "p.toml") -> list[str]:
    """Every problem of a policy file with this text, without the file's name."""
    content = text.encode() if isinstance(text, str) else text
    shipped, _ = read_shipped()
    try:
        read_source(file, content, "", shipped)
    except PolicyError as error:
        return [each.removeprefix(f"{file}:") for each in error.problems]
    return []


def resolved(text: str, context: Context, name: str = "default") -> Policy:
    """The policy of a text, without a file of it on the disk."""
    shipped, _ = read_shipped()
    source = read_source("p.toml", text.encode(), "", shipped)
    return resolve(Located(source=source, name=name, shipped=shipped), context, Observer())


__all__ = ["CALM", "Ground", "problems_of", "resolved"]
