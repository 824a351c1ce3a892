"""`nemoclaw run --detach`: a supervisor of its own session, its output in the sandbox's folder."""

from __future__ import annotations

import os
import sys

from nemoclaw_hookspecs.errors import NemoclawError

from ..events.folder import OUTPUT
from ..state import ensure_private, state_dir

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import NoReturn


def run(name: str, supervise: Callable[[Callable[[], None]], int]) -> int:
    """Start a supervisor in the background; print the sandbox's name once the agent is running.

    :param supervise: what the supervisor does; calls its argument once the agent has started.
    :returns: 0, or the exit status of a start that failed.
    """
    ready, ready_held = os.pipe2(os.O_CLOEXEC)
    pid = os.fork()
    if pid == 0:
        os.close(ready)
        _background(name, ready_held, supervise)
    os.close(ready_held)
    with open(ready, "rb") as file:
        message = file.read()
    if message == b"started":
        print(name)
        return 0
    _, status = os.waitpid(pid, 0)
    sys.stderr.write(message.decode())
    return os.waitstatus_to_exitcode(status) or NemoclawError.exit_code


def _background(name: str, ready: int, supervise: Callable[[Callable[[], None]], int]) -> NoReturn:
    os.setsid()
    folder = ensure_private(os.path.join(ensure_private(state_dir()), name))
    flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW
    output = os.open(os.path.join(folder, OUTPUT), flags, 0o600)
    null = os.open(os.devnull, os.O_RDONLY)
    for target, source in ((0, null), (1, output), (2, output)):
        os.dup2(source, target)
    os.close(null)
    os.close(output)

    waited_for = True

    def started() -> None:
        nonlocal waited_for
        waited_for = False
        os.write(ready, b"started")
        os.close(ready)

    try:
        status = supervise(started)
    except NemoclawError as error:
        text = f"nemoclaw: {error}\n"
        if waited_for:
            # Not into the output: that may be another sandbox's, if the name was taken.
            os.write(ready, text.encode())
        else:
            sys.stderr.write(text)
        status = error.exit_code
    sys.stderr.flush()
    os._exit(status & 0xFF)
