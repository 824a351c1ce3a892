"""What an agent leaves behind in its work directory does not widen the next run."""

from __future__ import annotations

import subprocess
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .ground import Ground, User

NAME = "files-read_neighbour"
