"""``nemoclaw logs``: what a sandbox's log says, and whether it is whole."""

from __future__ import annotations

import argparse
import codecs
import json
import os
import sys
import time
from collections.abc import Iterator

import attrs
from nemoclaw_hookspecs.errors import EventLogError, UsageError

from ..events import archive, human, locks
from ..events.folder import LOG, OUTPUT, open_file, open_folder
from ..events.text import printable
from ..events.verify import VerifyResult, verify
from ..names import check_name
from .arguments import Parser

_PAUSE = 0.1
_SHOWN = 20
"""Problems of one log that are printed for a person."""


def main(argv: list[str]) -> int:
    """Show, follow, check or remove logs.

    :returns: 1 if a log that was checked is not whole, if something among the logs is none, or if
        the log to be removed stays.
    """
    given = _parser().parse_args(argv)
    if given.prune is not None:
        return _prune(given.prune, given.sandbox)
    if given.sandbox is None:
        if given.follow or given.output:
            raise UsageError("name a sandbox", remedy="`nemoclaw logs` lists those with a log")
        return _every(given)
    folder, path = _open_folder(check_name(given.sandbox))
    try:
        if given.verify:
            return _verify([f"{path}/{LOG}"], given.json)
        if given.output:
            _show_output(folder, path, given.follow)
        else:
            _show_events(folder, path, given.follow, given.json)
    finally:
        os.close(folder)
    return 0


def _every(given: argparse.Namespace) -> int:
    """List or check every log, and tell of what lies among them and is none."""
    strays: list[EventLogError] = []
    found = archive.entries(strays=strays)
    status = 0
    if given.verify:
        # Those that are gone, too: that is damage, and told with the others.
        lost = [str(stray.where) for stray in strays if isinstance(stray, archive.LostLog)]
        strays = [stray for stray in strays if not isinstance(stray, archive.LostLog)]
        status = _verify([*(entry.path for entry in found), *lost], given.json)
    else:
        _list(found, given.json)
    sys.stdout.flush()
    for stray in strays:
        sys.stderr.write(f"nemoclaw: {stray}\n")
    return 1 if strays else status


def _parser() -> Parser:
    parser = Parser(
        "nemoclaw logs",
        description="Show a sandbox's events. Without a name, list the sandboxes that have a log, "
        "the one written last first.",
    )
    parser.add_argument("sandbox", nargs="?")
    parser.add_argument(
        "-f", "--follow", action="store_true", help="go on until the sandbox has ended"
    )
    parser.add_argument("--json", action="store_true", help="records as they are, one a line")
    kind = parser.add_mutually_exclusive_group()
    kind.add_argument(
        "--verify", action="store_true", help="check the hash chain; without a name, of every log"
    )
    kind.add_argument(
        "--output", action="store_true", help="show what a detached sandbox printed, instead"
    )
    kind.add_argument(
        "--prune",
        type=_days,
        metavar="DAYS",
        help="remove the logs of sandboxes (with a name, of that one) that ended, and wrote "
        "nothing for DAYS",
    )
    return parser


def _days(text: str) -> float:
    try:
        days = float(text)
    except ValueError:
        days = -1.0
    if not 0 <= days < 1e6:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of days")
    return days


def _open_folder(name: str) -> tuple[int, str]:
    try:
        return open_folder(name)
    except FileNotFoundError:
        raise _unknown(name) from None


def _unknown(name: str) -> UsageError:
    return UsageError(
        f"there is no log of a sandbox {name!r}", remedy="`nemoclaw logs` lists those that have one"
    )


def _open_log(folder: int, path: str) -> int:
    try:
        return open_file(folder, LOG, os.O_RDONLY, f"{path}/{LOG}")
    except FileNotFoundError:
        raise _unknown(os.path.basename(path)) from None


def _list(found: list[archive.Entry], as_json: bool) -> int:
    if as_json:
        for entry in found:
            print(json.dumps(attrs.asdict(entry)))
        return 0
    rows = [("NAME", "LAST EVENT", "EVENTS", "STATE")]
    for entry in found:
        when = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(entry.modified))
        state = "running" if entry.running else "ended"
        rows.append((entry.name, when, str(entry.records), state))
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        print(
            "  ".join(f"{cell:<{width}}" for cell, width in zip(row, widths, strict=True)).rstrip()
        )
    return 0


def _show_events(folder: int, path: str, follow: bool, as_json: bool) -> None:
    log = _open_log(folder, path)
    colour = human.wants_colour(sys.stdout)
    try:
        rest = b""
        for part in _tail(log, log, follow):
            *lines, rest = (rest + part).split(b"\n")
            for line in lines:
                if as_json:
                    sys.stdout.buffer.write(line + b"\n")
                else:
                    print(human.one_line(_decoded(line), colour=colour))
    finally:
        os.close(log)


def _decoded(line: bytes) -> object:
    try:
        value: object = json.loads(line)
    except (ValueError, RecursionError):
        return line.decode("utf-8", "backslashreplace")
    return value


def _show_output(folder: int, path: str, follow: bool) -> None:
    try:
        output = open_file(folder, OUTPUT, os.O_RDONLY, f"{path}/{OUTPUT}")
    except FileNotFoundError:
        raise UsageError(
            f"{os.path.basename(path)} printed to its caller: there is no {OUTPUT}",
            remedy="`nemoclaw run --detach` keeps what the command prints",
        ) from None
    log = -1
    try:
        if follow:
            log = _open_log(folder, path)
        # On a terminal, the agent's text must not be obeyed; elsewhere it must not be changed.
        decoder = codecs.getincrementaldecoder("utf-8")("backslashreplace")
        shown = sys.stdout.isatty()
        for part in _tail(output, log, follow):
            if shown:
                sys.stdout.write("\n".join(map(_line, decoder.decode(part).split("\n"))))
            else:
                sys.stdout.buffer.write(part)
    finally:
        os.close(output)
        if log >= 0:
            os.close(log)


def _line(text: str) -> str:
    return "\t".join(map(printable, text.removesuffix("\r").split("\t")))


def _tail(file: int, log: int, follow: bool) -> Iterator[bytes]:
    """What is in ``file``, and what comes until nobody writes the log any more."""
    while True:
        # Asked before reading: what is written before the end is read after it.
        more = follow and locks.is_opened(log)
        while part := os.read(file, 1 << 16):
            yield part
        if not more:
            return
        sys.stdout.flush()
        time.sleep(_PAUSE)


def _verify(paths: list[str], as_json: bool) -> int:
    whole = True
    for path in paths:
        name = os.path.basename(os.path.dirname(path))
        try:
            result = verify(path)
        except FileNotFoundError:
            raise _unknown(name) from None
        whole = whole and result.ok
        if as_json:
            print(json.dumps({"sandbox": name, "ok": result.ok, **attrs.asdict(result)}))
        else:
            _tell(name, result)
    return 0 if whole else 1


def _tell(name: str, result: VerifyResult) -> None:
    count = f"{result.records} record{'' if result.records == 1 else 's'}"
    if result.ok:
        print(f"{name}: {count}, whole and in order; digest of the last: {result.digest}")
    else:
        print(f"{name}: NOT as it was written ({count}, {result.path})")
    for problem in result.problems[:_SHOWN]:
        print(f"  {printable(str(problem))}")
    if len(result.problems) > _SHOWN:
        print(f"  and {len(result.problems) - _SHOWN} more")
    for note in result.notes:
        print(f"  note: {printable(note)}")


def _prune(days: float, sandbox: str | None) -> int:
    if sandbox is not None:
        os.close(_open_folder(check_name(sandbox))[0])  # It is said when there is none.
    removed = []
    told = False
    for name, kept in archive.prune(days, name=sandbox):
        if kept:
            told = True
            sys.stderr.write(f"nemoclaw: {name} stays: {kept}\n")
        else:
            removed.append(name)
            print(name)
    if sandbox is None or removed:
        return 0
    if not told:
        sys.stderr.write(f"nemoclaw: {sandbox} stays: it runs, or wrote within {days:g} days\n")
    return 1
