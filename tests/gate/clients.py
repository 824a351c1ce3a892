"""Clients that people use, each as a shell script that asks ``$SITE`` for something.

``$SITE`` is a URL of a server and the beginning of a path. What a script prints holds
:data:`CONTENT` if it got what it asked for. Nothing in a script knows of nemoclaw.
"""

from __future__ import annotations

import attrs

CONTENT = "parcel-4711"
"""In everything that the servers have."""


@attrs.frozen(slots=True, kw_only=True)
class Client:
    """One program, and how it is told to ask."""

    name: str
    script: str
    needs: tuple[str, ...] = ()
    """Programs on PATH."""
    modules: tuple[str, ...] = ()
    """Distributions of Python, which are lent to the sandbox."""
    server: str = "shop"
    """Whom it asks: ``shop``, ``http2``, ``live`` (WebSocket) or ``calls`` (gRPC)."""
    slow: bool = False
    """Starts so slowly that it is not asked more than it must be."""
    denial: str = "403|policy_denied|Forbidden"
    """What it shows of a request that was judged and denied; a pattern."""
    content: str = CONTENT
    """What it prints of what it got."""
    file: str = ""
    """A program that the script starts, ``client.NAME`` beside it."""


def python(name: str, text: str, *modules: str, **more: str) -> Client:
    """A client in Python; the site is ``site``."""
    return Client(
        name=name,
        script=f"exec /usr/bin/python3 client.{name}",
        file=f"import os, ssl\nsite = os.environ['SITE']\n{text}",
        modules=modules,
        **more,  # type: ignore[arg-type]
    )


_GO = """package main
import ("fmt"; "io"; "net/http"; "os")
func main() {
    answer, failed := http.Get(os.Getenv("SITE") + "/page")
    if failed != nil { fmt.Println(failed); os.Exit(1) }
    body, _ := io.ReadAll(answer.Body)
    fmt.Println(answer.StatusCode, string(body))
}
"""
# Through a proxy it is told of one by an option; `-brief` prints no session tickets.
_S_CLIENT = r"""
place=${SITE#https://} host=${place%%:*} way=
[ -z "$https_proxy" ] || way="-proxy ${https_proxy#http://}"
printf 'GET /%s/page HTTP/1.1\r\nHost: %s\r\nConnection: close\r\n\r\n' \
  "${place#*/}" "${place%%/*}" |
  openssl s_client -quiet -verify_return_error -servername "$host" \
    -verify_hostname "$host" $way -connect "${place%%/*}" 2>&1 | cat
"""
_AIOHTTP = """
import aiohttp, asyncio
async def main():
    async with aiohttp.ClientSession(trust_env=True) as session:
        async with session.get(site + "/page", ssl=ssl.create_default_context()) as answer:
            print(answer.status, await answer.text())
asyncio.run(main())
"""
_HTTPX = """
import httpx
with httpx.Client(http2={two}, verify=ssl.create_default_context()) as client:
    answer = client.get(site + "/page")
assert answer.status_code == 403 or answer.http_version == "HTTP/{version}", answer.http_version
print(answer.status_code, answer.text)
"""
_WEBSOCKETS = """
from websockets.sync.client import connect
with connect("wss" + site[5:] + "/live") as socket:
    socket.send("any")
    print(socket.recv())
"""
_GRPC = """
import grpc
place, _, folder = site[8:].partition("/")
roots = open(os.environ["SSL_CERT_FILE"], "rb").read()
channel = grpc.secure_channel(place, grpc.ssl_channel_credentials(roots))
print(channel.unary_unary("/" + folder + ".Service/One")(b"x", timeout=20).decode())
"""
_UNDICI = """
const { createRequire } = require('module')
const { fetch, EnvHttpProxyAgent } = createRequire(process.argv[1])('undici')
fetch(process.env.SITE + '/page', { dispatcher: new EnvHttpProxyAgent() })
  .then(async (answer) => console.log(answer.status, await answer.text()))
"""
_NPM = """
npm install --no-audit --no-fund --no-update-notifier --fetch-retries 0 --loglevel error \
  --registry $SITE/npm/ --cache $PWD/cache --prefix $PWD parcel 2>&1 && cat node_modules/parcel/*.js
"""
_PIP = """
/usr/bin/python3 -m pip install --disable-pip-version-check --no-cache-dir --retries 0 \
  --no-compile --no-deps --index-url $SITE/simple/ --target got parcel 2>&1 && cat got/parcel.py
"""
NPM_UNDICI = "/usr/lib/node_modules/npm/node_modules/undici"
"""The one that npm uses."""

CLIENTS = (
    Client(name="curl-http1", needs=("curl",), script="curl -sS --http1.1 $SITE/page"),
    Client(
        name="curl-http2",
        needs=("curl",),
        server="http2",
        content="over 2.0",
        script="curl -sS --http2 $SITE/page",
    ),
    Client(name="wget", needs=("wget",), script="wget -nv -O - $SITE/page 2>&1"),
    Client(
        name="git",
        needs=("git",),
        script="git clone -q $SITE/git/parcel.git got 2>&1 && "
        "git -C got fetch -q --tags && cat got/README",
    ),
    Client(
        name="pip",
        script=_PIP,
        slow=True,
        needs=("/usr/lib/python3/dist-packages/pip",),
        denial="No matching distribution found",
    ),
    Client(name="npm", script=_NPM, slow=True, needs=("npm",)),
    python(
        "requests",
        "import requests\nanswer = requests.get(site + '/page')\n"
        "print(answer.status_code, answer.text)",
        "requests",
    ),
    python("httpx", _HTTPX.format(two=False, version="1.1"), "httpx"),
    python(
        "httpx-http2",
        _HTTPX.format(two=True, version="2"),
        "httpx",
        "h2",
        server="http2",
        content="over 2.0",
    ),
    python("aiohttp", _AIOHTTP, "aiohttp"),
    python("websockets", _WEBSOCKETS, "websockets", server="live"),
    python("grpcio", _GRPC, "grpcio", server="calls", content="echo x", denial="PERMISSION_DENIED"),
    Client(
        name="node-fetch",
        needs=("node",),
        script="exec node client.node-fetch",
        file="fetch(process.env.SITE + '/page')"
        ".then(async (answer) => console.log(answer.status, await answer.text()))",
    ),
    Client(
        name="node-undici",
        needs=("node", NPM_UNDICI),
        script=f"exec node -e '{_UNDICI.replace(chr(39), chr(34))}' {NPM_UNDICI}/index.js",
    ),
    Client(name="openssl", needs=("openssl",), script=_S_CLIENT),
    Client(
        name="go",
        needs=("go",),
        file=_GO,
        script="exec ./client.go",
    ),
)
