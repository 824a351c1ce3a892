"""What is answered: allowed names alone get an address, and each refusal leaves one event."""

from __future__ import annotations

import struct

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from nemoclaw_hookspecs.egress import EgressRequest, EgressVerdict
from nemoclaw_plugin_netns.dns.refusals import Refusals
from nemoclaw_plugin_netns.dns.responder import Responder
from nemoclaw_plugin_netns.dns.synthetic import SyntheticAddresses
from nemoclaw_plugin_netns.dns.wire import (
    AAAA,
    ANY,
    FORMERR,
    HTTPS,
    NOERROR,
    NOTIMP,
    NS,
    NXDOMAIN,
    PTR,
    REFUSED,
    SERVFAIL,
    SOA,
    SVCB,
    TXT,
    A,
    Edns,
    Message,
    Name,
    read_message,
    write_query,
)


class Gate:
    """An egress that allows some names and remembers what it was told."""

    sandbox = "test"

    def __init__(self, *allowed: str) -> None:
        self.allowed = allowed
        self.generation = 1
        self.asked: list[str] = []
        self.events: list[tuple[str, str]] = []
        self.reasons: list[str] = []

    def resolvable(self, name: str) -> bool:
        self.asked.append(name)
        return any(
            name == each or (each[0] == "*" and name.endswith(each[1:])) for each in self.allowed
        )

    def denied(self, request: EgressRequest, rule: str, reason: str) -> None:
        assert request.sandbox == "test"
        self.events.append((request.host, rule))
        self.reasons.append(reason)

    def judge(self, request: EgressRequest) -> EgressVerdict:
        raise AssertionError("DNS decides nothing about connections")

    async def authorize(self, request: EgressRequest) -> EgressVerdict:
        raise AssertionError("DNS decides nothing about connections")

    async def dial(self, verdict: EgressVerdict) -> None:
        raise AssertionError("DNS dials nothing")


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def gate() -> Gate:
    return Gate("api.example.org", "*.wild.example", "intranet", "_x.example.org")


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def responder(gate: Gate, clock: Clock) -> Responder:
    return Responder(
        gate,  # type: ignore[arg-type]
        SyntheticAddresses(clock=clock),
        search=("corp.example",),
        refusals=Refusals(clock=clock),
    )


def ask(responder: Responder, name: str, kind: int = A, edns: Edns | None = None) -> Message:
    data = responder.answer(write_query(9, Name.of(name), kind, edns))
    assert data is not None
    answer = read_message(data)
    assert answer.id == 9
    assert answer.is_response
    return answer


def test_an_allowed_name_gets_an_address_that_stands_for_it(responder: Responder) -> None:
    (four,) = ask(responder, "api.example.org").answers
    assert (four.kind, four.ttl, four.data) == (A, 60, b"\xc6\x12\0\1")
    (six,) = ask(responder, "api.example.org", AAAA).answers
    assert six.data == bytes.fromhex("fd006e636c61007700000000c6120001")
    assert {each.kind for each in ask(responder, "api.example.org", ANY).answers} == {A, AAAA}


def test_letter_case_comes_back_and_means_nothing(responder: Responder, gate: Gate) -> None:
    answer = ask(responder, "ApI.eXaMpLe.oRg")
    assert answer.questions[0].name.labels == (b"ApI", b"eXaMpLe", b"oRg")
    assert answer.answers[0].data == ask(responder, "api.example.org").answers[0].data
    assert set(gate.asked) == {"api.example.org"}


@pytest.mark.parametrize("kind", [HTTPS, SVCB, SOA, NS, TXT, PTR, 15, 33, 257])
def test_other_types_of_an_allowed_name_are_empty(responder: Responder, kind: int) -> None:
    answer = ask(responder, "api.example.org", kind)
    assert (answer.rcode, answer.answers, answer.authority) == (NOERROR, (), ())


@pytest.mark.parametrize("kind", [128, 249, 250, 251, 252, 253, 254])
def test_transfers_and_keys_are_not_implemented(
    responder: Responder, gate: Gate, kind: int
) -> None:
    assert ask(responder, "api.example.org", kind).rcode == NOTIMP
    assert ask(responder, "secret.evil.example", kind).rcode == NOTIMP
    assert gate.asked == []


@pytest.mark.parametrize("kind", [0, 41])
def test_types_that_nobody_may_ask_for_are_malformed(responder: Responder, kind: int) -> None:
    assert ask(responder, "api.example.org", kind).rcode == FORMERR


@pytest.mark.parametrize("kind", [A, AAAA, HTTPS, TXT, ANY])
def test_other_names_are_refused_with_one_event(
    responder: Responder, gate: Gate, kind: int
) -> None:
    for _ in range(5):
        answer = ask(responder, "c2VjcmV0.evil.example", kind)
        assert (answer.rcode, answer.answers) == (REFUSED, ())
    assert gate.events == [("c2vjcmv0.evil.example", "dns-no-rule")]


def test_an_edns_client_is_told_why(responder: Responder) -> None:
    answer = ask(responder, "evil.example", A, Edns(4096, dnssec_ok=True))
    assert answer.edns is not None
    assert (answer.edns.size, answer.edns.dnssec_ok) == (1232, True)
    ((code, value),) = answer.edns.options
    assert code == 15
    assert value == b"\0\x0fno rule of the policy allows this name"
    assert ask(responder, "evil.example").edns is None
    edns = ask(responder, "api.example.org", A, Edns(0)).edns
    assert edns == Edns(1232)


def test_an_unknown_version_of_edns_is_said_to_be_so(responder: Responder, gate: Gate) -> None:
    assert ask(responder, "api.example.org", A, Edns(1232, version=1)).rcode == 16
    assert gate.asked == []


def test_a_new_policy_makes_a_refusal_news_again(
    responder: Responder, gate: Gate, clock: Clock
) -> None:
    ask(responder, "evil.example")
    gate.generation = 2
    ask(responder, "evil.example")
    ask(responder, "evil.example", AAAA)
    assert len(gate.events) == 2
    clock.now += 301
    ask(responder, "evil.example")
    assert len(gate.events) == 3


def test_a_flood_of_names_is_told_as_one(responder: Responder, gate: Gate, clock: Clock) -> None:
    codes = [ask(responder, f"x{index}.evil.example").rcode for index in range(3000)]
    assert codes == [REFUSED] * 1000 + [SERVFAIL] * 2000
    assert len(gate.events) == 1001
    assert gate.events[-1] == ("x1000.evil.example", "dns-flood")
    assert ask(responder, "api.example.org").rcode == NOERROR
    clock.now += 0.01
    ask(responder, "x.evil.example")
    clock.now += 10
    for index in range(300):
        ask(responder, f"y{index}.evil.example")
    assert gate.events[1001:-1] == [(f"y{i}.evil.example", "dns-no-rule") for i in range(200)]
    assert gate.events[-1][1] == "dns-flood"
    assert gate.reasons[-1].startswith("2001 new names")


ODD: dict[str, tuple[bytes, str]] = {
    "a dot in a label": (b"\x0fapi.example.org\0", "dns-not-a-host"),
    "a zero octet": (b"\x03api\x0cexample.org\0\0", "dns-not-a-host"),
    "a space": (b"\x01 \x07example\x03org\0", "dns-not-a-host"),
    "a wildcard itself": (b"\x01*\x04wild\x07example\0", "dns-not-a-host"),
    "an address": (b"\x03127\x010\x010\x011\0", "dns-address"),
    "a number": (b"\x0a2130706433\0", "dns-address"),
    "a hexadecimal number": (b"\x0a0x7f000001\0", "dns-address"),
}


@pytest.mark.parametrize("name", ODD)
def test_names_that_could_be_taken_for_others_are_refused(
    responder: Responder, gate: Gate, name: str
) -> None:
    wire, rule = ODD[name]
    gate.allowed += ("127.0.0.1", "2130706433", "0x7f000001")
    data = responder.answer(struct.pack("!6H", 9, 256, 1, 0, 0, 0) + wire + b"\0\x01\0\x01")
    assert data is not None
    assert read_message(data).rcode == REFUSED
    assert [event[1] for event in gate.events] == [rule]


def test_another_class_is_refused(responder: Responder, gate: Gate) -> None:
    question = Name.of("version.bind").encode() + b"\0\x10\0\x03"
    data = responder.answer(struct.pack("!6H", 9, 256, 1, 0, 0, 0) + question)
    assert data is not None
    assert read_message(data).rcode == REFUSED
    assert len(gate.events) == 1


@pytest.mark.parametrize("name", ["localhost", "LOCALHOST", "app.localhost", "a.b.localhost"])
def test_localhost_is_the_sandboxs_own(responder: Responder, gate: Gate, name: str) -> None:
    assert [each.data for each in ask(responder, name).answers] == [b"\x7f\0\0\1"]
    assert [each.data for each in ask(responder, name, AAAA).answers] == [bytes(15) + b"\1"]
    assert ask(responder, name, HTTPS).answers == ()
    assert gate.asked == []


def test_our_addresses_have_names(responder: Responder, gate: Gate) -> None:
    ask(responder, "api.example.org")
    six = ".".join(reversed("fd006e636c61007700000000c6120001")) + ".ip6.arpa"
    for reverse, name in {
        "1.0.18.198.in-addr.arpa": "api.example.org",
        six: "api.example.org",
        "1.0.0.127.in-addr.arpa": "localhost",
        "1." + "0." * 31 + "ip6.arpa": "localhost",
    }.items():
        (record,) = ask(responder, reverse, PTR).answers
        assert record.data == Name.of(name).encode()
        assert ask(responder, reverse, A).answers == ()
    assert gate.events == []


@pytest.mark.parametrize(
    "reverse",
    [
        "2.0.18.198.in-addr.arpa",
        "8.8.8.8.in-addr.arpa",
        "1.0.18.in-addr.arpa",
        "x.1.0.18.198.in-addr.arpa",
        "c2vjcmv0.0.18.198.in-addr.arpa",
        "::.in-addr.arpa".replace("::", "c"),
        "01.0.18.198.in-addr.arpa",
        "ip6.arpa.ip6.arpa",
        "f" * 32 + ".ip6.arpa",
    ],
)
def test_other_addresses_have_none(responder: Responder, gate: Gate, reverse: str) -> None:
    gate.allowed += ("*.arpa",)
    ask(responder, "api.example.org")
    assert ask(responder, reverse, PTR).rcode == REFUSED
    assert gate.events == [(reverse, "dns-reverse")]


@pytest.mark.parametrize(
    "name", ["wpad", "myhost", "api.example.org.corp.example", "evil.example.corp.example"]
)
def test_noise_of_resolvers_leaves_no_event(responder: Responder, gate: Gate, name: str) -> None:
    assert ask(responder, name).rcode == NXDOMAIN
    assert gate.events == []


def test_a_name_of_the_search_domain_itself_is_no_noise(responder: Responder, gate: Gate) -> None:
    assert ask(responder, "db.corp.example").rcode == REFUSED
    assert len(gate.events) == 1


def test_a_rule_may_name_a_single_label(responder: Responder) -> None:
    assert len(ask(responder, "intranet").answers) == 1
    assert len(ask(responder, "_x.example.org").answers) == 1


def test_the_root_is_refused_quietly(responder: Responder, gate: Gate) -> None:
    assert ask(responder, ".", NS).rcode == REFUSED
    assert gate.events == []


def test_exhausted_addresses_are_a_failure_and_no_wrong_answer(gate: Gate, clock: Clock) -> None:
    responder = Responder(
        gate,  # type: ignore[arg-type]
        SyntheticAddresses(capacity=64, clock=clock),
        refusals=Refusals(clock=clock),
    )
    codes = [ask(responder, f"n{index}.wild.example").rcode for index in range(60)]
    assert codes == [NOERROR] * 48 + [SERVFAIL] * 12
    assert {rule for _, rule in gate.events} == {"dns-exhausted"}
    assert ask(responder, "api.example.org").rcode == NOERROR


def test_without_ipv6_nobody_is_sent_there(gate: Gate) -> None:
    responder = Responder(gate, SyntheticAddresses(), with_ipv6=False)  # type: ignore[arg-type]
    answer = ask(responder, "api.example.org", AAAA)
    assert (answer.rcode, answer.answers) == (NOERROR, ())
    assert len(ask(responder, "api.example.org", ANY).answers) == 1


def test_a_response_is_never_answered(responder: Responder) -> None:
    data = bytearray(write_query(9, Name.of("api.example.org"), A))
    data[2] |= 0x80
    assert responder.answer(bytes(data)) is None
    assert responder.answer(b"") is None


@settings(max_examples=200)
@given(st.binary(max_size=300))
def test_an_answer_to_any_bytes_is_a_message_no_longer_than_allowed(data: bytes) -> None:
    responder = Responder(Gate("*"), SyntheticAddresses())  # type: ignore[arg-type]
    answer = responder.answer(data)
    if answer is not None:
        assert read_message(answer).is_response
        assert len(answer) <= 512
        assert answer[:2] == data[:2]
