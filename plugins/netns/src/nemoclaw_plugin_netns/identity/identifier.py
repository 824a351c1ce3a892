"""From a connection to the process that has it, and to what that process executes.

What an answer says: at the moment of the question, every process of the sandbox that had this very
socket in a descriptor table executed this file, and no descriptor was on its way to anybody else.

What it cannot say: that the program acts of its own will. Whoever may start an allowed program also
chooses its arguments, its environment (LD_PRELOAD) and its configuration, and a script is its
interpreter. Nor what comes later: a program may pass a connection on once it is open, so ask again
for each request that matters. The tables are read one after the other, not all at once: processes
that pass a descriptor around while they are read can, with luck, keep one of them out of sight.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from nemoclaw_hookspecs import Caller

from .digests import Unhashed, Version
from .executables import Executable, Executables
from .processes import Process, Processes
from .redirections import Redirections
from .sockets import Diagnostics
from .tables import Unsettled, holds, waiting_rights

if TYPE_CHECKING:
    from socket import socket

_PAUSES = (0.0, 0.0005, 0.002)
"""Seconds before an attempt. A process that is just being started cannot be looked at."""
_CHANGING = (Unsettled, ProcessLookupError, FileNotFoundError)
_DIGESTS = 3
"""Files whose digests are made for one answer: a process may have executed another meanwhile."""


class Identifier:
    """Tells who owns a TCP connection of one sandbox. For one thread at a time.

    It needs what the supervisor has: to be root, or the user who made the sandbox's user namespace
    (ptrace(2), access mode checking).

    :param diag: a NETLINK_SOCK_DIAG socket that was born in the sandbox's network namespace.
    :param init_pid: of the sandbox's init, as the supervisor sees it. Its descendants are all
        processes of the sandbox; it owns no connection itself.
    :param conntrack: a NETLINK_NETFILTER socket that was born there. Without one, or where the
        kernel does not answer it, a redirected connection is known by its socket only if no other
        one was connected to the same server from the same address.
    :raises OSError: there is no such process.
    """

    def __init__(self, diag: socket, init_pid: int, conntrack: socket | None = None) -> None:
        self._diagnostics = Diagnostics(diag)
        self._redirections = Redirections(conntrack) if conntrack is not None else None
        self._processes = Processes(init_pid)
        self._executables = Executables()

    def caller(
        self,
        accepted: tuple[Any, ...],
        peer: tuple[Any, ...],
        dialled: tuple[Any, ...] = (),
        *,
        digest: bool = True,
    ) -> Caller | None:
        """Who owns the connection at this moment: every process that has it executes this file.

        :param accepted: what an accepted socket calls itself, and
        :param peer: what it calls its peer.
        :param dialled: of a connection that was redirected: what its client has dialled
            (SO_ORIGINAL_DST).
        :param digest: also give the SHA-256 of the executable. The first time that takes 1 ms for
            each 1 to 2 MB of it.
        :returns: None if that cannot be told: the connection is closed, several programs share it,
            an executable is deleted or has no name, a process may not be looked at, or any process
            has a descriptor under way to another.
        """
        for pause in _PAUSES:
            if pause:
                time.sleep(pause)
            try:
                return self._identify(accepted, peer, dialled, digest, None)
            except _CHANGING:
                continue
            except OSError:
                return None
        return None

    async def look_up(
        self,
        accepted: tuple[Any, ...],
        peer: tuple[Any, ...],
        dialled: tuple[Any, ...] = (),
        *,
        digest: bool = True,
    ) -> Caller | None:
        """The same, without holding up the event loop while a digest is made.

        It is made of a file that is open, and counts if afterwards the connection is still owned
        by who executes that file.
        """
        made: dict[Version, str] = {}
        pauses = [*_PAUSES]
        while pauses:
            if pauses[0]:
                await asyncio.sleep(pauses[0])
            try:
                return self._identify(accepted, peer, dialled, digest, made)
            except Unhashed as unhashed:
                if len(made) == _DIGESTS:  # another file each time
                    os.close(unhashed.descriptor)
                    return None
                made[unhashed.version] = await self._executables.digests.make(unhashed)
                pauses = [*_PAUSES]
            except _CHANGING:
                del pauses[0]
            except OSError:
                return None
        return None

    def close(self) -> None:
        """Let go of every descriptor but the sockets that were given."""
        self._processes.close()
        self._executables.digests.close()

    def _socket(
        self, accepted: tuple[Any, ...], peer: tuple[Any, ...], dialled: tuple[Any, ...]
    ) -> int | None:
        """The inode of the client's socket."""
        if not dialled:
            return self._diagnostics.tcp(peer, accepted)
        if self._redirections is not None:
            try:
                ends = self._redirections.original(accepted, peer)
            except OSError:
                self._redirections = None  # this kernel does not tell
            else:
                if ends is None or ends[1] != tuple(dialled[:2]):
                    return None
                return self._diagnostics.tcp(*ends)
        return self._diagnostics.only(peer, dialled)

    def _identify(
        self,
        accepted: tuple[Any, ...],
        peer: tuple[Any, ...],
        dialled: tuple[Any, ...],
        digest: bool,
        made: Mapping[Version, str] | None,
    ) -> Caller | None:
        inode = self._socket(accepted, peer, dialled)
        if inode is None:
            return None
        tables = [
            (process, process.sockets(trust=self._processes.trust))
            for process in self._processes.refresh()
        ]
        owners = [(p, sockets[inode]) for p, sockets in tables if inode in sockets]
        if not owners:
            raise Unsettled  # It is on its way to someone.
        found = {self._executables.read(p.directory, _exe(link)) for p, link in owners}
        executable = found.pop()
        if executable is None or found:
            return None
        self._nothing_under_way(tables)
        owner, link = owners[0]
        sha256 = ""
        if digest:
            sha256 = self._executables.digest(owner.directory, _exe(link), executable, made)
        caller = Caller(
            pid=owner.pid,
            executable=executable.path,
            sha256=sha256,
            ancestors=tuple(self._ancestors(owner)),
        )
        self._still(owners, inode, executable)
        return caller

    def _nothing_under_way(self, tables: list[tuple[Process, dict[int, str]]]) -> None:
        """A socket that waits in a queue to be received has an owner whom no table shows.

        :raises Unsettled: some descriptor does, whatever it is of.
        """
        suspects = self._diagnostics.unix_with_mail()
        for process, sockets in tables:
            for inode in suspects & sockets.keys():
                if waiting_rights(process.directory, sockets[inode]):
                    raise Unsettled

    def _still(self, owners: list[tuple[Process, str]], inode: int, executable: Executable) -> None:
        for process, link in owners:
            if not holds(process.directory, link, inode):
                raise Unsettled
            if not self._executables.same(process.directory, _exe(link), executable):
                raise Unsettled

    def _ancestors(self, process: Process) -> list[str]:
        found = []
        while process.parent in self._processes:
            process = self._processes[process.parent]
            try:
                executable = self._executables.read(process.directory, "exe")
            except OSError:
                executable = None
            found.append(executable.path if executable is not None else "")
        return found


def _exe(link: str) -> str:
    """The executable's link of the thread that a descriptor's link is of: ``task/TID/exe``."""
    return "/".join((*link.split("/")[:2], "exe"))
