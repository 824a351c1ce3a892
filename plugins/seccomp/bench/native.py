"""What the filter costs: nanoseconds a call, outside and under each profile.

    python bench/native.py

Needs a C compiler, and nemoclaw-testing. Rounds are interleaved and the best of each is shown, so
that other work on the machine disturbs little.
"""

from __future__ import annotations

import os
import subprocess
import tempfile
import time
from pathlib import Path

from nemoclaw_hookspecs import SeccompFilter
from nemoclaw_plugin_seccomp import apply_syscall
from nemoclaw_testing import install_filter, make_host, make_policy

ROUNDS = 15
ALLOW_ALL = bytes.fromhex("060000000000ff7f")
SOURCE = r"""
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdio.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <termios.h>
#include <time.h>
#include <unistd.h>
static double now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec * 1e9 + t.tv_nsec;
}
#define TIME(name, count, body) do { \
    double start = now(); \
    for (int i = 0; i < (count); i++) { body; } \
    printf("%s %.1f\n", name, (now() - start) / (count)); } while (0)
int main(void) {
    struct stat st; struct termios tio; char c; int pair[2];
    int scratch = fileno(tmpfile());
    int null = open("/dev/null", O_RDWR), zero = open("/dev/zero", O_RDONLY);
    struct iovec vector = {&c, 1}; struct msghdr message = {.msg_iov = &vector, .msg_iovlen = 1};
    socketpair(AF_UNIX, SOCK_STREAM, 0, pair);
    TIME("getpid", 100000, syscall(SYS_getpid));
    TIME("read", 100000, if (read(zero, &c, 1) < 0) return 1);
    TIME("stat", 50000, stat("/etc/passwd", &st));
    TIME("open+close", 50000, close(open("/etc/passwd", O_RDONLY | O_CLOEXEC)));
    TIME("create+close", 20000, close(open("made", O_RDWR | O_CREAT, 0644)));
    TIME("ioctl", 50000, ioctl(null, TCGETS, &tio));
    /* Never on a device of the host: root could change it for everybody. */
    TIME("fchmod", 20000, fchmod(scratch, 0600));
    TIME("sendmsg+read", 20000, sendmsg(pair[0], &message, 0);
        if (read(pair[1], &c, 1) < 1) return 1);
    TIME("socket+close", 20000, close(socket(AF_INET, SOCK_STREAM, 0)));
    TIME("fork+wait", 200, if (!fork()) _exit(0); wait(0));
    TIME("unknown", 50000, syscall(5000));
    return 0;
}
"""


def measure(program: str, directory: str, bpf: bytes | None) -> dict[str, float]:
    """One run of the C program: name of what was timed, nanoseconds."""
    prepare = (lambda: install_filter(bpf)) if bpf is not None else None
    done = subprocess.run(
        [program], cwd=directory, preexec_fn=prepare, capture_output=True, text=True, check=True
    )
    return {name: float(value) for name, value in map(str.split, done.stdout.splitlines())}


def program_of(profile: str) -> bytes:
    """The filter of a profile for this machine, where it has every namespace."""
    policy = make_policy(
        syscalls={"profile": profile}, plugins={"enable": ("mounts", "netns", "seccomp")}
    )
    (operation,) = apply_syscall(policy, make_host(machine=os.uname().machine)).operations
    assert isinstance(operation, SeccompFilter)
    return operation.bpf


def main() -> None:
    """Print the table."""
    # What any filter at all costs: one that allows everything.
    filters: dict[str, bytes | None] = {"outside": None, "empty": ALLOW_ALL}
    filters |= {profile: program_of(profile) for profile in ("minimal", "agent", "gpu")}
    with tempfile.TemporaryDirectory() as directory:
        program = str(Path(directory) / "measure")
        command = ["cc", "-O2", "-x", "c", "-o", program, "-"]
        subprocess.run(command, input=SOURCE, text=True, check=True)
        best: dict[str, dict[str, float]] = {name: {} for name in filters}
        for _ in range(ROUNDS):
            for name, bpf in filters.items():
                for what, value in measure(program, directory, bpf).items():
                    best[name][what] = min(value, best[name].get(what, value))
    print(f"{'ns':14}" + "".join(f"{name:>10}" for name in filters) + f"{'ratio':>8}")
    for what, bare in best["outside"].items():
        row = "".join(f"{best[name][what]:10.0f}" for name in filters)
        print(f"{what:14}{row}{best['agent'][what] / bare:8.2f}")
    for name, bpf in filters.items():
        if bpf is not None:
            took = min(time_install(bpf) for _ in range(ROUNDS))
            print(f"{name}: {len(bpf) // 8} instructions, {took / 1000:.0f} us to install")


def time_install(bpf: bytes) -> float:
    """Nanoseconds that seccomp(2) takes to check, compile and attach the program."""
    reader, writer = os.pipe()
    if os.fork() == 0:
        # The first installation warms what Python needs.
        install_filter(ALLOW_ALL)
        start = time.monotonic_ns()
        install_filter(bpf)
        os.write(writer, str(time.monotonic_ns() - start).encode())
        os._exit(0)
    os.close(writer)
    with open(reader, "rb") as pipe:
        took = float(pipe.read())
    os.wait()
    return took


if __name__ == "__main__":
    main()
