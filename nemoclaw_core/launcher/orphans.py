"""Ending what a sandbox without a PID namespace leaves behind.

With one, the kernel ends every process of the sandbox with its init. Without one, orphans of a
sandbox whose init has ended come to the launcher, which is their nearest subreaper (prctl(2)).

Whoever looks for them in proc(5), to end one after the other, runs after processes that fork and
exit all the time. kill(2) of all processes at once leaves no gap (fork(2) fails while a signal is
pending), but means all that the caller may signal. So before it seals itself, each init leaves an
*ender* behind in a Landlock domain that holds the sandbox alone: it can signal nothing outside
(scoped signals, Landlock ABI 6), and the sandbox, in a domain inside that one, cannot signal it.
"""

from __future__ import annotations

import _signal
import _socket
import os

from . import kernel, rights

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Collection

_SCOPE_SIGNAL = 2  # LANDLOCK_SCOPE_SIGNAL
_PATIENCE = 5.0
"""Seconds in which an ender has done its work, unless it was killed by hand."""


def leave_ender(leash: int) -> None:
    """Fork the ender of the sandbox that this process, its init, is about to become.

    :param leash: a socket. When its other end is closed, or shut down, the ender ends everything
        in the sandbox and then itself.

    Does nothing on a kernel whose Landlock cannot scope signals.
    """
    try:
        ruleset = rights.landlock_ruleset(0, 0, _SCOPE_SIGNAL)
    except OSError:
        os.close(leash)
        return
    kernel.prctl(kernel.PR_SET_NO_NEW_PRIVS, 1)
    rights.landlock_restrict_self(ruleset, 0)
    if os.fork() == 0:
        _wait_and_end(leash)
    # Into a domain of its own, so that nothing in it reaches the ender.
    rights.landlock_restrict_self(ruleset, 0)
    os.close(ruleset)
    os.close(leash)


def _wait_and_end(leash: int) -> None:
    try:
        kernel.close_range(3, leash - 1)
        kernel.close_range(leash + 1)
        os.setsid()
        os.read(leash, 1)
        os.kill(-1, _signal.SIGKILL)
    except ProcessLookupError:
        pass  # Nothing was left.
    finally:
        os._exit(0)


def end_at_once(leash: _socket.socket) -> None:
    """Have the ender at the other end do its work, and wait for it; then let go.

    When there is none, or it was killed, nothing is waited for.
    """
    leash.settimeout(_PATIENCE)
    try:
        leash.shutdown(_socket.SHUT_WR)
        leash.recv(1)
    except OSError:
        pass  # Its end is closed already, or it is stopped: then they are looked for.
    leash.close()


def end_orphans(known: Collection[int]) -> None:
    """Kill and reap every child that is not ``known``, until there is none left.

    The children of a child that ends become this process's own: they are met in the next round.
    """
    while strangers := [pid for pid in _children(os.getpid()) if pid not in known]:
        for pid in strangers:
            os.kill(pid, _signal.SIGKILL)  # Not reaped yet: the pid is still its own.
        for pid in strangers:
            os.waitpid(pid, 0)


def _children(parent: int) -> list[int]:
    found = []
    for name in os.listdir("/proc"):
        if not name.isdigit():
            continue
        try:
            with open(f"/proc/{name}/stat", "rb", buffering=0) as file:
                # After the name, which may hold anything: state, then the parent's pid.
                fields = file.read().rpartition(b")")[2].split()
        except OSError:
            continue  # It ended meanwhile.
        if len(fields) > 1 and int(fields[1]) == parent:
            found.append(int(name))
    return found
