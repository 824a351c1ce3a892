"""``python -m nemoclaw_core.cli``: the command, for who has no script on the PATH.

Started like this, Python looks into the current directory first, for this package too: not where an
agent has worked.
"""

from __future__ import annotations

import os
import sys

from ..imports import is_pythons, named_by_user, settle
from . import main


def _started_in() -> bool:
    """Whether the path begins with the directory that the interpreter was started in. Where that
    is gone, the interpreter left it out, and begins with what comes next."""
    try:
        os.getcwd()
    except OSError:
        return sys.path[0] not in named_by_user() and not is_pythons(sys.path[0])
    return True


if not getattr(sys.flags, "safe_path", sys.flags.isolated) and _started_in():
    del sys.path[0]
settle()
sys.exit(main())
