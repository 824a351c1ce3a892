"""The servers that tests/egress has."""

from __future__ import annotations

from ..egress.grounds import outside

__all__ = ["outside"]
