"""The codes of denials, and what they mean."""

from __future__ import annotations

REASONS = {
    "malformed-host": "the host can be read in more than one way, or in none",
    "mode": "the policy's network.mode is none",
    "no-rule": "no rule names the host",
    "metadata": "it is a metadata service, and no rule names it exactly",
    "address": "the address is not public, or no server's",
    "port": "the host's rules are for other ports",
    "binary": "the host's rules are for other executables",
    "caller-unknown": "the host's rules are for certain executables, and the caller is not known",
    "host-mismatch": "the request is for another host than the connection",
    "malformed-path": "the path can be read in more than one way, or in none",
    "malformed-query": "a rule looks at the query, which can be read in more than one way",
    "malformed-body": "a rule looks into the body or message, which cannot be read for certain",
    "deny-http": "a rule denies the request",
    "method": "the host's rules allow other methods for the path",
    "path": "the host's rules allow other paths",
    "websocket": "the path's rules are for WebSockets alone, or for everything else",
    "query": "the path's rules allow other queries",
    "body": "a rule looks into the body, which is too large, or cannot be shown to it",
    "rpc": "the path's rules allow other calls of JSON-RPC",
    "graphql": "the path's rules allow other operations of GraphQL",
    "operator": "an operator has denied it",
    "no-answer": "an operator was asked, and has not answered in time",
    "too-many-held": "too many connections wait for an operator already",
    "withdrawn": "the client has gone while an operator was asked",
}
"""What ``EgressVerdict.rule`` is in a denial, and what it means."""
