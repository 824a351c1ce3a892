"""``nemoclaw stop``: end a sandbox."""

from __future__ import annotations

from nemoclaw_hookspecs.errors import NemoclawError

from ..names import check_name
from ..supervisor import client
from .arguments import Parser
from .run import duration

_PATIENCE = 15.0
"""Seconds that a supervisor may take to take note of the request."""


def main(argv: list[str]) -> int:
    """Ask a sandbox to end, and wait until it has."""
    parser = Parser(
        "nemoclaw stop",
        description="Send the agent SIGTERM; after the grace time, end the whole sandbox.",
    )
    parser.add_argument("sandbox")
    parser.add_argument(
        "--grace",
        default="5s",
        metavar="TIME",
        help="seconds, or 500ms, 30s, 5m; 0 = at once; default: 5s",
    )
    given = parser.parse_args(argv)
    sock = client.connect(check_name(given.sandbox))
    sock.settimeout(_PATIENCE)
    try:
        client.ask(sock, {"request": "stop", "grace": duration(given.grace, "--grace")})
        answer, _ = client.receive_json(sock)
    except TimeoutError:
        raise NemoclawError(
            f"the supervisor of {given.sandbox} does not answer",
            remedy="end it by its process id: pgrep -af 'nemoclaw run'; its sandbox goes with it",
        ) from None
    except (OSError, EOFError):
        return 0  # It ended before it could answer, which is what was asked for.
    finally:
        sock.close()
    if "error" in answer:
        raise NemoclawError(str(answer["error"]))
    client.wait_gone(given.sandbox)
    return 0
