"""``python -m nemoclaw_core.cli``: the command, for who has no script on the PATH."""

from __future__ import annotations

import sys

from . import main

sys.exit(main())
