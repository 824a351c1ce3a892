"""How long a reload takes: `python bench/reload.py [--rules N] [--connections N] [--forbidden N]`.

A gate with its network service runs in this process, with a tunnel open through it for each
connection; `nemoclaw reload`, as a user calls it, puts one policy in force after another. Timed are
the command, and what happens once its request has reached the supervisor: until the answer leaves,
when the policy is in force, and what it forbids is cut.
"""

from __future__ import annotations

import argparse
import os
import select
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any

_SERVER = (
    "import asyncio, sys\n"
    "async def serve(reader, writer):\n"
    "    try:\n"
    "        while data := await reader.read(99): writer.write(data)\n"
    "    except OSError: pass\n"
    "async def main():\n"
    "    server = await asyncio.start_server(serve, '0.0.0.0', 0, backlog=2048)\n"
    "    print(server.sockets[0].getsockname()[1], flush=True)\n"
    "    await server.serve_forever()\n"
    "asyncio.run(main())\n"
)
BUDGET = (5.0, 50.0)
"""Milliseconds: median and worst."""


def address(number: int) -> str:
    """Of loopback, one for each rule."""
    return f"127.{1 + number // 62500}.{number // 250 % 250}.{1 + number % 250}"


def write_policy(path: str, numbers: list[int], port: int) -> None:
    """One rule for each number."""
    with open(path, "w", encoding="ascii") as file:
        file.write("version = 1\n[policy.default]\nextends = ['default']\n")
        file.write("[policy.default.network]\nmode = 'proxy'\n")
        for number in numbers:
            host = address(number)
            file.write(
                f"[[policy.default.network.allow]]\nname = 'rule {number}'\nhost = '{host}'\n"
                f"ports = [{port}]\naddresses = ['{host}/32']\n"
            )


class Timed:
    """Sums the time that a function takes, by name."""

    def __init__(self) -> None:
        self.parts: dict[str, float] = {}

    def wrap(self, holder: Any, function: str, name: str) -> None:
        real = getattr(holder, function)

        def timed(*arguments: Any, **named: Any) -> Any:
            begun = time.perf_counter()
            try:
                return real(*arguments, **named)
            finally:
                spent = time.perf_counter() - begun
                self.parts[name] = self.parts.get(name, 0.0) + spent * 1000

        setattr(holder, function, timed)


class Supervisor:
    """What `nemoclaw run` has around a gate: its control socket, its log, its gate thread."""

    def __init__(self, folder: str, policy: str) -> None:
        from nemoclaw_core import planning
        from nemoclaw_core.egress import reload
        from nemoclaw_core.events.record import Context
        from nemoclaw_core.supervisor import control, gates

        self.timed = Timed()
        self.timed.wrap(control, "receive_json", "receive and decode")
        self.timed.wrap(reload, "Generation", "compile what changed")
        self.timed.wrap(gates.GATES, "reload", "swap, judge and cut")
        planned = planning.load_plan(policy, folder, use_cache=False)
        planned.plan["services"] = [
            {**each, "plugin": "netns"} for each in planned.plan["services"]
        ]
        context = Context("bench", policy=planned.plan["policy"], policy_digest=planned.digest)
        self.log = planned.open_log(context)
        listener = socket.create_server(("127.0.0.1", 0), backlog=4096)
        self.port: int = listener.getsockname()[1]
        self.gate = gates.Gate(
            {"proxy": listener.detach()}, planned, context, self.log, os.getpid()
        )
        gates.GATES.add(self.gate)
        session: Any = SimpleNamespace(
            gate=self.gate, context=context, pid=os.getpid(), owner=None, log=self.log
        )
        self.control = control.Control("bench", planned.plan, ["bench"])
        self.control.listen()
        self.control.attach(session)
        self.samples: list[dict[str, float]] = []
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self) -> None:
        front: Any = SimpleNamespace(cause_of=lambda pid: "command")
        while True:
            poll = select.poll()
            for descriptor in self.control.descriptors():
                poll.register(descriptor, select.POLLIN)
            for descriptor, _ in poll.poll():
                self.timed.parts = {}
                begun = time.perf_counter()
                self.control.serve(descriptor, front)
                total = (time.perf_counter() - begun) * 1000
                if "swap, judge and cut" in self.timed.parts:
                    self.samples.append({**self.timed.parts, "in force": total})


def connect(port: int, host: str, to: int) -> socket.socket:
    """A tunnel through the gate, which has carried something."""
    sock = socket.create_connection(("127.0.0.1", port), 30)
    sock.sendall(f"CONNECT {host}:{to} HTTP/1.1\r\nHost: {host}:{to}\r\n\r\n".encode())
    answer = sock.recv(4096)
    if b" 200 " not in answer.partition(b"\r\n")[0]:
        raise SystemExit(f"no tunnel: {answer!r}")
    sock.sendall(b"x")
    if sock.recv(1) != b"x":
        raise SystemExit("nothing comes back")
    return sock


def is_cut(sock: socket.socket) -> bool:
    sock.setblocking(False)
    try:
        return not sock.recv(1)
    except BlockingIOError:
        return False
    except ConnectionResetError:
        return True


def lives(sock: socket.socket) -> bool:
    sock.settimeout(5)
    sock.sendall(b"y")
    return sock.recv(1) == b"y"


def command(policy: str) -> float:
    """Milliseconds of `nemoclaw reload`."""
    begun = time.perf_counter()
    subprocess.run(
        [sys.executable, "-m", "nemoclaw_core.cli", "reload", "bench", "-p", policy],
        check=True,
        stderr=subprocess.DEVNULL,
    )
    return (time.perf_counter() - begun) * 1000


def measure(options: argparse.Namespace, folder: str, port: int) -> Iterator[tuple[str, Any]]:
    """Names and samples in milliseconds."""
    everything, some, other = (os.path.join(folder, f"{n}.toml") for n in ("all", "some", "other"))
    rules = list(range(options.rules))
    forbidden = rules[:: max(1, options.rules // max(1, options.forbidden))][: options.forbidden]
    write_policy(everything, rules, port)
    write_policy(some, [each for each in rules if each not in set(forbidden)], port)
    write_policy(other, [each + options.rules for each in rules], port)
    work = os.path.join(folder, "work")
    os.mkdir(work)
    supervisor = Supervisor(work, everything)
    open_now: dict[int, socket.socket] = {}

    def fill() -> None:
        for number in range(options.connections):
            if number not in open_now:
                host = address(number % options.rules)
                open_now[number] = connect(supervisor.port, host, port)

    def cut_by(what: Callable[[int], bool]) -> None:
        gone = [number for number in open_now if what(number % options.rules)]
        for number in gone:
            if not is_cut(open_now[number]):
                raise SystemExit(f"the tunnel to {address(number)} is open after the reload")
            open_now.pop(number).close()
        for sock in list(open_now.values())[:20]:
            if not lives(sock):
                raise SystemExit("a tunnel that is allowed was cut")

    taken = []
    for _ in range(options.runs):
        fill()
        taken.append(command(some))
        cut_by(set(forbidden).__contains__)
        command(everything)
    yield "the command, 0.5 MB policy and all", taken
    narrowed = supervisor.samples[::2]
    for name in (*narrowed[0],):
        yield f"{len(forbidden)} rules go: {name}", [each[name] for each in narrowed]
    yield "they come back: in force", [each["in force"] for each in supervisor.samples[1::2]]
    supervisor.samples.clear()
    for _ in range(max(2, options.runs // 4)):
        fill()
        command(other)
        cut_by(lambda number: True)
        command(everything)
    yield (
        f"all {options.rules} rules are others, all is cut: in force",
        [each["in force"] for each in supervisor.samples[::2]],
    )


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    for name, default in (("rules", 1000), ("connections", 1000), ("forbidden", 100), ("runs", 20)):
        parser.add_argument(f"--{name}", type=int, default=default)
    options = parser.parse_args()
    import resource

    resource.setrlimit(resource.RLIMIT_NOFILE, (resource.getrlimit(resource.RLIMIT_NOFILE)[1],) * 2)
    with tempfile.TemporaryDirectory() as folder:
        for name in ("CONFIG", "STATE", "CACHE"):
            os.environ[f"XDG_{name}_HOME"] = f"{folder}/{name.lower()}"
        os.environ["XDG_RUNTIME_DIR"] = f"{folder}/run"
        server = subprocess.Popen(
            [sys.executable, "-c", _SERVER], stdout=subprocess.PIPE, text=True
        )
        try:
            assert server.stdout is not None
            port = int(server.stdout.readline())
            print(
                f"{options.rules} rules, {options.connections} tunnels, {options.runs} runs; "
                "milliseconds: best, median, worst"
            )
            within = True
            for name, samples in measure(options, folder, port):
                middle, worst = statistics.median(samples), max(samples)
                note = ""
                if name.endswith("go: in force"):
                    within = middle <= BUDGET[0] and worst <= BUDGET[1]
                    note = f"   budget {BUDGET[0]:g}, {BUDGET[1]:g}: "
                    note += f"{middle / BUDGET[0]:.2f} and {worst / BUDGET[1]:.2f} of it"
                print(f"{min(samples):9.2f} {middle:9.2f} {worst:9.2f}  {name}{note}")
        finally:
            server.kill()
            server.wait()
    sys.stdout.flush()
    os._exit(0 if within else 1)  # The gate's thread runs on.


if __name__ == "__main__":
    main()  # Ends the process.
