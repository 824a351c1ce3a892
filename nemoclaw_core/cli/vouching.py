"""``nemoclaw policy trust``: the user vouches for a policy file, having seen all of it."""

from __future__ import annotations

import argparse
import os
import sys

from nemoclaw_hookspecs import UsageError

from ..events.text import printable


def main(options: argparse.Namespace) -> int:
    """Vouch for a file, or take that back. Exit status: 0; 1 when the user said no."""
    from ..workdir import current_dir

    file = options.file
    path = os.path.normpath(file if file.startswith("/") else os.path.join(current_dir(), file))
    return _forget(path) if options.forget else _trust(path, options)


def _trust(path: str, options: argparse.Namespace) -> int:
    from .. import trust
    from ..policy import files
    from ..policy.beyond import beyond
    from ..policy.check import read_shipped, read_source

    # Read once: what is shown, found valid and vouched for is the same, whatever an agent that is
    # running writes meanwhile.
    content, digest = files.read_file(path, os.geteuid(), names=False)
    shipped, _ = read_shipped()
    source = read_source(path, content, digest, shipped)
    if os.path.basename(path) != trust.FILE_NAME:
        raise UsageError(
            f"only a file called {trust.FILE_NAME} is used without being named",
            where=printable(path),
            remedy="name this one with --policy",
        )
    if options.digest is not None and options.digest.lower() != digest:
        raise UsageError(
            f"its content has another BLAKE2b-256 digest: {digest}",
            where=printable(path),
            remedy="look at what changed since you took the digest",
        )
    asks = not options.yes and options.digest is None
    if asks and not (sys.stdin and sys.stdin.isatty()):
        raise UsageError(
            "there is no terminal to ask whether this is what you mean",
            where=printable(path),
            remedy=f"look at the file, then give --digest {digest}, if that is still what "
            "`b2sum -l 256` says of it; or --yes",
        )
    print(f"{printable(path)}:")
    lines = content.decode("utf-8", "backslashreplace").removesuffix("\n").split("\n")
    for line in lines:
        print(f"  | {printable(line.expandtabs())}")
    # Last, and in nemoclaw's words: the end of the file may look like all of it.
    print(f"That is all of {len(lines)} lines. Its policies, when used in this directory:")
    for line in beyond(source, shipped):
        print(f"  {printable(line)}")
    if asks and not _confirmed():
        print("not trusted")
        return 1
    noted = trust.trust(path, digest)
    print(f"{printable(noted)}: trusted ({', '.join(source.document.policy) or 'no policy in it'})")
    print(f"  as long as its content has the BLAKE2b-256 digest {digest}")
    return 0


def _confirmed() -> bool:
    print("Shall this be used when it is found as ./policies.toml? [y/N] ", end="", flush=True)
    return sys.stdin.readline().strip().lower() in ("y", "yes")


def _forget(path: str) -> int:
    from .. import trust

    if not trust.forget(path):
        raise UsageError(
            "nothing is noted about it", where=printable(path), remedy="check the path"
        )
    print(f"{printable(path)}: forgotten")
    return 0
