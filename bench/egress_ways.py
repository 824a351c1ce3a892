"""How each sandbox is asked for a way out, and what is outside: for the egress benchmark."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import attrs

from bench.arena import BENCH, RIVALS, Arena
from bench.rivals import NEMOCLAW, Command
from bench.rivals.rival import rivals_python

Where = dict[str, str]
"""``program``, ``tls_program``, ``host`` and ``port`` of the server, ``tls_port``, ``ca``."""

MITMPROXY = os.path.join(RIVALS, "mitmproxy", "bin", "mitmdump")
_NAME = "localhost"
"""By which the server for TLS is certified."""
_PROXY = "P=${http_proxy:-$HTTP_PROXY}; P=${P#*://}; P=${P#*@}; P=${P%/}; "
_PLAIN = "{program} load KIND ${{P%:*}} ${{P##*:}} {host} {port} {n} {s}"
_DIRECT = "{program} load KIND {host} {port} {host} {port} {n} {s}"
_PYTHON = shutil.which("python3", path="/usr/bin:/usr/local/bin") or sys.executable
"""One that sandboxes may read."""
_TLS = (
    f"{_PYTHON} -I {{tls_program}} ${{{{P%:*}}}} ${{{{P##*:}}}} {_NAME} {{tls_port}} "
    "${{CA:-$SSL_CERT_FILE}} {n} {s}"
)


@attrs.frozen(slots=True, kw_only=True)
class Way:
    """One sandbox with rules for the network."""

    name: str
    rival: str
    """Whose it is, in the field."""
    kinds: tuple[str, ...]
    """Loads that it can serve."""
    command: Callable[[Arena, tuple[str, ...], Where], Command]
    direct: tuple[str, ...] = ()
    """Those that need no proxy: what is dialled is judged."""

    def load(self, kind: str) -> str:
        """A shell command, in which ``{n}``, ``{s}`` and what is outside are to be put."""
        if kind == "tls":
            return _PROXY.replace("{", "{{").replace("}", "}}") + _TLS
        if kind in self.direct:
            inside = {"proxy": "direct", "tunnel": "direct", "connect": "close"}.get(kind, kind)
            return _DIRECT.replace("KIND", inside if inside != "bulk" else "bulk-direct")
        return _PROXY.replace("{", "{{").replace("}", "}}") + _PLAIN.replace("KIND", kind)


def _bare(arena: Arena, argv: tuple[str, ...], where: Where) -> Command:
    return Command(argv=argv, environment=arena.environment())


def _nemoclaw(arena: Arena, argv: tuple[str, ...], where: Where) -> Command:
    policy = os.path.join(arena.settings, "policies.toml")
    rules = "http = [{ methods = ['GET'], path = '/**' }]"
    with open(policy, "w") as file:
        file.write(
            "version = 1\n[policy.default]\nextends = ['default']\n"
            "[policy.default.network]\nmode = 'proxy'\n"
            "[[policy.default.network.allow]]\n"
            f"host = '{where['host']}'\nports = [{where['port']}]\n"
            f"addresses = ['{where['host']}/32']\nRULES\n"
            "[[policy.default.network.allow]]\n"
            f"host = '{_NAME}'\nports = [{where['tls_port']}]\n"
            f"addresses = ['127.0.0.1/32', '::1/128']\n{rules}\n"
        )
    with open(policy) as read:
        text = read.read()
    # A tunnel that is passed through is one of a rule that looks into no requests.
    inspected = any(" load proxy " in word or " load idle " in word for word in argv)
    with open(policy, "w") as file:
        file.write(text.replace("RULES", rules if inspected else ""))
    settings = os.path.join(arena.base, "xdg", "config", "nemoclaw")
    os.makedirs(settings, exist_ok=True)
    with open(os.path.join(settings, "settings.toml"), "w") as file:
        file.write(f"[upstream]\nca_file = '{where['ca']}'\n")
    usual = NEMOCLAW.command(arena, argv)
    at = usual.argv.index("run") + 1
    return Command(
        argv=(*usual.argv[:at], "-p", policy, "-C", arena.work, *usual.argv[at:]),
        environment=usual.environment,
    )


def _mitmproxy(arena: Arena, argv: tuple[str, ...], where: Where) -> Command:
    """No sandbox, but what inspects TLS elsewhere."""
    home = os.path.join(arena.settings, "mitmproxy")
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    serve = (
        f"{MITMPROXY} -q --set confdir={home} --listen-host 127.0.0.1 "
        f"-p {port} --set ssl_verify_upstream_trusted_ca={where['ca']} & "
        f"until [ -e {home}/mitmproxy-ca-cert.pem ] && (exec 3<>/dev/tcp/127.0.0.1/{port}); "
        "do sleep 0.1; done 2>/dev/null; "
        f"export http_proxy=http://127.0.0.1:{port} CA={home}/mitmproxy-ca-cert.pem; "
    )
    return Command(
        argv=("/bin/bash", "-c", f'{serve} "$@"', "mitmproxy", *argv),
        environment=arena.environment(),
    )


def _sandlock(arena: Arena, argv: tuple[str, ...], where: Where) -> Command:
    reach = f"{where['host']}:{where['port']}"
    return rivals_python(arena, "with_sandlock.py", "reach", arena.work, reach, *argv)


def _nono(arena: Arena, argv: tuple[str, ...], where: Where) -> Command:
    return rivals_python(arena, "with_nono.py", "reach", arena.work, where["host"], *argv)


def _srt(arena: Arena, argv: tuple[str, ...], where: Where) -> Command:
    settings = os.path.join(arena.settings, "srt-egress.json")
    with open(settings, "w") as file:
        network = {"allowedDomains": [f"{where['host']}:{where['port']}"], "deniedDomains": []}
        view = {"denyRead": [], "allowWrite": [arena.work], "denyWrite": []}
        json.dump({"network": network, "filesystem": view}, file)
    return Command(
        argv=(f"{RIVALS}/node/node_modules/.bin/srt", "-s", settings, "--", *argv),
        environment=arena.environment(),
    )


_PROXIED = ("proxy", "one", "tunnel", "connect", "bulk")
WAYS = (
    Way(
        name="bare",
        rival="bare",
        kinds=(*_PROXIED, "close"),
        command=_bare,
        direct=(*_PROXIED, "close"),
    ),
    Way(
        name="nemoclaw",
        rival="nemoclaw",
        kinds=(*_PROXIED, "close", "tls", "many"),
        command=_nemoclaw,
        direct=("close",),
    ),
    Way(name="mitmproxy", rival="mitmproxy", kinds=("proxy", "one", "tls"), command=_mitmproxy),
    Way(
        name="sandlock",
        rival="sandlock",
        kinds=("proxy", "one", "close", "bulk"),
        command=_sandlock,
        direct=("proxy", "one", "close", "bulk"),
    ),
    Way(name="nono", rival="nono", kinds=("tunnel", "connect", "bulk"), command=_nono),
    Way(name="srt", rival="srt", kinds=_PROXIED, command=_srt),
)


@contextmanager
def setting(arena: Arena, program: str) -> Iterator[Where]:
    """Start the servers.

    :param program: traffic.c, compiled.
    """
    key, certificate = (os.path.join(arena.settings, f"outside-{each}.pem") for each in "kc")
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256",
         "-nodes", "-keyout", key, "-out", certificate, "-days", "2", "-subj", f"/CN={_NAME}",
         "-addext", f"subjectAltName=DNS:{_NAME}"],
        check=True, capture_output=True,
    )  # fmt: skip
    outside = os.path.join(arena.base, "serve")  # what rivals may not see
    shutil.copy(program, outside)
    script = os.path.join(BENCH, "traffic", "serve_tls.py")
    servers = [
        subprocess.Popen(argv, stdout=subprocess.PIPE, text=True)
        for argv in ([outside, "serve"], [sys.executable, script, certificate, key])
    ]
    try:
        ports = []
        for server in servers:
            assert server.stdout is not None
            ports.append(server.stdout.readline().strip())
        yield {
            "program": program,
            "tls_program": os.path.join(os.path.dirname(program), "load_tls.py"),
            "host": _own_address(),
            "port": ports[0],
            "tls_port": ports[1],
            "ca": certificate,
        }
    finally:
        for server in servers:
            server.kill()
            server.wait()
            if server.stdout is not None:
                server.stdout.close()


def _own_address() -> str:
    """Of this machine's, not of loopback if it has another: what sandboxes can dial."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(("192.0.2.1", 9))
        except OSError:
            return "127.0.0.1"
        return str(probe.getsockname()[0])
