"""``python -m bench.decision``: what a decision of the gate costs with many rules. No sandbox."""

from __future__ import annotations

import time

from nemoclaw_hookspecs import (
    Caller,
    EgressRequest,
    HttpRequest,
    HttpRule,
    NetworkPolicy,
    NetworkRule,
    Origin,
)

from nemoclaw_core.egress.rules import Ruleset

RULES = 10_000
BUDGET = 20.0
"""Microseconds."""
_ROUNDS = 20_000


def policy(rules: int) -> NetworkPolicy:
    """A third each of exact hosts, patterns, and hosts with rules for requests."""
    http = (HttpRule(methods=("GET",), path="/repos/**"), HttpRule(methods=("*",), path="/v1/*/x"))
    deny = (HttpRule(methods=("*",), path="/repos/*/secret"),)
    shapes = ("api{}.example.com", "*.zone{}.example.net", "http{}.example.org")
    return NetworkPolicy(
        mode="proxy",
        allow=tuple(
            NetworkRule(
                host=shapes[at % 3].format(at),
                http=http if at % 3 == 2 else (),
                deny_http=deny if at % 3 == 2 else (),
                origin=Origin(file="policies.toml", line=at, key="network.allow"),
            )
            for at in range(rules)
        ),
    )


def main() -> None:
    """Print the median of each kind of decision, in microseconds, and the time to compile."""
    began = time.perf_counter()
    rules = Ruleset(policy(RULES))
    print(f"{RULES} rules compiled in {1000 * (time.perf_counter() - began):.0f} ms")
    caller = Caller(pid=1, executable="/usr/bin/curl")
    headers = {f"x-header-{at}": "value" for at in range(12)} | {"host": "http5.example.org"}
    http = HttpRequest(method="GET", path="/repos/a/b", headers=headers)
    asked = {
        "exact host": ("api9000.example.com", None),
        "pattern": ("host.zone7000.example.net", None),
        "unknown host": ("evil.example.info", None),
        "request": ("http5.example.org", http),
        "new unknown host": ("", None),
    }
    for what, (host, request) in asked.items():
        samples = []
        for at in range(_ROUNDS):
            connection = EgressRequest(
                sandbox="s",
                host=host or f"new{at}.example.info",
                port=443,
                protocol="http" if request else "tls",
                caller=caller,
                http=request,
            )
            started = time.perf_counter_ns()
            rules._judge(connection)  # decided anew: answers of late are remembered
            samples.append(time.perf_counter_ns() - started)
        samples.sort()
        median, late = (samples[int(_ROUNDS * part)] / 1000 for part in (0.5, 0.99))
        verdict = "within" if median <= BUDGET else "OVER"
        print(f"{what:<17} {median:6.1f} us, p99 {late:6.1f} us ({verdict} {BUDGET:.0f} us)")


if __name__ == "__main__":
    main()
