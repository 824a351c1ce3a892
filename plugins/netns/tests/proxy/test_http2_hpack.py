"""Field compression that remembers says and hears, octet for octet, what hpack itself would."""

from __future__ import annotations

from typing import Any

import pytest
from hpack import Decoder, Encoder, HeaderTuple, NeverIndexedHeaderTuple
from hypothesis import given, settings
from hypothesis import strategies as st
from nemoclaw_plugin_netns.proxy.http2_hpack import RememberingDecoder, RememberingEncoder

_fields = st.builds(
    lambda kind, name, value: kind(name, value),
    st.sampled_from((HeaderTuple, HeaderTuple, HeaderTuple, NeverIndexedHeaderTuple)),
    st.sampled_from((b":path", b":status", b"x-a", b"x-b", b"authorization")),
    st.sampled_from((b"/", b"200", b"1", b"2" * 40, b"3" * 90)),
)
_steps = st.lists(
    st.one_of(
        st.lists(_fields, max_size=4),
        st.integers(-12, -1),  # what was said some steps ago, again
        st.sampled_from((0, 60, 100, 200, 4096)),  # the table's size
    ),
    max_size=40,
)


@given(_steps)
@settings(deadline=None, max_examples=150)
def test_it_is_as_if_nothing_were_remembered(steps: list[Any]) -> None:
    ours, theirs = RememberingEncoder(), Encoder()
    hears, heard = RememberingDecoder(65536), Decoder()
    said: list[list[HeaderTuple]] = [[HeaderTuple(b":status", b"200")]]
    for step in steps:
        if isinstance(step, int) and step >= 0:
            if step != theirs.header_table_size:  # see below
                ours.header_table_size = theirs.header_table_size = step
            continue
        headers = said[max(step, -len(said))] if isinstance(step, int) else step
        said.append(headers)
        block = ours.encode(headers)
        assert block == theirs.encode(headers)
        got, expected = hears.decode(block, raw=True), heard.decode(block, raw=True)
        assert list(got) == list(expected) == headers
        assert [field.indexable for field in got] == [field.indexable for field in expected]


def test_a_size_that_is_set_twice_is_told() -> None:
    ours, heard = RememberingEncoder(), Decoder()
    headers = [HeaderTuple(b"x", b"y")] * 2
    for size in (0, 60):
        ours.header_table_size = size
        ours.header_table_size = size
        for _ in range(2):
            assert heard.decode(ours.encode(headers), raw=True) == headers


def test_what_is_said_again_is_not_worked_out_again(monkeypatch: pytest.MonkeyPatch) -> None:
    ours, hears = RememberingEncoder(), RememberingDecoder(65536)
    headers = [HeaderTuple(b":path", b"/a"), HeaderTuple(b"x", b"y")]
    for _ in range(2):
        assert hears.decode(ours.encode(headers)) == headers
    secret = [*headers, NeverIndexedHeaderTuple(b"authorization", b"key")]
    assert hears.decode(ours.encode(secret)) == secret

    def worked_out(*arguments: Any) -> Any:
        raise AssertionError

    monkeypatch.setattr(Encoder, "add", worked_out)
    monkeypatch.setattr(Decoder, "_decode_indexed", worked_out)
    for _ in range(2):
        heard = hears.decode(ours.encode(headers))
        assert heard == headers
        heard.clear()  # whoever has it may do with it what he likes
    with pytest.raises(AssertionError):
        ours.encode(secret)
