"""Field compression (RFC 7541) that does not work out the same block twice.

Clients that talk to an API, and servers that answer them, say much the same again and again: a
block whose fields are all in the table already is a few octets, and means the same until the table
changes. So it is kept for as long as that, and forgotten with everything else at the first change:
an entry that is added or evicted, a table that is resized. Blocks with secrets are not kept.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from hpack import Decoder, Encoder, HeaderTuple, NeverIndexedHeaderTuple
from hpack.table import HeaderTable

_KEPT = 32
"""Blocks of a connection, each way."""
_OCTETS = 128
"""Of a block that is kept."""
_RESIZE = vars(HeaderTable)["maxsize"].fset


class WatchedTable(HeaderTable):
    """Counts what changes the meaning of an index."""

    changes = 0

    def add(self, name: bytes, value: bytes) -> None:
        """See :class:`hpack.table.HeaderTable`."""
        self.changes += 1
        super().add(name, value)

    @property
    def maxsize(self) -> int:
        """See :class:`hpack.table.HeaderTable`."""
        return self._maxsize

    @maxsize.setter
    def maxsize(self, newmax: int) -> None:
        self.changes += 1
        pending = self.resized
        _RESIZE(self, newmax)
        # hpack forgets to tell of a size that it is given twice: nothing is pending for it then.
        self.resized = self.resized or pending


class RememberingEncoder(Encoder):
    """See :class:`hpack.Encoder`."""

    def __init__(self) -> None:
        super().__init__()
        self.header_table: WatchedTable = WatchedTable()
        self._known: dict[tuple[Any, ...], bytes] = {}
        self._changes = 0

    def encode(self, headers: Iterable[Any], huffman: bool = True) -> bytes:
        """See :class:`hpack.Encoder`."""
        table = self.header_table
        key = tuple(headers)
        if table.changes == self._changes:
            found = self._known.get(key)
            # An entry for the index and one for never being indexed compare equal.
            if found is not None and not _has_secret(key):
                return found
        else:
            self._known.clear()
            self._changes = table.changes
        resized = table.resized
        block = super().encode(key, huffman)
        if table.changes == self._changes and not resized:
            if len(block) <= _OCTETS and len(self._known) < _KEPT and not _has_secret(key):
                self._known[key] = block
        else:
            self._known.clear()
            self._changes = table.changes
        return block


class RememberingDecoder(Decoder):
    """See :class:`hpack.Decoder`."""

    def __init__(self, max_header_list_size: int) -> None:
        super().__init__(max_header_list_size)
        self.header_table: WatchedTable = WatchedTable()
        self._known: dict[bytes, list[HeaderTuple]] = {}
        self._changes = 0

    def decode(self, data: bytes, raw: bool = False) -> Iterable[HeaderTuple]:
        """See :class:`hpack.Decoder`; always of octets."""
        table = self.header_table
        if table.changes == self._changes:
            found = self._known.get(data)
            if found is not None:
                return list(found)
        headers = list(super().decode(data, raw=True))
        if table.changes == self._changes:
            if len(data) <= _OCTETS and len(self._known) < _KEPT and not _has_secret(headers):
                self._known[bytes(data)] = list(headers)
        else:
            self._known.clear()
            self._changes = table.changes
        return headers


def _has_secret(headers: Iterable[Any]) -> bool:
    """Whether a field is marked as never to be indexed (RFC 7541 section 7.1.3)."""
    return any(header.__class__ is NeverIndexedHeaderTuple for header in headers)
