"""From the bytes of a DNS query to the bytes of its answer. No socket, and nothing leaves the host.

===============================  ==================================================================
asked for                        answer
===============================  ==================================================================
A, AAAA, ANY of an allowed name  addresses that stand for the name inside the sandbox
HTTPS, SVCB, MX, TXT, SOA ...    no error and no record: clients go on with A and AAAA, and nobody
                                 is offered an Encrypted Client Hello
AXFR, IXFR, TKEY, TSIG ...       NOTIMP
``localhost`` and below it       127.0.0.1 and ::1 (RFC 6761, 6.3)
PTR of our own addresses         the name that the address stands for
search-domain noise              NXDOMAIN, without an event: see :meth:`Responder._is_noise`
everything else                  REFUSED, with one event for each name, and, for clients that speak
                                 EDNS, an Extended DNS Error (RFC 8914) that names the reason
===============================  ==================================================================
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from nemoclaw_hookspecs.egress import EgressRequest

from .refusals import Refusals
from .synthetic import AddressesExhausted, SyntheticAddresses, ipv4, ipv6
from .wire import (
    AAAA,
    ANY,
    ANY_CLASS,
    BADVERS,
    FORMERR,
    IN,
    NOERROR,
    NOTIMP,
    NXDOMAIN,
    OPT,
    PTR,
    REFUSED,
    SERVFAIL,
    A,
    Edns,
    Message,
    MessageError,
    Name,
    read_query,
    write_error,
    write_response,
)

if TYPE_CHECKING:
    from nemoclaw_hookspecs.egress import Egress

TTL = 60
"""Seconds. Short, as the policy may change; an address outlives it tenfold."""
UDP_SIZE = 1232
"""Octets of UDP payload that we take and send (DNS flag day 2020)."""

_EDE = 15  # the option of RFC 8914, and two of its codes
_BLOCKED, _OTHER = 15, 0

Answer = tuple[int, int, bytes]
"""Type, TTL in seconds, data."""


class _Refused(Exception):
    """Carries a response code, and why for whoever reads Extended DNS Errors."""

    def __init__(self, rcode: int, text: str = "", code: int = _BLOCKED) -> None:
        super().__init__(text)
        self.rcode = rcode
        self.error = code.to_bytes(2, "big") + text.encode() if text else b""


class Responder:
    """Answers the DNS queries of one sandbox. For the thread of its network service.

    :param search: search domains that the sandbox's resolv.conf names.
    :param with_ipv6: whether connections to our IPv6 addresses arrive; if not, AAAA is empty.
    :param refusal: response code for a name that no rule allows. REFUSED says what it is. glibc,
        c-ares, Go and Java give up at once, all but c-ares after asking twice, and speak of a
        temporary failure. musl takes only NOERROR and NXDOMAIN for answers and waits for a better
        one for 5 seconds.
    """

    def __init__(
        self,
        egress: Egress,
        addresses: SyntheticAddresses,
        *,
        search: Sequence[str] = (),
        with_ipv6: bool = True,
        refusal: int = REFUSED,
        refusals: Refusals | None = None,
    ) -> None:
        self._egress = egress
        self._addresses = addresses
        self._search = tuple("." + domain.strip(".").lower() for domain in search)
        self._with_ipv6 = with_ipv6
        self._refusal = refusal
        self._refusals = refusals or Refusals()

    def answer(self, data: bytes, *, stream: bool = False) -> bytes | None:
        """The answer to a query, or ``None`` if it is not to be answered at all.

        :param stream: it came over TCP, where an answer of any length may go back.
        """
        try:
            query = read_query(data)
        except MessageError as error:
            return None if error.rcode is None else write_error(data, error.rcode)
        asked = query.edns
        answers: tuple[Answer, ...] = ()
        options: tuple[tuple[int, bytes], ...] = ()
        if asked is not None and asked.version:
            rcode = BADVERS
        else:
            try:
                rcode, answers = NOERROR, self._answers(query)
            except _Refused as refused:
                rcode = refused.rcode
                if refused.error:
                    options = ((_EDE, refused.error),)
        if asked is None:
            limit, edns = 512, None
        else:
            limit = min(max(asked.size, 512), UDP_SIZE)
            edns = Edns(UDP_SIZE, dnssec_ok=asked.dnssec_ok, options=options)
        return write_response(query, rcode, answers, edns=edns, limit=65535 if stream else limit)

    def _answers(self, query: Message) -> tuple[Answer, ...]:
        name, kind, klass, _ = query.questions[0]
        if kind in (0, OPT):
            raise _Refused(FORMERR)
        if 128 <= kind < ANY:  # the meta types of RFC 6895, 3.1: transfers, keys, signatures
            raise _Refused(NOTIMP)
        text = name.text
        if not text:  # the root: resolvers that would like to know the root servers
            raise _Refused(self._refusal)
        if klass not in (IN, ANY_CLASS) or not name.is_hostname:
            raise self._refuse(text, "dns-not-a-host", "this is no name of a host")
        if text == "localhost" or text.endswith(".localhost"):
            return _loopback(kind)
        if text.endswith((".in-addr.arpa", ".ip6.arpa")):
            return self._pointer(text, kind)
        if name.labels[-1].isdigit() or name.labels[-1][:2].lower() == b"0x":
            # What inet_aton(3) reads as an address would be judged as one, under another number.
            raise self._refuse(text, "dns-address", "this is an address and not a name")
        if not self._egress.resolvable(text):
            if self._is_noise(text):
                raise _Refused(NXDOMAIN)
            raise self._refuse(text, "dns-no-rule", "no rule of the policy allows this name")
        return self._synthetic(text, kind)

    def _synthetic(self, name: str, kind: int) -> tuple[Answer, ...]:
        if kind not in (A, AAAA, ANY):
            return ()
        try:
            number = self._addresses.assign(name)
        except AddressesExhausted:
            raise self._refuse(
                name, "dns-exhausted", "too many names were asked for lately", SERVFAIL, _OTHER
            ) from None
        answers: list[Answer] = []
        if kind != AAAA:
            answers.append((A, TTL, ipv4(number)))
        if kind != A and self._with_ipv6:
            answers.append((AAAA, TTL, ipv6(number)))
        return tuple(answers)

    def _pointer(self, text: str, kind: int) -> tuple[Answer, ...]:
        address = _reversed(text)
        name = None
        if address in ("127.0.0.1", "0000:0000:0000:0000:0000:0000:0000:0001"):
            name = "localhost"
        elif address:
            name = self._addresses.lookup(address)
        if name is None:
            raise self._refuse(text, "dns-reverse", "this address stands for no name")
        return ((PTR, TTL, Name.of(name).encode()),) if kind in (PTR, ANY) else ()

    def _is_noise(self, name: str) -> bool:
        """Whether a resolver asks this of its own accord, on the way to the name that was meant.

        A name of one label that no rule has, and an otherwise sensible name with a search domain
        behind it: ``api.example.org.corp.example``. NXDOMAIN makes every resolver go on to what was
        meant, which leaves an event if it is refused. ``db.corp.example`` is not noise.
        """
        if "." not in name:
            return True
        for domain in self._search:
            if name.endswith(domain):
                meant = name[: -len(domain)]
                return "." in meant or meant == "localhost"
        return False

    def _refuse(
        self, name: str, rule: str, reason: str, rcode: int = -1, code: int = _BLOCKED
    ) -> _Refused:
        """Tell it if it is new, and say what to answer."""
        note = self._refusals.note(self._egress.generation, name)
        if note == "tell":
            self._tell(name, rule, reason)
        elif note == "flood":
            count = self._refusals.suppressed()
            rule = "dns-flood"
            self._tell(name, rule, f"{count} new names were refused that no event tells of")
        if note in ("flood", "over"):
            return _Refused(SERVFAIL, "too many names were refused lately", _OTHER)
        return _Refused(self._refusal if rcode < 0 else rcode, reason, code)

    def _tell(self, name: str, rule: str, reason: str) -> None:
        request = EgressRequest(sandbox=self._egress.sandbox, host=name, port=53, protocol="tcp")
        self._egress.denied(request, rule, reason)


def _loopback(kind: int) -> tuple[Answer, ...]:
    answers: list[Answer] = []
    if kind in (A, ANY):
        answers.append((A, TTL, b"\x7f\0\0\1"))
    if kind in (AAAA, ANY):
        answers.append((AAAA, TTL, bytes(15) + b"\1"))
    return tuple(answers)


def _reversed(text: str) -> str:
    """The address that a name below in-addr.arpa or ip6.arpa means; empty if it is not whole."""
    labels = text.split(".")[-3::-1]
    if text.endswith(".in-addr.arpa"):
        return ".".join(labels) if len(labels) == 4 else ""
    digits = "".join(labels)
    if len(labels) != 32 or len(digits) != 32:
        return ""
    return ":".join(digits[i : i + 4] for i in range(0, 32, 4))
