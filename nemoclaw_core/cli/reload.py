"""``nemoclaw reload``: put another network policy in force for a running sandbox."""

from __future__ import annotations

import sys

from nemoclaw_hookspecs.errors import NemoclawError, UsageError

from .. import planning
from ..names import check_name
from ..supervisor import control
from .arguments import Parser

_PATIENCE = 15.0
"""Seconds that a supervisor may take to put a policy in force."""


def main(argv: list[str]) -> int:
    """Compile the policy here, and hand its network rules to the sandbox's supervisor."""
    parser = Parser(
        "nemoclaw reload",
        description="Put the network rules of a policy in force for a running sandbox. What they "
        "forbid is cut, the rest goes on. What was locked at the start must be the same.",
    )
    parser.add_argument("sandbox")
    parser.add_argument(
        "-p", "--policy", help="FILE, FILE:NAME or NAME; default: what it was started with"
    )
    given = parser.parse_args(argv)
    name = check_name(given.sandbox)
    status = _ask(name, {"request": "status"})
    selector = str(status["policy"]) if given.policy is None else given.policy
    planned = planning.load_plan(selector, str(status["workdir"]), use_cache=False)
    if not planned.network:
        raise UsageError(
            f"the policy {planned.plan['policy']} has no network to reload",
            remedy='write `mode = "proxy"` into its network table',
        )
    answer = _ask(
        name,
        {
            "request": "reload",
            "policy": planned.plan["policy"],
            "network": planned.network,
            "locked": planned.locked,
        },
    )
    sys.stderr.write(f"nemoclaw: {name}: {answer['told']}\n")
    return 0


def _ask(name: str, request: dict[str, object]) -> dict[str, object]:
    sock = control.connect(name)
    sock.settimeout(_PATIENCE)
    try:
        control.send_json(sock, request)
        answer, _ = control.receive_json(sock)
    except (OSError, EOFError):
        raise NemoclawError(
            f"the supervisor of {name} does not answer; its policy is unchanged",
            remedy=f"try again; `nemoclaw logs {name}` says what is in force",
        ) from None
    finally:
        sock.close()
    if "error" in answer:
        error = UsageError if answer.get("exit") == UsageError.exit_code else NemoclawError
        raise error(str(answer["error"]))
    return answer
