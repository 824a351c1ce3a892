"""Which program of the sandbox owns a connection."""

from .identifier import Identifier

__all__ = ["Identifier"]
