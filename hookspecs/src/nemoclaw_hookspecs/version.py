"""The version of the plugin contract.

``API`` is ``(major, minor)``. A plugin states the version it was written for in its module
attribute ``NEMOCLAW_API``. The core refuses a plugin of another major version, and one that needs
a newer minor version than the core offers.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Final

API: Final[tuple[int, int]] = (1, 0)
__version__: Final = "1.0.0"
