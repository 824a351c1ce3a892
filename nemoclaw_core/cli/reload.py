"""``nemoclaw reload``: put another network policy in force for a running sandbox."""

from __future__ import annotations

import sys

from nemoclaw_hookspecs.errors import UsageError

from ..names import check_name
from ..supervisor import client
from .arguments import Parser


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
    sys.stderr.write(f"nemoclaw: {name}: {put_in_force(name, given.policy)}\n")
    return 0


def put_in_force(name: str, policy: str | None) -> str:
    """Compile a policy here, and have the sandbox's supervisor put its network rules in force.

    :param policy: as on the command line; None: what the sandbox was started with, as it is now.
    :returns: what has changed, for people.
    :raises NemoclawError: it is not in force.
    """
    status = client.request(name, {"request": "status"})
    from .. import seal
    from ..egress.written import Written
    from ..planning import context_for
    from ..policy.reloadable import reloadable

    selector = str(status["started"]) if policy is None else policy
    context = context_for(str(status["workdir"]))
    # A file that nobody has named just now must not be one that an agent may have written since.
    found = reloadable(selector, context, named=policy is not None)
    if found.network.mode != "proxy":
        raise UsageError(
            f"the policy {found.policy} has no network to reload",
            remedy='write `mode = "proxy"` into its network table',
        )
    answer = client.request(
        name,
        {
            "request": "reload",
            "policy": found.policy,
            "network": Written.of(seal.encode_value(found.network)).as_data(),
            "locked": found.locked,
        },
    )
    return str(answer["told"])
