"""nemoclaw lies in the project that an agent works on, and no mount can make it read-only there."""

from __future__ import annotations

import os
import subprocess
from typing import TYPE_CHECKING

from ..callers import copy_installation

if TYPE_CHECKING:
    from .conftest import Poor

PROGRAM = """
import sys
sys.path.insert(0, {library!r})
from nemoclaw_core.imports import settle
settle()
from nemoclaw_core.cli import main
sys.exit(main(sys.argv[1:]))
"""


def test_it_is_granted_for_reading_alone_and_the_gap_says_so(poor: Poor) -> None:
    library = poor.work / "library"
    poor.make("library/", "src/", "notes")
    copy_installation(library)
    for folder, _, names in os.walk(library):
        for path in (folder, *(os.path.join(folder, name) for name in names)):
            os.chown(path, poor.desk.user.uid, poor.desk.user.gid)
    module = library / "nemoclaw_core/supervisor/refusals.py"
    attack = f"(echo '# x' >> {module}) 2>/dev/null && echo wrote; mv library aside && echo moved"
    script = f"{attack}; echo changed >> notes; touch src/new && echo worked"
    done = poor.python(
        "-c", PROGRAM.format(library=str(library)),
        "run", "--policy", poor.policy, "--", "sh", "-c", script,
    )  # fmt: skip
    assert (done.returncode, done.stdout) == (0, "worked\n"), done.stderr
    assert "nemoclaw: its own code" in done.stderr
    as_user = poor.desk.user.arguments()
    there = subprocess.run(["sh", "-c", attack], cwd=poor.work, capture_output=True, **as_user)
    assert there.stdout == b"wrote\nmoved\n"
