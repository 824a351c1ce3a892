"""A Content-Length that is not the body's: h2 lets it pass where no DATA frame ends the stream."""

from __future__ import annotations

import time
from typing import Any

import attrs
import h2.events as events
import pytest
from nemoclaw_hookspecs import EgressRequest, EgressVerdict
from nemoclaw_plugin_netns.proxy import http2_guard

from .http2_peers import Asked, World

TRAILERS = [(b"x-t", b"1")]


def test_a_length_without_a_body_reaches_no_server(world: World) -> None:
    client = world.client()
    answer = client.get(b"/x", (b"content-length", b"5"))
    assert answer.status == 400
    assert client.get(b"/y", (b"content-length", b"0")).status == 200
    assert [asked.fields[b":path"] for asked in world.server.asked] == [b"/y"]
    assert [rule for _, rule, _ in world.egress.denials] == ["malformed"]


@pytest.mark.parametrize("body", [b"", b"ab"])
def test_a_body_that_trailers_cut_short_is_reset_on_both_sides(world: World, body: bytes) -> None:
    client = world.client()
    stream = client.request(b"/x", b"POST", (b"content-length", b"5"), body=body, end=False)
    while not world.server.asked or world.server.asked[0].body != body:
        time.sleep(0.005)
    client.h2.send_headers(stream, TRAILERS, end_stream=True)
    client.send()
    assert client.until(stream).reset == http2_guard.PROTOCOL_ERROR
    assert client.get(b"/y").status == 200
    assert (world.server.asked[0].ended, world.server.asked[0].reset) == (
        False,
        http2_guard.PROTOCOL_ERROR,
    )


def test_nothing_of_a_body_that_a_rule_looks_at_is_sent(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    judge = world.egress.judge

    def by_body(request: EgressRequest) -> EgressVerdict:
        verdict = judge(request)
        if request.http is None or request.http.body is not None:
            return verdict
        return attrs.evolve(verdict, action="deny", needs_body=100)

    monkeypatch.setattr(world.egress, "judge", by_body)
    monkeypatch.setattr(type(world.egress), "wants_bodies", True)
    client = world.client()
    stream = client.request(b"/x", b"POST", (b"content-length", b"5"), body=b"ab", end=False)
    client.h2.send_headers(stream, TRAILERS, end_stream=True)
    client.send()
    assert client.until(stream).reset == http2_guard.PROTOCOL_ERROR
    stream = client.request(b"/y", b"POST", body=b"ab")
    assert client.until(stream).status == 200
    assert [asked.fields[b":path"] for asked in world.server.asked] == [b"/y"]
    assert [rule for _, rule, _ in world.egress.denials] == ["malformed"]


def test_a_body_of_its_length_may_have_trailers(world: World) -> None:
    client = world.client()
    stream = client.request(b"/x", b"POST", (b"content-length", b"2"), body=b"ab", end=False)
    client.h2.send_headers(stream, TRAILERS, end_stream=True)
    client.send()
    assert client.until(stream).status == 200
    assert world.server.asked[0].body == b"ab"


def _short(server: Any, conn: Any, asked: Asked, event: Any) -> None:
    """A response that says 5 octets: ``/none`` has no body, ``/cut`` has two and then trailers."""
    if isinstance(event, events.StreamEnded):
        head = [(b":status", asked.fields.get(b"x-status", b"200")), (b"content-length", b"5")]
        cut = asked.fields[b":path"] == b"/cut"
        conn.send_headers(asked.stream, head, end_stream=not cut)
        if cut:
            conn.send_data(asked.stream, b"ab")
            conn.send_headers(asked.stream, TRAILERS, end_stream=True)


def test_a_response_that_is_not_as_long_as_it_says_is_not_passed_on(world: World) -> None:
    world.server.act = _short
    client = world.client()
    assert client.get(b"/none").status == 502
    assert client.get(b"/cut").reset == http2_guard.INTERNAL_ERROR
    assert client.get(b"/none", (b"x-status", b"304")).status == 304
    head = client.until(client.request(b"/none", b"HEAD"))
    assert (head.status, head.fields[b"content-length"]) == (200, b"5")
