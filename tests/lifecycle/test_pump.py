"""Standard streams that are files of the host: their bytes reach the agent, the files do not."""

from __future__ import annotations

import os
import resource
import shlex
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest

_CHMOD = ("perl", "-e", "chmod 0777, \\*STDIN, \\*STDOUT or die; print 'done'")


def _run(cli: Any, *argv: str, timeout: float = 20, **options: Any) -> int:
    return int(cli.start("run", "--", *argv, **options).wait(timeout))


def _open(path: Path, flags: int) -> int:
    return os.open(path, flags | os.O_CREAT | os.O_CLOEXEC, 0o600)


def test_large_files_are_copied_byte_for_byte(cli: Any, tmp_path: Path) -> None:
    data = os.urandom(5_000_000)
    (tmp_path / "in").write_bytes(data)
    with open(tmp_path / "in", "rb") as given, open(tmp_path / "out", "wb") as taken:
        assert _run(cli, "cat", stdin=given, stdout=taken) == 0
    assert (tmp_path / "out").read_bytes() == data


def test_output_and_errors_in_one_file_keep_their_order(cli: Any, tmp_path: Path) -> None:
    script = "i=0; while [ $i -lt 200 ]; do echo $i; echo $i >&2; i=$((i+1)); done"
    with open(tmp_path / "out", "wb") as taken:
        assert _run(cli, "sh", "-c", script, stdout=taken, stderr=subprocess.STDOUT) == 0
    assert (tmp_path / "out").read_text() == "".join(f"{i}\n{i}\n" for i in range(200))


def test_output_and_errors_in_two_files_are_kept_apart(cli: Any, tmp_path: Path) -> None:
    with open(tmp_path / "out", "wb") as out, open(tmp_path / "err", "wb") as err:
        assert _run(cli, "sh", "-c", "echo out; echo err >&2", stdout=out, stderr=err) == 0
    assert (tmp_path / "out").read_text() == "out\n"
    assert (tmp_path / "err").read_text() == "err\n"


def test_what_is_appended_lands_behind_what_others_appended(cli: Any, tmp_path: Path) -> None:
    path = tmp_path / "out"
    path.write_text("before\n")
    with open(path, "ab") as taken:
        process = cli.start(
            "run", "--", "sh", "-c", "read x; echo agent", stdin=subprocess.PIPE, stdout=taken
        )
        with open(path, "ab") as other:
            other.write(b"other\n")
        process.communicate(b"go\n", timeout=20)
    assert path.read_text() == "before\nother\nagent\n"


def test_writing_begins_where_the_caller_stood(cli: Any, tmp_path: Path) -> None:
    path = tmp_path / "out"
    path.write_text("0123456789")
    descriptor = os.open(path, os.O_WRONLY)
    os.lseek(descriptor, 4, os.SEEK_SET)
    assert _run(cli, "printf", "ab", stdout=descriptor) == 0
    assert os.lseek(descriptor, 0, os.SEEK_CUR) == 6
    os.close(descriptor)
    assert path.read_text() == "0123ab6789"


@pytest.mark.parametrize("kind", ["file", "pipe"])
def test_dev_stdout_and_dev_stderr_can_be_opened(cli: Any, tmp_path: Path, kind: str) -> None:
    script = "echo one > /dev/stderr; echo two | tee /dev/stdout; cat /dev/stdin"
    if kind == "pipe":
        done = cli.sandbox("sh", "-c", script, input=b"three\n")
        out, err = done.stdout, done.stderr
    else:
        (tmp_path / "in").write_text("three\n")
        given, taken, errors = (tmp_path / name for name in ("in", "out", "err"))
        with open(given, "rb") as stdin, open(taken, "wb") as stdout, open(errors, "wb") as stderr:
            argv = ("sh", "-c", script)
            assert _run(cli, *argv, stdin=stdin, stdout=stdout, stderr=stderr) == 0
        out, err = taken.read_bytes(), errors.read_bytes()
    assert (out, err) == (b"two\ntwo\nthree\n", b"one\n")


def test_the_agent_cannot_change_the_files(cli: Any, tmp_path: Path) -> None:
    def attempt(*prefix: str) -> tuple[list[int], str]:
        given, taken = tmp_path / "in", tmp_path / "out"
        descriptors = [_open(given, os.O_RDONLY), _open(taken, os.O_WRONLY | os.O_TRUNC)]
        subprocess.run([*prefix, *_CHMOD], stdin=descriptors[0], stdout=descriptors[1], check=True)
        modes = [os.fstat(descriptor).st_mode & 0o777 for descriptor in descriptors]
        for descriptor in descriptors:
            os.fchmod(descriptor, 0o600)
            os.close(descriptor)
        return modes, taken.read_text()

    assert attempt() == ([0o777, 0o777], "done")
    (tmp_path / "out").unlink()
    given, taken = _open(tmp_path / "in", os.O_RDONLY), _open(tmp_path / "out", os.O_WRONLY)
    assert _run(cli, *_CHMOD, stdin=given, stdout=taken) == 0
    assert [os.fstat(each).st_mode & 0o777 for each in (given, taken)] == [0o600, 0o600]
    assert (tmp_path / "out").read_text() == "done"
    os.close(given)
    os.close(taken)


def test_a_file_is_no_way_to_more_than_its_bytes(cli: Any, tmp_path: Path) -> None:
    path = tmp_path / "in"
    path.write_text("kept")
    for script in ("echo planted > /proc/self/fd/0", "truncate -s 0 /dev/stdin"):
        with open(path, "rb") as given:
            _run(cli, "sh", "-c", script, stdin=given)
        assert path.read_text() == "kept"


def test_input_that_is_not_read_does_not_hold_anything_up(cli: Any, tmp_path: Path) -> None:
    (tmp_path / "in").write_bytes(b"x" * 5_000_000)
    with open(tmp_path / "in", "rb") as given:
        assert _run(cli, "true", stdin=given) == 0
        assert os.lseek(given.fileno(), 0, os.SEEK_CUR) == 0
        assert _run(cli, "sh", "-c", "exec <&-; sleep 0.2; echo on", stdin=given) == 0
        assert os.lseek(given.fileno(), 0, os.SEEK_CUR) == 0


@pytest.mark.parametrize("size", [4, 5_000_000])
def test_what_the_agent_leaves_is_there_for_the_next_reader(
    cli: Any, tmp_path: Path, size: int
) -> None:
    (tmp_path / "in").write_bytes(b"one\n" + b"x" * size)
    with open(tmp_path / "in", "rb") as given:
        argv = ("sh", "-c", "read line; echo $line")
        process = cli.start("run", "--", *argv, stdin=given, stdout=subprocess.PIPE)
        assert process.communicate(timeout=20)[0] == b"one\n"
        rest = os.read(given.fileno(), size + 4)
    assert rest == b"x" * size


def test_a_loop_over_a_file_sees_every_line(cli: Any, tmp_path: Path) -> None:
    (tmp_path / "list").write_text("a\nb\nc\n")
    script = (
        f"while read -r each; do {shlex.join(cli.program)} run -- echo $each; done"
        f" < {tmp_path}/list"
    )
    done = subprocess.run(
        ["sh", "-c", script],
        cwd=cli.work,
        env=cli.environment,
        stdout=subprocess.PIPE,
        timeout=30,
        check=True,
    )
    assert done.stdout == b"a\nb\nc\n"


def test_a_named_pipe(cli: Any, tmp_path: Path) -> None:
    data = os.urandom(300_000)
    os.mkfifo(tmp_path / "fifo", 0o600)
    (tmp_path / "data").write_bytes(data)
    writer = subprocess.Popen(["sh", "-c", "exec cat data > fifo"], cwd=tmp_path)
    argv = ("perl", "-e", "chmod 0777, \\*STDIN; exec 'cat'")
    with open(tmp_path / "fifo", "rb", buffering=0) as given:
        process = cli.start("run", "--", *argv, stdin=given, stdout=subprocess.PIPE)
    assert process.communicate(timeout=20)[0] == data
    assert writer.wait(10) == 0
    assert (tmp_path / "fifo").stat().st_mode & 0o777 == 0o600


def test_a_child_left_behind_is_not_waited_for(cli: Any, tmp_path: Path) -> None:
    script = "(while :; do echo x; sleep 0.01; done) & sleep 0.3; echo main"
    began = time.monotonic()
    with open(tmp_path / "out", "wb") as taken:
        assert _run(cli, "sh", "-c", script, stdout=taken, timeout=10) == 0
    assert time.monotonic() - began < 8
    lines = (tmp_path / "out").read_text().split()
    assert "main" in lines
    assert "x" in lines


def test_everything_written_before_the_end_arrives(cli: Any, tmp_path: Path) -> None:
    with open(tmp_path / "out", "wb") as taken:
        assert _run(cli, "sh", "-c", "head -c 60000 /dev/zero; exit 3", stdout=taken) == 3
    assert (tmp_path / "out").stat().st_size == 60_000


def test_a_slow_reader_gets_everything(cli: Any) -> None:
    process = cli.start("run", "--", "head", "-c", "200000", "/dev/zero", stdout=subprocess.PIPE)
    time.sleep(1)
    assert len(process.stdout.read()) == 200_000
    assert process.wait(10) == 0


def test_a_reader_who_does_not_read_holds_up_no_timeout(cli: Any) -> None:
    process = cli.start("run", "--timeout", "500ms", "--", "yes", stdout=subprocess.PIPE)
    assert process.wait(10) == 124


def test_a_full_disk_is_told(cli: Any, tmp_path: Path) -> None:
    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, resource.RLIM_INFINITY))

    argv = ("head", "-c", "3000000", "/dev/zero")
    with open(tmp_path / "out", "wb") as taken:
        process = cli.start(
            "run", "--", *argv, stdout=taken, stderr=subprocess.PIPE, preexec_fn=limit
        )
        _, errors = process.communicate(timeout=20)
    assert process.returncode == 125
    assert b"standard output: File too large" in errors
    assert (tmp_path / "out").stat().st_size == 1 << 20


# An ordinary user's pipes belong to the agent's own id; test_streams_of_users.py is about those.
@pytest.mark.parametrize("caller", ["root"], indirect=True)
def test_the_agent_does_not_get_roots_pipe(cli: Any) -> None:
    reading, writing = os.pipe()
    show = ("perl", "-e", "print join ' ', (stat STDIN)[1, 4]")
    os.write(writing, b"x")
    os.close(writing)
    done = cli.sandbox(*show, stdin=reading)
    inode, owner = done.stdout.split()
    assert int(inode) != os.fstat(reading).st_ino
    assert int(owner) == 65532
    os.close(reading)
