"""The policy: read from TOML, checked, merged, and resolved against this host.

>>> from nemoclaw_core.policy import Context, load
>>> policy = load("default", context=Context.here())        # doctest: +SKIP

Names are loaded on first use: a cached start imports none of this.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from nemoclaw_hookspecs.policy import Policy

    from .access import permits
    from .context import Context
    from .resolve import load, load_observed
    from .walk import Observation

_HOME = {
    "Context": ".context",
    "Observation": ".walk",
    "Policy": "nemoclaw_hookspecs.policy",
    "load": ".resolve",
    "load_observed": ".resolve",
    "permits": ".access",
}

__all__ = ["Context", "Observation", "Policy", "load", "load_observed", "permits"]


def __getattr__(name: str) -> Any:
    if name in _HOME:
        value = getattr(import_module(_HOME[name], __name__), name)
        globals()[name] = value
        return value
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
