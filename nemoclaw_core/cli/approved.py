"""``nemoclaw approve --for policy``: write a rule into the policy file, and put it in force.

Only from the operator's side, and only into a file that is the operator's own and that no agent may
have written: what is written is vouched for if what was there before was.
"""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from nemoclaw_hookspecs.errors import NemoclawError, UsageError

from .. import trust
from ..events.text import printable
from ..policy import files
from ..policy.locate import split_selector
from ..policy.replacing import replace
from ..policy.writing import add_rule
from ..state import ensure_private, runtime_dir
from ..supervisor import client
from ..written import Roots
from .ps import running
from .reload import put_in_force

if TYPE_CHECKING:
    from ..egress.questions import Question


def write_rule(name: str, question: Question) -> str:
    """Allow what a question is about by the policy that is in force in a sandbox.

    :returns: what was done, for people.
    :raises NemoclawError: it cannot be; then the file is as it was.
    """
    if question.asker != "policy":
        raise UsageError(
            f"the policy allows {question.what}; it is plugin {question.asker!r} that holds it",
            remedy="answer once, or for the sandbox: --for once, --for sandbox",
        )
    selector = str(client.request(name, {"request": "status"})["policy"])
    file, policy = split_selector(selector)
    if file is None:
        raise UsageError(f"the policy of {name} is in no file", remedy="answer --for sandbox")
    path = os.path.realpath(file)
    if path == os.path.realpath(files.SHIPPED):
        raise UsageError(
            "is the file that ships with nemoclaw, and the next version replaces it",
            where=path,
            remedy=f'write [policy.{policy}] with extends = ["{policy}"] into a policies.toml of '
            "your own, and start with that; or answer --for sandbox",
        )
    with _alone():
        return _write(name, file, path, policy, question)


def _write(name: str, file: str, path: str, policy: str, question: Question) -> str:
    content, digest = files.read_file(path, os.geteuid())
    reason = trust.verdict(file, digest)
    if reason is not None:
        raise UsageError(
            f"is not written to, since {printable(reason)}",
            where=printable(file),
            remedy="look at it, and vouch for it with `nemoclaw policy trust`; or answer --for "
            "sandbox",
        )
    vouched = trust.trusts(file, digest)
    comment = f"nemoclaw approve, {time.strftime('%Y-%m-%d')}"
    try:
        text = add_rule(content.decode(), policy, question.host, question.port, comment)
    except UsageError as error:
        raise UsageError(error.what, where=printable(path), remedy=error.remedy) from None
    in_place = _is_covered(file, path)
    new = replace(path, digest, text.encode(), in_place=in_place)
    try:
        if vouched:
            trust.trust(file, new)
        told = put_in_force(name, f"{file}:{policy}")
    except BaseException:
        replace(path, new, content, in_place=in_place)
        if vouched:
            trust.trust(file, digest)
        raise
    return f"{name}: {path} has a rule for {question.what}; {told}"


def _is_covered(file: str, path: str) -> bool:
    """Whether a sandbox may have the file covered in its view, or its directory in reach."""
    if os.geteuid() == 0 or Roots().around(path) is not None:
        return True  # root's files are used by others, too
    for status in running():
        request = {"request": "covers", "paths": [file, path]}
        try:
            if client.request(str(status["name"]), request)["covered"]:
                return True
        except NemoclawError:
            continue  # it has just ended
    return False


@contextmanager
def _alone() -> Iterator[None]:
    """No other ``approve`` of this user writes meanwhile."""
    lock = os.path.join(ensure_private(runtime_dir()), "policy-writing.lock")
    descriptor = os.open(lock, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)
