"""nemoclaw: run autonomous agents behind walls that they cannot move."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from .policy import Policy
    from .sandbox import Sandbox

__version__ = "0.1.0"
__all__ = ["Policy", "Sandbox", "__version__"]


def __getattr__(name: str) -> Any:
    # Loaded on first use: `nemoclaw run` must not pay for attrs and cattrs.
    if name == "Sandbox":
        from .sandbox import Sandbox

        return Sandbox
    if name == "Policy":
        from .policy import Policy

        return Policy
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
