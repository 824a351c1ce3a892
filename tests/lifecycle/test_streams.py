"""Standard streams: byte-exact, ended when they end, and no way out."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path
from typing import Any


def test_streams_are_byte_exact(cli: Any) -> None:
    data = os.urandom(3_000_000)
    assert cli.sandbox("cat", input=data).stdout == data


def test_errors_and_output_are_not_mixed(cli: Any) -> None:
    done = cli.sandbox("sh", "-c", "echo out; echo err >&2")
    assert (done.stdout, done.stderr) == (b"out\n", b"err\n")


def test_nemoclaw_itself_prints_nothing(cli: Any) -> None:
    done = cli.sandbox("true")
    assert (done.stdout, done.stderr) == (b"", b"")


def test_the_reader_sees_the_agent_close_its_output(cli: Any) -> None:
    process = cli.start(
        "run", "--", "sh", "-c", "echo last; exec >&- 2>&-; sleep 30", stdout=subprocess.PIPE
    )
    assert process.stdout.read() == b"last\n"
    assert process.poll() is None


def test_the_writer_sees_the_agent_end(cli: Any) -> None:
    process = cli.start(
        "run", "--", "head", "-c", "10", stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    try:
        while True:
            process.stdin.write(b"x" * 65536)
            process.stdin.flush()
    except BrokenPipeError:
        pass
    assert process.stdout.read() == b"x" * 10
    assert process.wait(10) == 0


def test_an_agent_whose_reader_is_gone_gets_sigpipe(cli: Any) -> None:
    process = cli.start("run", "--", "yes", stdout=subprocess.PIPE)
    assert process.stdout.read(2) == b"y\n"
    process.stdout.close()
    assert process.wait(10) == -13


def test_a_directory_as_standard_stream_is_refused(cli: Any, tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("secret")
    descriptor = os.open(tmp_path, os.O_RDONLY)
    read = ["perl", "-e", "chdir STDOUT or die; open F, 'secret' or die; print STDERR <F>"]
    outside = subprocess.run(read, stdout=descriptor, stderr=subprocess.PIPE, check=False)
    assert outside.stderr == b"secret"
    process = cli.start("run", "--", *read, stdout=descriptor, stderr=subprocess.PIPE)
    _, errors = process.communicate(timeout=30)
    os.close(descriptor)
    assert process.returncode != 0
    assert errors != b"secret"


def test_a_closed_standard_stream_does_not_become_something_else(cli: Any) -> None:
    show = "print STDERR readlink '/proc/self/fd/1'"
    done = cli.sandbox("perl", "-e", show, preexec_fn=lambda: os.close(1))
    assert done.stderr == b"/dev/null"


def test_no_other_descriptor_is_inherited(cli: Any, tmp_path: Path) -> None:
    descriptor = os.open(tmp_path, os.O_RDONLY)
    os.set_inheritable(descriptor, True)
    show = ["sh", "-c", "ls /proc/$$/fd"]
    outside = subprocess.run(show, pass_fds=(descriptor,), capture_output=True, check=True)
    assert str(descriptor) in outside.stdout.decode().split()
    done = cli.sandbox(*show, pass_fds=(descriptor,))
    assert done.stdout.decode().split() == ["0", "1", "2"]
    os.close(descriptor)


def test_the_environment_is_the_policys(cli: Any) -> None:
    done = cli.sandbox("env", env={"SECRET_TOKEN": "hunter2", "LANG": "de_DE.UTF-8"})
    variables = dict(line.split("=", 1) for line in done.stdout.decode().splitlines())
    assert variables["LANG"] == "de_DE.UTF-8"
    assert variables["HOME"] == str(cli.home)
    assert variables["NEMOCLAW_SANDBOX"]
    assert "SECRET_TOKEN" not in variables
    assert not any(name.startswith("XDG_") for name in variables)
    done = cli.run("run", "--env", "MODE=test", "--", "sh", "-c", "echo $MODE")
    assert done.stdout == b"test\n"
