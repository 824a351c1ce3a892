"""Checking a log: is it what its writers wrote, whole and in order (docs/events.md)?

What a good answer proves: whoever changed, removed or moved a record also rewrote every record
after it and the note of the last one. Who may write both files can do that. To rule it out, keep
the digest of the last record, or a copy of the records, out of that person's reach.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Sequence
from typing import Any, Literal

import attrs
from nemoclaw_hookspecs.errors import EventLogError

from . import chain
from .folder import HEAD, LOG, open_file, open_folder

Kind = Literal["changed", "missing", "moved", "repeated", "foreign", "headless", "reported"]

_HARMLESS = "torn"


@attrs.frozen(slots=True, kw_only=True)
class Problem:
    """Something in a log that is not as it was written.

    ``changed``: a record is not the one that was written. ``missing``: records are gone.
    ``moved``: a record stands in another place. ``repeated``: it stands there twice. ``foreign``:
    a line that nemoclaw did not write. ``headless``: there is no good note of the last record, so
    nobody can say whether records are missing at the end. ``reported``: a record tells of one of
    these, found by the next writer.
    """

    kind: Kind
    line: int
    """Counted from 1; one past the last line for what is wrong with the end."""
    what: str

    def __str__(self) -> str:
        return f"line {self.line}: {self.what}"


@attrs.frozen(slots=True, kw_only=True)
class VerifyResult:
    """What was found out about a log."""

    path: str
    records: int
    digest: str
    """Of the last record; what to compare with a copy that was kept elsewhere."""
    problems: tuple[Problem, ...] = ()
    notes: tuple[str, ...] = ()
    """What a crash leaves behind, without loss of a record that anybody relied on."""

    @property
    def ok(self) -> bool:
        """True when the log is what its writers wrote."""
        return not self.problems


@attrs.frozen(slots=True, kw_only=True)
class _Line:
    number: int
    end: int
    """Bytes of the file up to the line's end."""
    digest: str
    sequence: int | None
    """None for a line that is no record."""
    previous: str = ""
    damage: str = ""
    message: str = ""


_BEFORE_ALL = _Line(number=0, end=0, digest=chain.START, sequence=0)


def verify(path: str) -> VerifyResult:
    """Check the log at ``path``, which may be in use.

    A log that is gone while the note of its last record is still there is one that lost everything.

    :raises FileNotFoundError: there is neither.
    :raises EventLogError: it is not the caller's alone, or a writer holds its lock for too long.
    """
    if os.path.basename(path) != LOG:
        raise EventLogError(f"not an event log: those are called {LOG}", where=path)
    parent = os.path.dirname(os.path.abspath(path))
    folder, _ = open_folder(os.path.basename(parent), directory=os.path.dirname(parent))
    try:
        try:
            log = open_file(folder, LOG, os.O_RDONLY, path)
        except FileNotFoundError:
            return _gone(path, _read_head(folder, parent))
        with open(log, "rb") as file:
            size, head = _snapshot(log, folder, parent)
            return examine(path, file.read(size), head)
    finally:
        os.close(folder)


def _snapshot(log: int, folder: int, path: str) -> tuple[int, bytes]:
    """Size of the log and content of its head at one moment between two appends."""
    from . import locks  # Of Linux; a log's content can be examined anywhere.

    locks.lock(log, locks.APPENDING, locks.SHARED, f"{path}/{LOG}")
    try:
        size = os.fstat(log).st_size
        try:
            return size, _read_head(folder, path)
        except FileNotFoundError:
            return size, b""
    finally:
        locks.unlock(log, locks.APPENDING)


def _read_head(folder: int, path: str) -> bytes:
    with open(open_file(folder, HEAD, os.O_RDONLY, f"{path}/{HEAD}"), "rb") as file:
        return file.read(chain.HEAD_SIZE + 1)


def _gone(path: str, head: bytes) -> VerifyResult:
    """What is said about a head without a log: its writer makes the log first."""
    noted = chain.parse_head(head)
    what = f"{LOG} is gone, and {HEAD} is still there"
    if noted is not None and noted[0]:
        what += f": {_named(range(1, noted[0] + 1))} missing"
    problem = Problem(kind="missing", line=1, what=what)
    return VerifyResult(path=path, records=0, digest=chain.START, problems=(problem,))


def examine(path: str, data: bytes, head: bytes) -> VerifyResult:
    """What :func:`verify` says about a log of the content ``data`` with the note ``head``."""
    end = data.rfind(b"\n") + 1
    lines = list(_read_all(data[:end]))
    records = [_BEFORE_ALL, *(line for line in lines if line.sequence is not None)]
    problem, notes = _judge_end(records, len(lines) + 1, head)
    problems = [*_judge_order(lines), *_reported(lines), *problem]
    notes += [f"line {line.number}: {line.message}" for line in lines if line.damage == _HARMLESS]
    rest = len(data) - end
    if rest > chain.MAX_LINE:
        what = f"it ends in {rest} bytes that are no record"
        problems.append(Problem(kind="foreign", line=len(lines) + 1, what=what))
    elif rest:
        notes.append(f"it ends in {rest} bytes of a record that was not finished")
    return VerifyResult(
        path=path,
        records=len(records) - 1,
        digest=records[-1].digest,
        problems=tuple(sorted(problems, key=lambda each: each.line)),
        notes=tuple(notes),
    )


def _read_all(data: bytes) -> Iterator[_Line]:
    end = 0
    for number, line in enumerate(data.split(b"\n")[:-1], 1):
        end += len(line) + 1
        yield _read(number, end, line + b"\n")


def _read(number: int, end: int, line: bytes) -> _Line:
    place = chain.place(line) if len(line) <= chain.MAX_LINE else None
    damage = message = ""
    try:
        record: Any = json.loads(line)
        if record["metadata"].get("event_code") == "log-damaged":
            damage, message = str(record["unmapped"]["damage"]), str(record["message"])
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        place = None
    return _Line(
        number=number,
        end=end,
        digest=chain.digest(line),
        sequence=place[0] if place else None,
        previous=place[1] if place else "",
        damage=damage,
        message=message,
    )


def _judge_order(lines: Sequence[_Line]) -> Iterator[Problem]:
    numbers = {line.sequence for line in lines}
    seen: dict[str, int] = {}
    before = _BEFORE_ALL
    accepted = {before.digest}
    for line in lines:
        at, number, expected = line.number, line.sequence, (before.sequence or 0) + 1
        first = seen.setdefault(line.digest, at)
        if number is None:
            yield Problem(kind="foreign", line=at, what="this is no record of nemoclaw's")
            # A writer that came later went on from it; who put it between two records did not.
            accepted.add(line.digest)
            continue
        if first != at:
            yield Problem(
                kind="repeated", line=at, what=f"record {number} again; it stands on line {first}"
            )
        elif number < expected:
            yield Problem(
                kind="moved", line=at, what=f"record {number} stands after record {expected - 1}"
            )
        elif number > expected:
            # Those that stand elsewhere in the file are told of where they stand.
            missing = [each for each in range(expected, number) if each not in numbers]
            if missing:
                what = f"before record {number}, {_named(missing)} missing"
                yield Problem(kind="missing", line=at, what=what)
        elif line.previous not in accepted:
            what = (
                f"record {number} does not follow record {before.sequence} as it is: one of the "
                "two was changed"
                if before.sequence
                else f"record {number} was changed: it says that there is one before it"
            )
            yield Problem(kind="changed", line=at, what=what)
        before, accepted = line, {line.digest}


def _judge_end(records: Sequence[_Line], at: int, head: bytes) -> tuple[list[Problem], list[str]]:
    """Problems and notes about the log's end, as it was noted in ``events.head``."""
    last = records[-1]
    number = last.sequence or 0
    noted = chain.parse_head(head)
    if noted is None:
        if not head and not number:
            return [], []
        what = f"{HEAD}, the note of the last record, is missing or damaged"
        return [Problem(kind="headless", line=at, what=what)], []
    if noted[0] > number:
        missing = range(number + 1, noted[0] + 1)
        what = f"at the end, {_named(missing)} missing"
        return [Problem(kind="missing", line=at, what=what)], []
    if noted[0] == number:
        if noted[1] == last.digest:
            return [], []
        what = f"record {number}, the last one, was changed"
        return [Problem(kind="changed", line=last.number, what=what)], []
    named = next((each for each in records if (each.sequence, each.digest) == noted), None)
    if named is not None and last.end - named.end <= chain.MAX_LINE:
        what = _named(range(noted[0] + 1, number + 1))
        return [], [
            f"{what} not noted in {HEAD}: a writer was killed, or somebody added to the log"
        ]
    what = f"{HEAD} is the note of record {noted[0]}, and the last one is record {number}"
    return [Problem(kind="headless", line=at, what=what)], []


def _reported(lines: Sequence[_Line]) -> Iterator[Problem]:
    for line in lines:
        if line.damage and line.damage != _HARMLESS:
            yield Problem(kind="reported", line=line.number, what=line.message)


def _named(numbers: Sequence[int]) -> str:
    if len(numbers) == 1:
        return f"record {numbers[0]} is"
    if numbers[-1] - numbers[0] == len(numbers) - 1:
        return f"records {numbers[0]} to {numbers[-1]} are"
    return f"{len(numbers)} records from {numbers[0]} to {numbers[-1]} are"
