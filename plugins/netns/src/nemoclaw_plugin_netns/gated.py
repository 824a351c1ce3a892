"""A network whose only way out is the gate, as seal operations: a pure function.

Every address ends in the namespace itself. TCP and DNS arrive at sockets that are born there and
served by the supervisor outside; everything else is refused at once.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from nemoclaw_hookspecs import (
    FileMount,
    Gap,
    Host,
    Layer,
    LinkUp,
    Listen,
    Netlink,
    NetworkPolicy,
    NetworkRule,
    Operation,
    Unshare,
)

from .ports import DNS, PROXY, SOCKETS, TCP

if TYPE_CHECKING:
    from .netlink import Message

# The host's own would lead names past the gate, to addresses that no rule names.
_HOSTS = "127.0.0.1 localhost\n::1 localhost ip6-localhost ip6-loopback\n"
_URL = f"http://127.0.0.1:{PROXY}"
_LOCAL = "localhost,127.0.0.1,::1"
# For programs that ask for a proxy; those that do not are served all the same.
_PROXY = {
    "HTTP_PROXY": _URL,
    "HTTPS_PROXY": _URL,
    "NO_PROXY": _LOCAL,
    "http_proxy": _URL,
    "https_proxy": _URL,
    "no_proxy": _LOCAL,
    "NODE_USE_ENV_PROXY": "1",
}
# Variables by which programs are told of a file of authorities that is not their own.
_BUNDLES = (
    "SSL_CERT_FILE",
    "REQUESTS_CA_BUNDLE",
    "CURL_CA_BUNDLE",
    "GIT_SSL_CAINFO",
    "NODE_EXTRA_CA_CERTS",
    "DENO_CERT",
    "NIX_SSL_CERT_FILE",
    "AWS_CA_BUNDLE",
    "PIP_CERT",
    "CARGO_HTTP_CAINFO",
)
_NO_REDIRECTION = (
    "without nftables on this host, programs inside reach what the policy allows only if they ask "
    "the proxy that HTTPS_PROXY and its like name; for others no name resolves and no address is "
    "there (`nemoclaw doctor` says what is missing)"
)
AUTHORITY = "nemoclaw_plugin_netns.service:make_authority"
SERVICE = "nemoclaw_plugin_netns.service:open_service"


def build(network: NetworkPolicy, host: Host) -> Layer:
    """The layer of a policy with ``mode = "proxy"``."""
    # Costs a sixth of a second: when a plan is compiled, and never when it is carried out.
    from . import netlink

    origin = str(network.origins.get("mode", ""))
    operations: list[Operation] = [
        Unshare(namespaces=("network",), origin=origin),
        LinkUp(interface="lo", origin=origin),
    ]
    if host.nftables:
        routes, rules = netlink.addresses() + netlink.routes(), netlink.rules(TCP, DNS)
        operations.append(_netlink("route", routes, origin))
        operations.append(_netlink("netfilter", rules, origin))
    operations.extend(
        Listen(name=name, kind=kind, address=address, port=port, origin=origin)
        for name, kind, address, port in SOCKETS
        # Without redirection nothing arrives but what asks for the proxy.
        if host.nftables or name in ("proxy", "diag")
    )
    environment = dict(_PROXY)
    gaps: list[Gap] = []
    viewed = "mount" in host.namespaces
    if viewed:
        hosts = FileMount(target="/etc/hosts", content=_HOSTS, optional=True, origin=origin)
        operations.append(hosts)
    inspecting = next(filter(inspects, network.allow), None)
    trusted = inspecting is not None and viewed and bool(host.ca_bundle)
    if inspecting is not None and not trusted:
        gaps.append(_distrusted(inspecting, viewed))
    if trusted:
        operations.append(FileMount(target=host.ca_bundle, generated="authorities", origin=origin))
        environment.update(dict.fromkeys(_BUNDLES, host.ca_bundle))
    return Layer(
        operations=tuple(operations),
        gaps=tuple(gaps),
        notes=() if host.nftables else (_NO_REDIRECTION,),
        service=SERVICE,
        authority=AUTHORITY if trusted else "",
        environment=environment,
    )


def inspects(rule: NetworkRule) -> bool:
    """Whether TLS to a rule's host is terminated here."""
    judged = bool(rule.http or rule.deny_http or rule.credential)
    return rule.tls == "terminate" or (judged and rule.tls != "passthrough")


def _distrusted(rule: NetworkRule, viewed: bool) -> Gap:
    return Gap(
        what=f"inspecting TLS (rule {rule.name or rule.host})",
        consequence="programs inside do not trust the sandbox's own certificate authority: their "
        "connections to the rule's host fail",
        remedy="install the package ca-certificates"
        if viewed
        else "allow user namespaces on this host (`nemoclaw doctor` says how)",
        origin=str(rule.origin),
    )


def _netlink(
    protocol: Literal["route", "netfilter"], messages: tuple[Message, ...], origin: str
) -> Netlink:
    return Netlink(
        protocol=protocol,
        messages=tuple(message.data for message in messages),
        texts=tuple(message.text for message in messages),
        origin=origin,
    )
