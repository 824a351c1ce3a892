"""The desks of the real programs: the same command, as root and as an ordinary user."""

from __future__ import annotations

from ..programs.conftest import desk, users

__all__ = ["desk", "users"]
