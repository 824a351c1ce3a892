"""Network: UNIX sockets of the host, by abstract name and by path."""

from __future__ import annotations

import array
import os
import socket

from .inet import PATIENCE, greeting
from .registry import attempt
from .stage import Stage


def _connect(stage: Stage, address: str, kind: int = socket.SOCK_STREAM) -> str:
    connection = socket.socket(socket.AF_UNIX, kind)
    connection.settimeout(PATIENCE)
    connection.connect(address)
    return greeting(stage, connection)


def _ask(stage: Stage, address: str, *, by_message: bool = False) -> str:
    question = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    question.settimeout(PATIENCE)
    # The answer comes over a descriptor that travels along, so no address of ours is needed.
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
    rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [theirs.fileno()]))]
    if by_message:
        question.sendmsg([b"?"], rights, 0, address)
    else:
        question.connect(address)
        question.sendmsg([b"?"], rights)
    return greeting(stage, ours)


@attempt("network")
def connect_abstract(stage: Stage) -> str:
    """Connect to an abstract UNIX socket of the host."""
    return _connect(stage, "\0" + stage.fact("abstract"))


@attempt("network")
def send_abstract_datagram(stage: Stage) -> str:
    """Send to an abstract UNIX datagram socket of the host without connecting."""
    return _ask(stage, "\0" + stage.fact("abstract") + "-datagram", by_message=True)


@attempt("network")
def connect_path_in_home(stage: Stage) -> str:
    """Connect to a UNIX socket in the home directory."""
    return _connect(stage, f"{stage.home}/server.sock")


@attempt("network")
def send_path_datagram(stage: Stage) -> str:
    """Send to a UNIX datagram socket in the home directory without connecting."""
    return _ask(stage, f"{stage.home}/datagram.sock", by_message=True)


@attempt("network")
def connect_path_datagram(stage: Stage) -> str:
    """Connect to a UNIX datagram socket in the home directory."""
    return _ask(stage, f"{stage.home}/datagram.sock")


@attempt("network")
def connect_path_in_tmp(stage: Stage) -> str:
    """Connect to a UNIX socket in the host's /tmp."""
    return _connect(stage, stage.path("tmp_socket"))


@attempt("network")
def connect_path_in_run(stage: Stage) -> str:
    """Connect to a UNIX socket in the user's runtime directory, as D-Bus has one."""
    return _connect(stage, f"{stage.run}/bus")


@attempt("network")
def connect_path_by_link(stage: Stage) -> str:
    """Connect to a UNIX socket outside through a symbolic link in the work directory."""
    os.symlink(f"{stage.home}/server.sock", f"{stage.work}/{stage.name}")
    return _connect(stage, f"{stage.work}/{stage.name}")


@attempt("network")
def connect_path_by_proc(stage: Stage) -> str:
    """Connect to a UNIX socket outside through /proc and an inherited directory."""
    leaked = stage.fact("leaked")["directory"]
    return _connect(stage, f"/proc/self/fd/{leaked}/../server.sock")


@attempt("network")
def connect_path_read_only(stage: Stage) -> str:
    """Connect to a UNIX socket in a directory that is granted for reading."""
    return _connect(stage, f"{stage.home}/shared/server.sock")


@attempt("network")
def connect_path_in_work(stage: Stage) -> str:
    """Connect to a host program's UNIX socket in the work directory."""
    return _connect(stage, f"{stage.work}/server.sock")


@attempt("network")
def be_reached_by_name(stage: Stage) -> str:
    """Be reached by the host on an abstract UNIX socket."""
    listener = socket.socket(socket.AF_UNIX)
    listener.bind("\0" + stage.fact("abstract") + "-reach")
    listener.settimeout(PATIENCE)
    listener.listen()
    return greeting(stage, listener.accept()[0])
