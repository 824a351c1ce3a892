"""Processes: signals to processes of the host, by every call that can send one."""

from __future__ import annotations

import fcntl
import os
import signal
import socket
import struct

from .registry import Stopped, attempt
from .stage import Stage
from .system import syscall

_SIGNALLED = "changed {home}/targets/{name}/signalled"
"""A victim writes this file when it receives SIGURG, which nobody else's program minds."""


@attempt("processes", effect="victim")
def kill_host_process(stage: Stage) -> str:
    """Kill a host process of the same user."""
    os.kill(stage.victim, signal.SIGKILL)
    return "sent SIGKILL"


@attempt("processes", effect="victim")
def stop_host_process(stage: Stage) -> str:
    """Stop a host process of the same user."""
    os.kill(stage.victim, signal.SIGSTOP)
    return "sent SIGSTOP"


@attempt("processes", effect="victim")
def kill_by_pidfd(stage: Stage) -> str:
    """Kill a host process through a pidfd."""
    descriptor = syscall("pidfd_open", stage.victim, 0)
    syscall("pidfd_send_signal", descriptor, int(signal.SIGKILL), None, 0)
    return "sent SIGKILL"


@attempt("processes", effect=_SIGNALLED, victim=True)
def queue_signal(stage: Stage) -> str:
    """Queue a signal with forged sender information to a host process."""
    information = struct.pack("iii", signal.SIGURG, 0, -1) + bytes(116)
    syscall("rt_sigqueueinfo", stage.victim, int(signal.SIGURG), information)
    return "queued SIGURG"


@attempt("processes", effect=_SIGNALLED, victim=True)
def signal_by_socket_owner(stage: Stage) -> str:
    """Make the kernel send a signal: own a socket in the name of a host process."""
    ours, theirs = socket.socketpair()
    fcntl.fcntl(ours, fcntl.F_SETOWN, stage.victim)
    fcntl.fcntl(ours, 10, signal.SIGURG)  # F_SETSIG
    fcntl.fcntl(ours, fcntl.F_SETFL, fcntl.fcntl(ours, fcntl.F_GETFL) | os.O_ASYNC)
    theirs.send(b"x")
    return "sent SIGURG"


@attempt("processes", needs="user", effect=_SIGNALLED, victim=True, exclusive=True)
def signal_everybody(stage: Stage) -> str:
    """Signal every process that the user may signal."""
    # Only tried as an ordinary user: outside, root would reach every process of the machine.
    os.kill(-1, signal.SIGURG)
    return "sent SIGURG"


@attempt("processes", effect="changed {base}/sentinel-signalled")
def signal_own_group(stage: Stage) -> str:
    """Signal the process group, which the caller of nemoclaw is in as well."""
    signal.signal(signal.SIGURG, signal.SIG_IGN)
    os.kill(0, signal.SIGURG)
    return "sent SIGURG"


@attempt("processes", effect="changed {base}/sentinel-nice")
def renice_own_group(stage: Stage) -> str:
    """Change the priority of the process group, which the caller of nemoclaw is in as well."""
    os.setpriority(os.PRIO_PGRP, 0, 5)
    return "set it to 5"


@attempt("processes")
def signal_session_leader(stage: Stage) -> str:
    """Signal the leader of the session that the attempt runs in."""
    leader = os.getsid(0)
    if leader in (0, 1) or stage.ours(leader) or leader == stage.parent != stage.supervisor:
        raise Stopped(f"the leader is process {leader} of the sandbox")
    os.kill(leader, 0)
    return f"may signal {leader}"
