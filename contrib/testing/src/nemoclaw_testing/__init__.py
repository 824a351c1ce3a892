"""What a plugin's tests need: contract suites, values, and runs that cannot be undone.

A suite is two lines::

    class TestContract(FsLayerContract):
        plugin = nemoclaw_plugin_mine
"""

from __future__ import annotations

import pytest

# Before the import below, so that a failing clause shows its values.
pytest.register_assert_rewrite("nemoclaw_testing.contracts")

from .contracts import (  # noqa: E402
    FsLayerContract,
    LayerContract,
    NetLayerContract,
    SyscallLayerContract,
)
from .filters import install_filter  # noqa: E402
from .forked import ForkedError, run_forked  # noqa: E402
from .values import HOSTS, make_host, make_policy, make_rule  # noqa: E402

__all__ = [
    "HOSTS",
    "ForkedError",
    "FsLayerContract",
    "LayerContract",
    "NetLayerContract",
    "SyscallLayerContract",
    "install_filter",
    "make_host",
    "make_policy",
    "make_rule",
    "run_forked",
]
