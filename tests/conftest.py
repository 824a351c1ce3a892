"""What holds for every test."""

from __future__ import annotations

import signal
from collections.abc import Iterator

import pytest


@pytest.fixture(autouse=True, scope="session")
def signals_as_in_a_login() -> Iterator[None]:
    """Undo what a shell does to its background jobs: it ignores SIGINT and SIGQUIT for them.

    What is ignored stays so in every program that the tests start, which is right, and in the way
    of those that are about signals.
    """
    before = signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGQUIT)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGQUIT, signal.SIG_DFL)
    yield
    for number, handler in zip((signal.SIGINT, signal.SIGQUIT), before, strict=True):
        signal.signal(number, handler)
