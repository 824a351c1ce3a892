"""Programs that agents run go on working under the filter."""

from __future__ import annotations

import os
import select
import shutil
import socket
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from nemoclaw_hookspecs import Host, Policy
from nemoclaw_plugin_seccomp.problems import NAMES
from nemoclaw_plugin_seccomp.profiles import STARTING

if TYPE_CHECKING:
    from collections.abc import Callable

    Compile = Callable[[Policy, Host], bytes]
    Sealed = Callable[..., str]

PYTHON = """
import asyncio, multiprocessing, os, resource, sqlite3, subprocess, tempfile, threading
square = lambda x: x * x
with multiprocessing.Pool(2) as pool:
    assert pool.map(abs, [-1, -2]) == [1, 2]
queue = multiprocessing.Queue(); queue.put(1); assert queue.get() == 1
lock = multiprocessing.Semaphore(1)
with lock: pass
assert subprocess.check_output(["echo", "x"]) == b"x\\n"
thread = threading.Thread(target=os.getpid); thread.start(); thread.join()
async def child():
    process = await asyncio.create_subprocess_exec("true")
    return await process.wait()
assert asyncio.run(child()) == 0
resource.getrlimit(resource.RLIMIT_NOFILE)
with tempfile.TemporaryFile() as file: file.write(b"x")
base = sqlite3.connect("python.db"); base.execute("create table t(a)"); base.commit()
print("works")
"""

NODE = """
const { execFileSync, spawn } = require('child_process');
const { Worker } = require('worker_threads');
execFileSync('true'); require('os').networkInterfaces(); require('fs').watch('.').close();
const server = require('http').createServer((q, a) => a.end('works')).listen(0, '127.0.0.1', () =>
  require('http').get({ port: server.address().port, host: '127.0.0.1' }, reply => {
    reply.pipe(process.stdout); reply.on('end', () => server.close()); }));
new Worker('1', { eval: true });
"""

GO = """
package main
import ("fmt"; "net"; "os/exec")
func main() {
  listener, err := net.Listen("tcp", "127.0.0.1:0")
  if err != nil { panic(err) }
  listener.Close()
  out, err := exec.Command("echo", "works").Output()
  if err != nil { panic(err) }
  fmt.Print(string(out))
}
"""

PROGRAMS: dict[str, tuple[str, str]] = {
    # Name: (programs that must be there, script that prints "works")
    "sh": ("sh", "f() { echo $1; }; (f works) | cat"),
    "bash": ("bash", "diff <(echo a) <(echo a) && ulimit -n >/dev/null && echo works"),
    "coreutils": (
        "find",
        "mkdir a && echo x > a/b && cp -a a c && mv c d && ln d/b d/l && ln -s b d/s"
        " && chmod -R go= d && touch d/b && find d | sort > list && df . >> list"
        " && nice true && timeout 9 true"
        " && chown $(id -u):$(id -g) d && rm -r d && echo works",
    ),
    "tar": (
        "tar gzip",
        "mkdir t && echo x > t/a && mkfifo t/p && tar czf t.gz t && rm -r t && tar xzf t.gz"
        " && echo works",
    ),
    "git": (
        "git",
        "git init -q r && cd r && git config user.email a@b && git config user.name n && echo x > f"
        " && git add f && git commit -qm m && git clone -q . ../clone && git gc -q"
        " && git -C ../clone log --oneline | grep -q m && echo works",
    ),
    "gcc": (
        "gcc make",
        'printf "#include <stdio.h>\\nint main(void) { puts(\\"works\\"); }" > a.c'
        ' && printf "a: a.c\\n\\t@gcc -O2 -o a a.c\\n" > Makefile && make -s && ./a',
    ),
    "sqlite3": (
        "sqlite3",
        "sqlite3 a.db 'pragma journal_mode=wal; create table t(a); insert into t values(1);'"
        " && sqlite3 a.db 'select * from t' | grep -q 1 && echo works",
    ),
    "ssh-keygen": (
        "ssh-keygen",
        "ssh-keygen -q -t ed25519 -N '' -f key && test -s key && echo works",
    ),
    "rg": ("rg", "echo works > a && rg -I --no-line-number works a"),
    "pty": (
        "script bash",
        "script -qec 'bash -ic \"sleep 0 & wait; stty size\"' /dev/null && echo works",
    ),
    "npm": (
        "npm",
        'mkdir p q && cd p && echo \'{"name":"a","version":"1.0.0"}\' > package.json'
        " && npm pack --silent && cd ../q && echo '{}' > package.json"
        " && npm install --offline --silent ../p/a-1.0.0.tgz && test -d node_modules/a"
        " && echo works",
    ),
    "node": ("node", f"cat > a.js <<'END'\n{NODE}\nEND\nnode a.js"),
    "go": (
        "go",
        f"cat > a.go <<'END'\n{GO}\nEND\nGO111MODULE=off GOFLAGS=-p=2 go build -o a a.go && ./a",
    ),
    "rust": (
        "rustc",
        f"export HOME='{Path.home()}'; "
        "echo 'fn main() { std::thread::spawn(|| println!(\"works\")).join().unwrap() }' > a.rs"
        " && rustc a.rs && ./a",
    ),
    "java": (
        "javac java",
        "echo 'class A { public static void main(String[] a) throws Exception {"
        ' new ProcessBuilder("true").start().waitFor(); System.out.println("works"); } }\' > A.java'
        " && javac A.java && java -cp . A",
    ),
    "man": ("man", "man -P cat ls 2>&1 | grep -q . && echo works"),
}


def has(programs: str) -> None:
    for program in programs.split():
        found = shutil.which(program)
        if found is None:
            pytest.skip(f"{program} is not installed")
        if not os.access(Path(found).resolve(), os.X_OK):
            pytest.skip(f"this user cannot execute {found}")
        if (
            program == "rustc"
            and subprocess.run([found, "--version"], capture_output=True).returncode
        ):
            pytest.skip("rustc is here, and no toolchain for this user's home directory")


@pytest.mark.parametrize("name", PROGRAMS)
def test_agent_profile_runs(
    name: str,
    policy: Callable[..., Policy],
    here: Host,
    compiled: Compile,
    sealed: Sealed,
    tmp_path: Path,
) -> None:
    needs, script = PROGRAMS[name]
    has(needs)
    shell = "bash" if name == "bash" else "sh"
    assert "works" in sealed(compiled(policy(), here), tmp_path, shell, "-c", script)


def test_agent_profile_runs_python_with_processes_threads_and_semaphores(
    policy: Callable[..., Policy], here: Host, compiled: Compile, sealed: Sealed, tmp_path: Path
) -> None:
    (tmp_path / "a.py").write_text(PYTHON)
    assert sealed(compiled(policy(), here), tmp_path, sys.executable, "a.py") == "works\n"


@pytest.mark.parametrize("name", ["sh", "bash", "coreutils", "tar", "git", "gcc", "sqlite3"])
def test_plain_tools_meet_no_refusal_at_all(
    name: str,
    policy: Callable[..., Policy],
    here: Host,
    compiled: Compile,
    sealed: Sealed,
    tmp_path: Path,
) -> None:
    """With ``action = "kill"`` a single refused call would end them."""
    needs, script = PROGRAMS[name]
    has(needs)
    bpf = compiled(policy(action="kill"), here)
    assert "works" in sealed(bpf, tmp_path, "bash", "-c", script)


@pytest.mark.parametrize("name", ["sh", "tar", "gcc", "sqlite3"])
def test_minimal_profile_runs(
    name: str,
    policy: Callable[..., Policy],
    here: Host,
    compiled: Compile,
    sealed: Sealed,
    tmp_path: Path,
) -> None:
    needs, script = PROGRAMS[name]
    has(needs)
    bpf = compiled(policy(profile="minimal"), here)
    assert "works" in sealed(bpf, tmp_path, "sh", "-c", script)
    assert sealed(bpf, tmp_path, "true") == ""
    python = "import json, subprocess; print(subprocess.run(['true']).returncode)"
    assert sealed(bpf, tmp_path, sys.executable, "-c", python) == "0\n"


def test_shared_memory_and_threads_work_under_the_gpu_profile(
    policy: Callable[..., Policy], here: Host, compiled: Compile, sealed: Sealed, tmp_path: Path
) -> None:
    script = "import os; os.close(os.memfd_create('x')); print('works')"
    bpf = compiled(policy(gpu=True), here)
    assert sealed(bpf, tmp_path, sys.executable, "-c", script) == "works\n"


def test_what_cannot_be_denied_is_enough_to_start_an_agent_and_wait(
    policy: Callable[..., Policy],
    here: Host,
    compiled: Compile,
    attempt: Callable[..., str],
    capfd: pytest.CaptureFixture[str],
) -> None:
    """With everything else denied and ``kill``, an init gets a request and runs a command."""
    deniable = (*sorted(NAMES - {*STARTING.calls} - {"clone3"}),)  # clone3 stays absent
    bpf = compiled(policy(deny=deniable, action="kill"), here)
    supervisor, channel = socket.socketpair()

    def init() -> str:
        socket.send_fds(supervisor, [b"run"], [1])
        _, descriptors, _, _ = socket.recv_fds(channel, 16, 4)
        os.chdir("/")
        os.umask(0o22)
        output = (os.POSIX_SPAWN_DUP2, descriptors[0], 1)
        pid = os.posix_spawn(
            "/bin/echo", ["echo", "started"], {}, file_actions=[output], setsid=True
        )
        poll = select.poll()
        poll.register(channel, select.POLLIN)
        poll.poll(10)
        os.kill(pid, 0)
        return "worked" if os.waitpid(pid, 0)[1] == 0 else "failed"

    with supervisor, channel:
        assert attempt(bpf, init) == "worked"
    assert capfd.readouterr().out == "started\n"
