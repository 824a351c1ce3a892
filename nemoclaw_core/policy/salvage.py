"""What is left of a policy's table when the keys and list items that do not fit are left out.

It serves to look for more problems in the same run, never to start anything.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from .problems import Key, Misfit


class Salvage:
    """A table of a policy file, which gets smaller.

    :param value: as TOML has it. It is copied, not changed.
    """

    def __init__(self, value: object) -> None:
        self.value = _copy(value)
        self.left_out: set[Key] = set()
        """By the places in the file."""
        self.places: dict[Key, tuple[int, ...]] = {}
        """Of lists that got shorter: where what is left stands in the file."""

    def placed(self, misfits: list[Misfit]) -> Iterator[Misfit]:
        """The misfits of the smaller table at their places in the file."""
        for each in misfits:
            yield Misfit(each.what, each.remedy, at=self._place(each.at))

    def leave_out(self, keys: list[Key]) -> bool:
        """Take these keys out: of a list, the whole item that the key is in.

        :returns: False when nothing could be taken out: then the table as a whole is wrong.
        """
        cuts = {self._cut(key) for key in keys}
        if () in cuts:
            return False
        self.left_out |= {self._place(cut) for cut in cuts}
        # From the end of each list, so that what is before keeps its index.
        for cut in sorted(cuts, key=_order, reverse=True):
            table = self._at(cut[:-1])
            step = cut[-1]
            if isinstance(table, list) and isinstance(step, int):
                kept = self.places.get(cut[:-1], tuple(range(len(table))))
                self.places[cut[:-1]] = kept[:step] + kept[step + 1 :]
                del table[step]
            elif isinstance(table, dict):
                table.pop(step, None)
        return True

    def _cut(self, key: Key) -> Key:
        if key[:1] == ("backends",):
            return key[:2]  # Without one of its keys a backend would be wrong in another way.
        first = next((at for at, step in enumerate(key) if isinstance(step, int)), len(key))
        return key[: first + 1]

    def _place(self, key: Key) -> Key:
        """Where a key of what is left stands in the file. Only the first list on the way counts:
        items of lists in it go as a whole."""
        first = next((at for at, step in enumerate(key) if isinstance(step, int)), None)
        if first is None or key[:first] not in self.places:
            return key
        return (*key[:first], self.places[key[:first]][int(key[first])], *key[first + 1 :])

    def _at(self, key: Key) -> Any:
        found: Any = self.value
        for step in key:
            found = found[step]
        return found


def _order(key: Key) -> tuple[tuple[int, int, str], ...]:
    return tuple((0, each, "") if isinstance(each, int) else (1, 0, each) for each in key)


def _copy(value: object) -> Any:
    if isinstance(value, dict):
        return {key: _copy(each) for key, each in value.items()}
    if isinstance(value, list):
        return [_copy(each) for each in value]
    return value
