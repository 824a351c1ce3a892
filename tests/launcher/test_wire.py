"""Messages arrive whole, with their descriptors, or not at all."""

from __future__ import annotations

import os
import threading

import pytest

from nemoclaw_core.launcher import wire


def test_a_request_brings_its_descriptors() -> None:
    ours, theirs = wire.pair()
    reader, writer = os.pipe()
    wire.send_request(ours, ("run", 1, {"argv": ["x"], "data": b"\0"}), (writer,))
    os.close(writer)
    value, descriptors = wire.receive_request(theirs)
    assert value == ("run", 1, {"argv": ["x"], "data": b"\0"})
    os.write(descriptors[0], b"through")
    os.close(descriptors[0])
    assert os.read(reader, 100) == b"through"
    os.close(reader)


def test_descriptors_are_closed_on_exec() -> None:
    ours, theirs = wire.pair()
    wire.send_request(ours, 1, (0,))
    _, (descriptor,) = wire.receive_request(theirs)
    assert not os.get_inheritable(descriptor)
    os.close(descriptor)


def test_a_large_request_arrives_whole() -> None:
    ours, theirs = wire.pair()
    value = ["x" * 3_000_000, list(range(1000))]
    sender = threading.Thread(target=wire.send_request, args=(ours, value))
    sender.start()
    assert wire.receive_request(theirs) == (value, [])
    sender.join()


def test_the_end_is_told() -> None:
    ours, theirs = wire.pair()
    ours.close()
    with pytest.raises(EOFError):
        wire.receive_request(theirs)
    assert wire.receive_report(theirs) is None


def test_half_a_message_is_an_error() -> None:
    ours, theirs = wire.pair()
    ours.send(b"\x10\0\0\0\0\0\0\0half")
    ours.close()
    with pytest.raises(EOFError):
        wire.receive_request(theirs)


def test_an_oversized_message_is_refused_before_it_is_read() -> None:
    ours, theirs = wire.pair()
    ours.send((1 << 62).to_bytes(8, "little"))
    with pytest.raises(OSError, match="too large"):
        wire.receive_request(theirs)


def test_too_many_descriptors_are_refused_and_none_is_kept() -> None:
    ours, theirs = wire.pair()
    before = set(os.listdir("/proc/self/fd"))
    wire.send_request(ours, 1, (0,) * (wire.MAX_DESCRIPTORS + 4))
    with pytest.raises(OSError, match="lost"):
        wire.receive_request(theirs)
    assert set(os.listdir("/proc/self/fd")) == before


def test_a_report_is_bounded_text_and_nothing_else() -> None:
    ours, theirs = wire.pair()
    wire.send_report(ours, wire.FAILED, 3, 13, "x" * 100_000)
    report = wire.receive_report(theirs)
    assert report is not None
    kind, number, value, text, descriptors = report
    assert (kind, number, value, descriptors) == (wire.FAILED, 3, 13, [])
    assert text == "x" * 4096
