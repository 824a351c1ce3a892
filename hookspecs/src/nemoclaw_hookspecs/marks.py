"""The marks of the contract: ``@hookspec`` for the core, ``@hookimpl`` for plugins.

Apart from the specifications, so that a plugin which is imported for one function does not pay for
every type that travels through the hooks.
"""

from __future__ import annotations

import pluggy

PROJECT = "nemoclaw"
ENTRY_POINT_GROUP = "nemoclaw"

hookspec = pluggy.HookspecMarker(PROJECT)
hookimpl = pluggy.HookimplMarker(PROJECT)
