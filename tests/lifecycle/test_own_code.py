"""nemoclaw is installed in the project that an agent works on: the agent does not get out by way of
nemoclaw's own code, at the next start or in the running supervisor."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from ..callers import copy_installation

SCRIPT = (Path(__file__).resolve().parents[2] / "bin" / "nemoclaw").read_text()
PACKAGE = "nemoclaw_core/supervisor/refusals.py"
"""A module that the supervisor imports late: when a program is not there."""


class Project:
    """A work directory with an environment in it that holds nemoclaw.

    :param editable: the packages of nemoclaw lie in ``source`` and ``contract``, which the
        environment names.
    """

    def __init__(self, cli: Any, *, editable: bool = False) -> None:
        self.folder: Path = cli.home / "project"
        self.folder.mkdir()
        self.evidence: Path = cli.home / "evidence"
        environment = self.folder / ".venv"
        python = cli.program[0]
        subprocess.run([python, "-m", "venv", "--without-pip", str(environment)], check=True)
        (self.site,) = environment.glob("lib/python3*/site-packages")
        copy_installation(self.site)
        self.source = self.site
        if editable:
            self.source = self.folder / "source"
            for name, place in (
                ("nemoclaw_core", self.source),
                ("nemoclaw_hookspecs", self.folder / "contract"),
                ("something", self.folder / "neighbour"),
            ):
                place.mkdir()
                if name != "something":
                    shutil.move(self.site / name, place / name)
                (self.site / f"_{name}.pth").write_text(f"{place}\n")
        self.script = environment / "bin/nemoclaw"
        self.script.write_text(SCRIPT.replace("#!python", f"#!{environment}/bin/python", 1))
        self.script.chmod(0o755)
        cli.program = [str(self.script)]
        cli.environment.pop("PYTHONPATH", None)
        self.environment: Mapping[str, str] = cli.environment
        self._cli = cli

    def run(self, *words: str, **options: Any) -> subprocess.CompletedProcess[bytes]:
        """Run nemoclaw in the project."""
        found: subprocess.CompletedProcess[bytes] = self._cli.run(
            *words, cwd=self.folder, **options
        )
        return found

    def agent(self, script: str) -> str:
        """What an agent prints in the project."""
        done = self.run("run", "--", "/bin/sh", "-c", script)
        assert done.returncode == 0, done.stderr.decode()
        return done.stdout.decode()

    def outside(self, script: str) -> str:
        """What the same script prints outside."""
        command = ["/bin/sh", "-c", script]
        done = subprocess.run(command, cwd=self.folder, capture_output=True, text=True, check=True)
        return done.stdout

    def payload(self, path: Path | str) -> str:
        """A line of shell that adds to a Python file what leaves the evidence."""
        return f'echo \'open("{self.evidence}", "w")\' >> {path}'


@pytest.fixture
def project(cli: Any) -> Any:
    """Makes the project: as the caller, so inside of the test."""
    return lambda **options: Project(cli, **options)


def test_nothing_that_it_is_imported_from_can_be_written(project: Any) -> None:
    made: Project = project()
    site = made.site
    targets = (
        site / PACKAGE,
        site / "nemoclaw_hookspecs/errors.py",
        site / "nemoclaw_plugin_landlock/__init__.py",
        site / "attr/__init__.py",
        site / "new.pth",
        site / "sitecustomize.py",
        site.parent / "new.py",
        made.folder / ".venv/pyvenv.cfg",
        made.folder / ".venv/bin/nemoclaw",
        made.folder / ".venv/bin/new",
    )
    script = "".join(f"(echo '# x' >> {each}) 2>&- && echo wrote {each}\n" for each in targets)
    script += (
        "mv .venv .moved 2>&- && echo moved; ln -sfn /tmp .venv/bin/python 2>&- && echo link\n"
    )
    wanted = [f"wrote {each}" for each in targets]
    assert made.agent(f"{script}touch mine && echo done").split("\n") == ["done", ""]
    shutil.copytree(made.folder, made.folder.with_name("copy"), symlinks=True)
    there = script.replace(str(made.folder), str(made.folder.with_name("copy")))
    copied = made.outside(f"cd ../copy; {there}true").split("\n")
    assert [each.replace("/copy/", "/project/") for each in copied[: len(wanted)]] == wanted
    assert copied[len(wanted) :][0] == "moved"


def test_a_rewritten_module_does_not_run_in_the_live_supervisor(project: Any) -> None:
    made: Project = project()
    attack = made.payload(made.site / PACKAGE)
    for side in ("inside", "outside"):
        name = f"live-{side}"
        script = f"({attack}) 2>&-; echo ready; exec sleep 60"
        agent = ("run", "--name", name, "--", "/bin/sh", "-c", script)
        if side == "outside":
            made.outside(attack)
        process = made._cli.start(*agent, cwd=made.folder, stdout=subprocess.PIPE)
        assert process.stdout.readline() == b"ready\n"
        done = made.run("exec", name, "--", "/no/such/program")
        assert done.returncode == 127
        assert made.evidence.exists() == (side == "outside")
        made.run("stop", name)


def test_sources_of_an_editable_installation_are_read_only(project: Any) -> None:
    made: Project = project(editable=True)
    targets = [
        made.source / PACKAGE,
        made.source / "nemoclaw_hookspecs.py",
        made.folder / "contract/json.py",
        made.folder / "neighbour/nemoclaw_core.py",
    ]
    # Some systems have one of their own, which is found first.
    python = made.script.with_name("python")
    if subprocess.run([python, "-c", "import sitecustomize"], stderr=subprocess.DEVNULL).returncode:
        targets += [each / "sitecustomize.py" for each in (made.source, made.folder / "neighbour")]
    tries = "".join(f"({made.payload(each)}) 2>&- && echo wrote {each}\n" for each in targets)
    others = f"touch {made.source}/README {made.folder}/neighbour/mine.py && echo did its work"
    told = made.agent(
        f"{tries}mkdir {made.source}/nemoclaw_hookspecs/__init__.py 2>&- && echo made\n{others}"
    )
    assert told == "did its work\n"
    assert made.run("version").returncode == 0
    assert not made.evidence.exists()
    assert made.outside(tries).count("wrote") == len(targets)
    made.run("version")
    assert made.evidence.exists()


@pytest.mark.parametrize("folder", ["source", "neighbour"])
def test_what_the_library_only_tries_to_import_does_not_come_from_sources(
    project: Any, folder: str
) -> None:
    """``subprocess`` looks for ``msvcrt`` everywhere before it takes this for no Windows."""
    made: Project = project(editable=True)
    where = made.folder / folder / "msvcrt.py"
    assert made.agent(f"{made.payload(where)} && echo planted") == "planted\n"
    for words in (("run", "--no-cache", "--", "true"), ("plugins",), ("doctor",)):
        made.run(*words)
        assert not made.evidence.exists(), words
    python = made.script.with_name("python")
    subprocess.run([python, "-c", "import subprocess"], cwd="/", check=False)
    assert made.evidence.exists()


def test_the_launcher_of_a_program_takes_nothing_from_sources(project: Any) -> None:
    """It is an interpreter of its own, which is told where nemoclaw lies."""
    made: Project = project(editable=True)
    attack = "; ".join(made.payload(made.source / f"{name}.py") for name in ("_socket", "ctypes"))
    assert made.agent(f"{attack}; echo planted") == "planted\n"
    python = str(made.script.with_name("python"))
    program = (
        "from nemoclaw_core import Sandbox\n"
        f"with Sandbox(workdir={str(made.folder)!r}) as sandbox:\n"
        "    print(sandbox.run(['echo', 'done'], capture_output=True).stdout)\n"
    )
    command = [python, "-c", program]
    done = subprocess.run(command, cwd="/", env=made.environment, capture_output=True, check=False)
    assert b"done" in done.stdout, done.stderr
    assert not made.evidence.exists()
    first = f"import sys; sys.path[:0] = [{str(made.source)!r}]; import ctypes"
    subprocess.run([python, "-I", "-S", "-c", first], cwd="/", check=False)
    assert made.evidence.exists()


@pytest.mark.parametrize("spelling", [".", "", "{project}", "below/..:below"])
def test_the_current_directory_is_no_place_for_modules(project: Any, spelling: str) -> None:
    made: Project = project()
    (made.folder / "below").mkdir()
    attack = "; ".join(
        made.payload(f"{folder}{name}.py")
        for folder in ("", "below/")
        for name in ("json", "attrs", "attr", "pluggy", "nemoclaw_core", "argparse")
    )
    made.agent(attack)
    path = f"{spelling.format(project=made.folder)}:"
    for words in (("run", "--no-cache", "--", "true"), ("plugins", "--json"), ("version",)):
        done = made.run(*words, env={"PYTHONPATH": path})
        assert done.returncode == 0, done.stderr
        assert not made.evidence.exists(), words
    python = str(made.script.with_name("python"))
    environment: Mapping[str, str] = {**os.environ, "PYTHONPATH": path}
    command = [python, "-c", "import json"]
    subprocess.run(command, cwd=made.folder, env=environment, check=False)
    assert made.evidence.exists()


def test_a_work_directory_in_the_code_is_refused(project: Any) -> None:
    made: Project = project()
    for folder in (made.folder / ".venv", made.site, made.site / "nemoclaw_core/cli"):
        done = made.run("run", "--workdir", str(folder), "--", "true")
        assert done.returncode == 3, done.stderr
        assert b"what nemoclaw itself runs from" in done.stderr


def test_an_environment_of_the_project_that_does_not_hold_it_stays_writable(cli: Any) -> None:
    python, environment = cli.program[0], cli.work / ".venv"
    subprocess.run([python, "-m", "venv", "--without-pip", str(environment)], check=True)
    (site,) = environment.glob("lib/python3*/site-packages")
    done = cli.sandbox("/bin/sh", "-c", f"touch {site}/mine.py .venv/bin/tool && echo done")
    assert done.stdout == b"done\n", done.stderr


def test_an_ordinary_installation_costs_no_step(cli: Any) -> None:
    done = cli.run("run", "--dry-run", "--", "true")
    assert done.returncode == 0, done.stderr
    assert b"its own code" not in done.stdout
