"""An agent makes a tree that the kernel takes from nobody as one path, and a secret lies in it.

`**/.env` is looked up at each start. What it says must hold there too, and the start must work.
"""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

from ..callers import PYTHON

if TYPE_CHECKING:
    from ..desks import Desk

LONG = "n" * 250
SHAPES = {"long names": (LONG, 40), "many names": ("d", 3000), "both": ("é" * 100, 300)}
MAKE = """
import os, sys
name, levels = sys.argv[1], int(sys.argv[2])
for level in range(levels):
    os.mkdir(name)
    os.chdir(name)
with open("plain", "w") as file:
    file.write("plain\\n")
"""
SECRET = """
import os, sys
for level in range(int(sys.argv[2])):
    os.chdir(sys.argv[1])
with open(".env", "w") as file:
    file.write("the secret\\n")
"""
READ = """
import os, sys
try:
    for level in range(int(sys.argv[2])):
        os.chdir(sys.argv[1])
    print(open(".env").read())
except OSError as error:
    sys.exit(f"{error.strerror} at level {level}")
"""


@pytest.fixture
def work(desk: Desk) -> Iterator[Desk]:
    desk.needs(PYTHON)
    yield desk
    # rm(1) goes down by descriptor; shutil.rmtree() would run out of its stack.
    command = ["rm", "-rf", str(desk.folder("inside") / "deep")]
    subprocess.run(command, check=True, **desk.user.arguments())


@pytest.mark.parametrize("shape", SHAPES)
def test_a_secret_deeper_than_any_path_is_hidden(work: Desk, shape: str) -> None:
    name, levels = SHAPES[shape]
    words = [name, str(levels)]
    enter = ["sh", "-c", 'cd deep && exec "$@"', "-", PYTHON, "-c"]
    made = work.run("inside", ["sh", "-c", "mkdir deep shallow && echo y > shallow/file"])
    assert made.code == 0, made.err
    made = work.run("inside", [*enter, MAKE, *words])
    assert made.code == 0, made.err
    # Outside: the user's own program leaves a secret there, and reads it.
    for script, told in ((SECRET, ""), (READ, "the secret\n\n")):
        done = subprocess.run(
            [*enter, script, *words],
            cwd=work.folder("inside"),
            capture_output=True,
            text=True,
            **work.user.arguments(),
        )
        assert (done.returncode, done.stdout) == (0, told), done.stderr
    for _ in range(2):
        inside = work.run("inside", [*enter, READ, *words])
        assert "at level" in inside.err
        assert inside.code == 1
        assert inside.out == ""
        notes = [line for line in inside.err.splitlines() if "too deep" in line]
        assert len(notes) == 1
        assert len(notes[0]) < 400
        assert "**/.env" in notes[0]
    # The rest of the work directory is as it was.
    rest = work.run("inside", ["sh", "-c", "cat shallow/file && echo z > shallow/made"])
    assert (rest.code, rest.out) == (0, "y\n"), rest.err


def test_it_says_so_where_a_plan_is_explained(work: Desk) -> None:
    name, levels = SHAPES["long names"]
    made = work.run(
        "inside",
        [
            "sh",
            "-c",
            'mkdir deep && cd deep && exec "$@"',
            "-",
            PYTHON,
            "-c",
            MAKE,
            name,
            str(levels),
        ],
    )
    assert made.code == 0, made.err
    done = subprocess.run(
        [*work.user.nemoclaw, "run", "--dry-run", "--", "true"],
        cwd=work.folder("inside"),
        env=work.environment("inside"),
        capture_output=True,
        text=True,
        **work.user.arguments(),
    )
    assert done.returncode == 0, done.stderr
    assert "too deep" in done.stderr
