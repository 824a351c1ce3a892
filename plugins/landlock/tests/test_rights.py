"""The constants are the kernel's, and an ABI version handles what it has."""

from __future__ import annotations

import ctypes
import os
import re

import pytest
from landlock import FSAccess  # type: ignore[import-untyped]
from nemoclaw_plugin_landlock import rights

HEADER = "/usr/include/linux/landlock.h"
PREFIXES = {
    "LANDLOCK_ACCESS_FS_": "",
    "LANDLOCK_ACCESS_NET_": "NET_",
    "LANDLOCK_SCOPE_": "SCOPE_",
    "LANDLOCK_RESTRICT_SELF_": "",
}


@pytest.mark.skipif(not os.path.exists(HEADER), reason="no kernel headers here")
def test_constants_are_those_of_the_kernel_header() -> None:
    with open(HEADER) as file:
        defined = re.findall(r"#define (LANDLOCK_\w+)\s+\(1U(?:LL)? << (\d+)\)", file.read())
    compared = 0
    for name, bit in defined:
        for prefix, ours in PREFIXES.items():
            if name.startswith(prefix) and hasattr(rights, ours + name[len(prefix) :]):
                assert getattr(rights, ours + name[len(prefix) :]) == 1 << int(bit), name
                compared += 1
    assert compared >= 14


def test_constants_are_those_of_the_landlock_package() -> None:
    for flag in FSAccess:
        assert getattr(rights, flag.name) == int(flag)


def test_every_right_up_to_an_abi_is_handled() -> None:
    assert rights.handled(1, network=True) == rights.Handled(fs=0x1FFF, net=0, scoped=0, flags=0)
    assert rights.handled(2, network=True).fs == 0x3FFF
    assert rights.handled(3, network=True).fs == 0x7FFF
    assert rights.handled(4, network=True).net == 3
    assert rights.handled(5, network=True).fs == 0xFFFF
    assert rights.handled(6, network=True).scoped == 3
    assert rights.handled(6, network=True).flags == 0
    assert rights.handled(7, network=True).flags == rights.LOG_NEW_EXEC_ON
    assert rights.handled(9, network=True).fs == 0x1FFFF
    assert rights.handled(10, network=True).net == 15


def test_an_abi_newer_than_this_plugin_is_used_as_far_as_it_is_known() -> None:
    assert rights.handled(99, network=True) == rights.handled(10, network=True)


def test_the_kernel_takes_all_that_is_handled_and_has_nothing_more(kernel_abi: int) -> None:
    if kernel_abi > 10:
        pytest.skip("this kernel may know rights that this plugin does not")
    libc = ctypes.CDLL(None, use_errno=True)
    ours = rights.handled(kernel_abi, network=True)

    def create(fs: int, net: int, scoped: int) -> bool:
        head = (ctypes.c_uint64 * 3)(fs, net, scoped)
        size = ctypes.c_size_t(24 if ours.scoped else 16 if ours.net else 8)
        descriptor = libc.syscall(444, ctypes.byref(head), size, 0)
        if descriptor >= 0:
            os.close(descriptor)
        return bool(descriptor >= 0)

    assert create(ours.fs, ours.net, ours.scoped)
    assert not create(ours.fs + 1 << ours.fs.bit_length(), ours.net, ours.scoped)
    if ours.net:
        assert not create(ours.fs, ours.net + 1, ours.scoped)
    if ours.scoped:
        assert not create(ours.fs, ours.net, ours.scoped + 1)


@pytest.mark.parametrize("kind", ["file", "device", "socket"])
@pytest.mark.parametrize("mode", ["read", "write"])
def test_only_directories_get_directory_rights(kind: str, mode: str) -> None:
    directory_only = rights.READ_DIR | rights.WRITE_TREE & ~(
        rights.access("file", "write") | rights.IOCTL_DEV
    )
    assert not rights.access(kind, mode) & directory_only


def test_no_rule_lets_device_files_be_made() -> None:
    for kind in ("directory", "file", "device", "socket"):
        made = rights.access(kind, "write") & (rights.MAKE_CHAR | rights.MAKE_BLOCK)
        assert not made
