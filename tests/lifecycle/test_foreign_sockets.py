"""Programs of the host that listen in the work directory cannot be reached by their sockets.

Each attack is made in two runs, because between them everything that the first one has rearranged
is looked at anew: the agent prepares in the first and connects in the second. Outside, the same
connection is answered.
"""

from __future__ import annotations

import contextlib
import os
import resource
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

SERVER = """
import os, socket, sys
family, path, mark = socket.AF_UNIX, sys.argv[1], sys.argv[2]
server = socket.socket(family, getattr(socket, sys.argv[3]))
os.chdir(os.path.dirname(path))
server.bind(sys.argv[4] or path)
if sys.argv[3] != "SOCK_DGRAM":
    server.listen()
print("up", flush=True)
while True:
    if sys.argv[3] == "SOCK_DGRAM":
        data, address = server.recvmsg(16, 64)[:2]
        os.write(2, b"reached")
        continue
    peer = server.accept()[0]
    peer.sendall(b"HOST")
    peer.close()
"""
CLIENT = """
import os, socket, sys
peer = socket.socket(socket.AF_UNIX)
peer.settimeout(5)
folder, name = os.path.split(sys.argv[1])
os.chdir(folder)
peer.connect("./" + name)
print(peer.recv(4).decode())
"""
INSIDE = "/usr/bin/python3"


@contextlib.contextmanager
def serving(
    path: Path, *, kind: str = "SOCK_STREAM", bound: str = "", within: tuple[str, ...] = ()
) -> Iterator[subprocess.Popen[bytes]]:
    """A server of the host at ``path``.

    :param bound: the name that it binds, if that is another one.
    :param within: a command that starts it.
    """
    words = [*within, sys.executable, "-c", SERVER, str(path), "", kind, bound]
    process = subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert process.stdout is not None
    try:
        assert process.stdout.readline() == b"up\n"
        yield process
    finally:
        process.kill()
        process.communicate()


def answered(path: Path) -> bool:
    """Whether the server answers outside."""
    done = subprocess.run([sys.executable, "-c", CLIENT, str(path)], capture_output=True)
    return done.stdout == b"HOST\n"


def reached(cli: Any, path: Path | str) -> bool:
    """Whether it answers the agent of a new run. The run itself must work."""
    done = cli.sandbox("sh", "-c", f"echo ran; {INSIDE} -c '{CLIENT}' '{path}'")
    assert done.stdout.startswith(b"ran\n"), done.stderr
    return b"HOST" in done.stdout


def folder(cli: Any, name: str = "run") -> Path:
    found: Path = cli.work / name
    found.mkdir(parents=True)
    return found


def test_a_socket_is_covered(cli: Any) -> None:
    path = folder(cli) / "host.sock"
    with serving(path):
        assert answered(path)
        assert not reached(cli, path)


def test_moving_the_directory_does_not_uncover_it(cli: Any) -> None:
    path = folder(cli) / "host.sock"
    with serving(path):
        first = cli.sandbox("mv", "run", "run2")
        assert first.returncode != 0, "the directory of a covered socket is held in place"
        # What the agent could do before there was something in it to cover, or the user.
        (cli.work / "run").rename(cli.work / "run2")
        moved = cli.work / "run2/host.sock"
        assert answered(moved)
        assert not reached(cli, moved)


@pytest.mark.parametrize("attack", ["mv a b", "mv a/b b", "mv a/b/c b", "rm -rf a", "rmdir a/b/c"])
def test_the_directories_above_it_stay(cli: Any, attack: str) -> None:
    path = folder(cli, "a/b/c") / "host.sock"
    with serving(path):
        assert cli.sandbox("sh", "-c", attack).returncode != 0
        assert answered(path)


def test_a_hard_link_is_covered_too(cli: Any) -> None:
    path = folder(cli) / "host.sock"
    with serving(path):
        assert cli.sandbox("ln", "run/host.sock", "other.sock").returncode != 0
        os.link(path, cli.work / "other.sock")
        assert answered(cli.work / "other.sock")
        assert not reached(cli, cli.work / "other.sock")


def test_a_socket_bound_through_a_link_that_is_gone(cli: Any) -> None:
    path = folder(cli) / "host.sock"
    link = cli.work / "link"
    link.symlink_to("run")
    with serving(path, bound=str(link / "host.sock")):
        link.unlink()
        assert answered(path)
        assert not reached(cli, path)


@pytest.mark.parametrize("name", ["host.sock", "new\nline", "re\rturn", "sp ace", "\udcff\udc80"])
def test_a_socket_bound_by_a_relative_path(cli: Any, name: str) -> None:
    path = folder(cli) / name
    with serving(path, bound=name):
        assert answered(path)
        assert not reached(cli, os.path.join(cli.work, "run", name))


def test_a_server_in_another_network_namespace(cli: Any) -> None:
    """As one in a container that the project is mounted into."""
    if shutil.which("unshare") is None:
        pytest.skip("unshare is missing: apt-get install util-linux")
    path = folder(cli) / "host.sock"
    own = ("--net",) if os.getuid() == 0 else ("--user", "--net")
    with serving(path, within=("unshare", *own)):
        assert answered(path)
        assert not reached(cli, path)


def test_datagrams_are_kept_from_it_and_looking_for_it_sends_none(cli: Any) -> None:
    path = folder(cli) / "host.sock"
    send = 'import socket, sys; socket.socket(1, 2).sendto(b"x", sys.argv[1])'
    with serving(path, kind="SOCK_DGRAM", bound="host.sock") as process:
        inside = cli.sandbox(INSIDE, "-c", send, "run/host.sock")
        assert inside.returncode == 1, inside.stderr
        time.sleep(0.2)
        process.kill()
        assert process.communicate()[1] == b""
    path.unlink()
    with serving(path, kind="SOCK_DGRAM", bound="host.sock") as process:
        subprocess.run([sys.executable, "-c", send, str(path)], check=True)
        time.sleep(0.2)
        process.kill()
        assert process.communicate()[1].startswith(b"reached")


def test_looking_for_it_does_not_connect(cli: Any) -> None:
    """The kinds that have connections: the server never sees one."""
    for kind in ("SOCK_STREAM", "SOCK_SEQPACKET"):
        with socket.socket(socket.AF_UNIX, getattr(socket, kind)) as server:
            path = cli.work / kind
            server.bind(str(path))
            server.listen()
            server.setblocking(False)
            assert cli.sandbox("true").returncode == 0
            with pytest.raises(BlockingIOError):
                server.accept()


def test_a_socket_that_nobody_serves_is_left_alone(cli: Any) -> None:
    """A program that finds its own old socket removes it and binds anew."""
    path = folder(cli) / "host.sock"
    with serving(path):
        pass
    assert path.is_socket()
    assert cli.sandbox("rm", "run/host.sock").returncode == 0
    assert not path.exists()


def test_a_directory_that_cannot_be_looked_into_is_hidden(cli: Any, caller: Any) -> None:
    """An agent can take the right to list from its user, and give itself the right to enter."""
    hidden = folder(cli, "hidden")
    with serving(hidden / "host.sock"):
        hidden.chmod(0o311)
        assert answered(hidden / "host.sock")
        assert not reached(cli, hidden / "host.sock")
        hidden.chmod(0o000)
        done = cli.sandbox("sh", "-c", f"chmod 700 hidden; {INSIDE} -c '{CLIENT}' hidden/host.sock")
        assert b"HOST" not in done.stdout
        hidden.chmod(0o700)


def test_a_directory_that_is_too_deep_is_hidden(cli: Any) -> None:
    """Longer than any path that the kernel takes at once."""
    with serving(cli.work / "host.sock"):
        deep = os.open(cli.work, os.O_PATH)
        steps = 40
        for _ in range(steps):
            os.mkdir("d" * 100, dir_fd=deep)
            inner = os.open("d" * 100, os.O_PATH, dir_fd=deep)
            os.close(deep)
            deep = inner
        top = os.open(cli.work, os.O_RDONLY)
        os.link("host.sock", "other.sock", src_dir_fd=top, dst_dir_fd=deep)
        os.close(top)
        os.close(deep)
        client = f"import os\nfor _ in range({steps}): os.chdir(100 * 'd')\n" + CLIENT.replace(
            "os.chdir(folder)", ""
        )
        mine = cli.home / "mine.toml"
        mine.write_text(
            'version = 1\n[policy.default]\nextends = ["base"]\n'
            '[policy.default.filesystem]\nwrite = ["{workdir}"]\n'
        )
        outside = subprocess.run(
            [sys.executable, "-c", client, "other.sock"], cwd=cli.work, capture_output=True
        )
        assert outside.stdout == b"HOST\n", outside.stderr
        done = cli.run(
            "run", "-p", str(mine), "--", "sh", "-c", f'echo ran; {INSIDE} -c "$0" other.sock',
            client,
        )  # fmt: skip
        assert done.stdout == b"ran\n", done.stderr


def test_a_later_policy_that_only_reads_does_not_show_it(cli: Any) -> None:
    """An agent may have moved it when it could still write there."""
    path = folder(cli) / "host.sock"
    assert cli.sandbox("true").returncode == 0
    (cli.home / "elsewhere").mkdir()
    mine = cli.home / "mine.toml"
    mine.write_text(
        'version = 1\n[policy.default]\nextends = ["base"]\n'
        f'[policy.default.filesystem]\nread = ["{cli.work}"]\nwrite = ["{{workdir}}"]\n'
    )
    with serving(path, bound="host.sock"):
        done = cli.run(
            "run", "-p", str(mine), "--", "sh", "-c",
            f"test -S {path} && echo socket; echo ran; {INSIDE} -c '{CLIENT}' {path}",
            cwd=cli.home / "elsewhere",
        )  # fmt: skip
        assert done.stdout == b"ran\n", done.stderr


def test_a_policy_shows_one_by_its_name(cli: Any) -> None:
    path = folder(cli) / "host.sock"
    mine = cli.home / "mine.toml"
    mine.write_text(
        'version = 1\n[policy.default]\nextends = ["default"]\n'
        '[policy.default.filesystem]\nwrite = ["{workdir}/run/host.sock"]\n'
    )
    with serving(path):
        path.chmod(0o666)
        os.link(path, cli.work / "other.sock")
        script = f"{INSIDE} -c '{CLIENT}' run/host.sock; {INSIDE} -c '{CLIENT}' ./other.sock"
        done = cli.run("run", "-p", str(mine), "--", "sh", "-c", script)
        assert done.stdout == b"HOST\n", done.stderr
        assert b"Traceback" in done.stderr


def test_too_many_of_them_stop_the_start(cli: Any) -> None:
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (4096, before[1]))
    held = []
    crowd = folder(cli, "c")
    for number in range(1100):
        held.append(socket.socket(socket.AF_UNIX))
        held[-1].bind(f"{crowd}/{number}")
    done = cli.sandbox("true")
    for each in held:
        each.close()
    resource.setrlimit(resource.RLIMIT_NOFILE, before)
    assert done.returncode == 125
    assert str(crowd).encode() in done.stderr
    assert b"Traceback" not in done.stderr
