"""Wheels of every distribution, built once, and environments that only pip has touched."""

from __future__ import annotations

import shutil
import subprocess
import sys
import zipfile
from collections.abc import Callable, Iterator, Sequence
from email.message import Message
from email.parser import Parser
from pathlib import Path

import attrs
import pytest

ROOT = Path(__file__).resolve().parents[2]


@attrs.frozen(slots=True, kw_only=True)
class Distribution:
    """One installable part of this repository."""

    name: str
    folder: Path

    @property
    def package(self) -> str:
        """The one top-level package that its wheel may install."""
        if self.name == "nemoclaw":
            return "nemoclaw_core"
        return self.name.replace("-", "_")

    @property
    def sources(self) -> Path:
        """The directory of that package in the checkout."""
        base = self.folder if self.name == "nemoclaw" else self.folder / "src"
        return base / self.package


def find_distributions() -> tuple[Distribution, ...]:
    """Every distribution of the checkout, named after its folder."""
    found = [
        Distribution(name="nemoclaw", folder=ROOT),
        Distribution(name="nemoclaw-hookspecs", folder=ROOT / "hookspecs"),
    ]
    for manifest in sorted(ROOT.glob("plugins/*/pyproject.toml")):
        folder = manifest.parent
        found.append(Distribution(name=f"nemoclaw-plugin-{folder.name}", folder=folder))
    for manifest in sorted(ROOT.glob("contrib/*/pyproject.toml")):
        folder = manifest.parent
        found.append(Distribution(name=f"nemoclaw-{folder.name}", folder=folder))
    return tuple(found)


@attrs.frozen(slots=True, kw_only=True)
class Wheel:
    """A built wheel and what its metadata says."""

    path: Path
    names: tuple[str, ...]
    metadata: Message

    @classmethod
    def read(cls, path: Path) -> Wheel:
        with zipfile.ZipFile(path) as archive:
            names = tuple(archive.namelist())
            (where,) = [name for name in names if name.endswith(".dist-info/METADATA")]
            metadata = Parser().parsestr(archive.read(where).decode())
        return cls(path=path, names=names, metadata=metadata)

    def content(self, name: str) -> bytes:
        """The bytes of one file of the wheel."""
        with zipfile.ZipFile(self.path) as archive:
            return archive.read(name)

    @property
    def requirements(self) -> tuple[str, ...]:
        """Requirements without those of extras."""
        every = self.metadata.get_all("Requires-Dist", [])
        return tuple(text for text in every if "extra ==" not in text)


@attrs.frozen(slots=True, kw_only=True)
class Environment:
    """A virtual environment, used from a directory outside the checkout."""

    folder: Path
    cwd: Path

    @property
    def python(self) -> str:
        return str(self.folder / "bin" / "python")

    def pip(self, *arguments: str) -> None:
        """Run pip on this environment and fail with its output if it fails."""
        pip = [self.python, "-m", "pip"]
        if subprocess.run([*pip, "--version"], capture_output=True).returncode != 0:
            pip = [sys.executable, "-m", "pip", "--python", self.python]
        check([*pip, *arguments], cwd=self.cwd)

    def run(self, *command: str, **variables: str) -> subprocess.CompletedProcess[str]:
        """Run a command found in the environment's ``bin``, with a home directory of its own."""
        home = self.cwd.with_name("home")
        home.mkdir(exist_ok=True)
        return subprocess.run(
            [str(self.folder / "bin" / command[0]), *command[1:]],
            cwd=self.cwd,
            env={
                "PATH": "/usr/bin:/bin",
                "HOME": str(home),
                "LANG": "C.UTF-8",
                # As it is anyway; so root's notes are not this machine's.
                "XDG_STATE_HOME": f"{home}/.local/state",
                **variables,
            },
            capture_output=True,
            text=True,
            timeout=60,
        )


def check(command: Sequence[str], *, cwd: Path) -> str:
    """Run a build command; on failure show all of its output."""
    done = subprocess.run(
        command, cwd=cwd, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    )
    assert done.returncode == 0, f"{' '.join(command)}\n{done.stdout}"
    return done.stdout


def make_environment(folder: Path, python: str = sys.executable) -> Environment:
    """A virtual environment without pip: the one of the tests installs into it.

    Not so for another interpreter: a pip that is older than it may not run on it.
    """
    cwd = folder / "elsewhere"
    cwd.mkdir(parents=True)
    options = ["--without-pip"] if python == sys.executable else []
    check([python, "-m", "venv", *options, str(folder / "venv")], cwd=cwd)
    return Environment(folder=folder / "venv", cwd=cwd)


NewEnvironment = Callable[[Path, str], Environment]


@pytest.fixture(scope="session")
def new_environment() -> NewEnvironment:
    """Makes an environment in a folder, of a given interpreter."""
    return make_environment


@pytest.fixture(scope="session")
def distributions() -> tuple[Distribution, ...]:
    """Every distribution of this repository."""
    return find_distributions()


@pytest.fixture(scope="session")
def built(
    tmp_path_factory: pytest.TempPathFactory, distributions: tuple[Distribution, ...]
) -> dict[str, Wheel]:
    """A wheel of every distribution by name, each made from its sdist."""
    out = tmp_path_factory.mktemp("dist")
    for each in distributions:
        command = [sys.executable, "-m", "build", "--no-isolation", "--outdir", str(out)]
        check([*command, str(each.folder)], cwd=out)
    wheels = (Wheel.read(path) for path in sorted(out.glob("*.whl")))
    return {str(wheel.metadata["Name"]): wheel for wheel in wheels}


@pytest.fixture(scope="session")
def installed(
    tmp_path_factory: pytest.TempPathFactory, built: dict[str, Wheel]
) -> Iterator[Environment]:
    """All wheels in a clean environment, installed as docs/install.md says."""
    folder = tmp_path_factory.mktemp("installed")
    environment = make_environment(folder)
    files = [str(wheel.path) for wheel in built.values()]
    environment.pip("install", "--constraint", str(ROOT / "constraints.txt"), *files)
    yield environment
    shutil.rmtree(folder)


@pytest.fixture(scope="session")
def libraries(
    tmp_path_factory: pytest.TempPathFactory, built: dict[str, Wheel]
) -> Iterator[Environment]:
    """Only what other people wrote: the third-party requirements of all distributions."""
    folder = tmp_path_factory.mktemp("libraries")
    environment = make_environment(folder)
    wanted = {
        text
        for wheel in built.values()
        for text in wheel.requirements
        if not text.startswith("nemoclaw")
    }
    environment.pip("install", "--constraint", str(ROOT / "constraints.txt"), *sorted(wanted))
    yield environment
    shutil.rmtree(folder)
