"""One host is named to the proxy, and another one meant."""

from __future__ import annotations

import re
import socket
import ssl

from .registry import SECONDS, Stage, Stopped, attack, listen


def over_tls(stage: Stage, connection: socket.socket, name: str, host: str) -> str:
    """A request inside of TLS, with whatever certificate."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    with context.wrap_socket(connection, server_hostname=name or None) as secure:
        secure.sendall(stage.head("/open/x", f"{host}:{stage.secure}", "Connection: close"))
        said = listen(secure)
    if not said.startswith("HTTP/1.1 2"):
        raise Stopped(said[:600])
    return said


def _over_sni(stage: Stage, name: str, host: str) -> str:
    place, port = stage.transparent or (name, stage.secure)
    with socket.create_connection((place, port), SECONDS) as connection:
        return over_tls(stage, connection, name, host)


@attack("hosts")
def fronting(stage: Stage) -> str:
    """Domain fronting: the TLS hello names an allowed host, the request inside another."""
    return _over_sni(stage, "judged.test", "other.test")


@attack("hosts")
def fronting_in_a_tunnel(stage: Stage) -> str:
    """Domain fronting inside of CONNECT to an allowed host."""
    with stage.tunnel(f"judged.test:{stage.secure}") as connection:
        return over_tls(stage, connection, "judged.test", "other.test")


@attack(
    "hosts",
    limit='TLS that passes through is not read; `tls = "terminate"` or `http` in the rule does',
)
def fronting_where_tls_passes(stage: Stage) -> str:
    """Domain fronting through a rule that lets TLS pass."""
    return _over_sni(stage, "api.test", "other.test")


@attack("hosts", stopped="reset")
def hello_of_another(stage: Stage) -> str:
    """CONNECT names an allowed host, the TLS hello another."""
    with stage.tunnel(f"api.test:{stage.secure}") as connection:
        return over_tls(stage, connection, "other.test", "other.test")


@attack("hosts", stopped="reset")
def hello_of_nobody(stage: Stage) -> str:
    """CONNECT names an allowed host, the TLS hello none, the request inside another."""
    with stage.tunnel(f"api.test:{stage.secure}") as connection:
        return over_tls(stage, connection, "", "other.test")


@attack("hosts")
def host_field_allowed(stage: Stage) -> str:
    """The URL names another host than the allowed one of the Host field."""
    target = f"http://other.test:{stage.plain}/open/x"
    return stage.ask(stage.head(target, f"judged.test:{stage.plain}"))


@attack("hosts", stopped="more than one Host field")
def host_twice(stage: Stage) -> str:
    """Two Host fields in a tunnel: the proxy reads the first, the server the last."""
    data = stage.head("/open/x", "judged.test", f"Host: other.test:{stage.plain}")
    return stage.ask(data, stage.tunnel(f"judged.test:{stage.plain}"))


@attack("hosts")
def host_in_a_tunnel(stage: Stage) -> str:
    """CONNECT names an allowed host, the request inside another."""
    data = stage.head("/open/x", f"other.test:{stage.plain}")
    return stage.ask(data, stage.tunnel(f"judged.test:{stage.plain}"))


@attack("hosts")
def url_in_a_tunnel(stage: Stage) -> str:
    """CONNECT names an allowed host, and so does the Host field, but the URL another."""
    data = stage.head(f"http://other.test:{stage.plain}/open/x", f"judged.test:{stage.plain}")
    return stage.ask(data, stage.tunnel(f"judged.test:{stage.plain}"))


@attack("hosts")
def forwarded_host(stage: Stage) -> str:
    """Another host in X-Forwarded-Host, which some servers believe."""
    place = f"judged.test:{stage.plain}"
    more = f"X-Forwarded-Host: other.test:{stage.plain}"
    return stage.ask(stage.head(f"http://{place}/open/x", place, more))


@attack("hosts")
def second_request(stage: Stage) -> str:
    """The first request on a connection is for an allowed host, the second for another."""
    first = stage.head("/open/x", f"judged.test:{stage.plain}")
    second = stage.head("/open/x", f"other.test:{stage.plain}")
    return stage.ask(first + second, stage.tunnel(f"judged.test:{stage.plain}"))


@attack("hosts", stopped="not a host and a port")
def user_in_the_url(stage: Stage) -> str:
    """The allowed host is the user name of a URL."""
    target = f"http://judged.test:{stage.plain}@other.test:{stage.plain}/open/x"
    return stage.ask(stage.head(target, f"judged.test:{stage.plain}"))


@attack("hosts", stopped="no-rule")
def redirect(stage: Stage) -> str:
    """An allowed server sends on to another host."""
    place = f"judged.test:{stage.plain}"
    with stage.dial() as connection:
        connection.sendall(stage.head(f"http://{place}/open/away", place))
        said = listen(connection)
    found = re.search("Location: (http://(.*)/secret/x)", said)
    return said if found is None else stage.ask(stage.head(found[1], found[2]))


def _named(name: str, written: str, stopped: str, claim: str) -> None:
    @attack("hosts", name, claim, stopped=stopped)
    def run(stage: Stage) -> str:
        place = f"{written}:{stage.plain}"
        return stage.ask(stage.head("/open/x", place), stage.tunnel(place))


_named("wildcard_beside", "evilwild.test", "no-rule",
       "A host whose name ends like a pattern: evilwild.test for *.wild.test.")  # fmt: skip
_named("wildcard_before", "a.wild.test.evil.test", "no-rule",
       "A host whose name begins like an allowed one: a.wild.test.evil.test.")  # fmt: skip
_named("wildcard_deeper", "a.b.wild.test", "no-rule",
       "A host that is deeper than a pattern: a.b.wild.test for *.wild.test.")  # fmt: skip
_named("homograph", "xn--pi-6kc.test", "no-rule",
       "A host that looks like an allowed one: a Cyrillic letter in аpi.test.")  # fmt: skip


def _denied(name: str, written: str, stopped: str, claim: str) -> None:
    @attack("hosts", name, claim, stopped=stopped)
    def run(stage: Stage) -> str:
        data = stage.head("/open/x", f"victim.wild.test:{stage.plain}")
        return stage.ask(data, stage.tunnel(f"{written}:{stage.plain}"))


_denied("case", "VICTIM.wild.Test", "deny-http", "A denied host in capitals.")
_denied("last_dot", "victim.wild.test.", "deny-http", "A denied host with a dot at its end.")
_denied("fullwidth", "ｖictim.wild.test", "malformed_request",
        "A denied host with a fullwidth letter.")  # fmt: skip
_denied("full_stop", "victim。wild.test", "malformed_request",
        "A denied host with an ideographic full stop.")  # fmt: skip


def _literal(name: str, written: str) -> None:
    claim = f"The host's loopback, written `{written}`."

    @attack("literals", name, claim, policy="wide")
    def run(stage: Stage) -> str:
        place = f"{written}:{stage.plain}"
        return stage.ask(stage.head("/open/x", place), stage.tunnel(place))


for _name, _written in {
    "decimal": "2130706433",
    "octal": "0177.0.0.1",
    "hexadecimal": "0x7f000001",
    "hexadecimal_parts": "0x7f.0.0.0x1",
    "short": "127.1",
    "leading_zeros": "127.000.000.001",
    "last_dot": "127.0.0.1.",
    "name": "localhost",
    "name_last_dot": "LOCALHOST.",
    "name_of_loopback": "loopback.open.test",
    "mapped": "[::ffff:127.0.0.1]",
    "mapped_hexadecimal": "[::ffff:7f00:1]",
}.items():
    _literal(_name, _written)


@attack("literals", policy="wide", stopped="malformed-host")
def zone(stage: Stage) -> str:
    """The host's loopback as an IPv6 address with a zone: [::1%1]."""
    return stage.ask(stage.head("/open/x", "[::1]"), stage.tunnel(f"[::1%1]:{stage.plain}"))


@attack("literals", policy="wide")
def any_address(stage: Stage) -> str:
    """The host's loopback as the address of no host: 0."""
    return stage.ask(stage.head("/open/x", "0"), stage.tunnel(f"0:{stage.plain}"))
