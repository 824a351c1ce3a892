"""Compiled plans on disk: found again by what they were compiled from, used only if still true.

An entry is a plan together with everything that compiling looked at: the policy files' content,
what was at each path, the modules of nemoclaw and its plugins, the kernel that was running. A look
at each of them costs less than a millisecond, compiling two hundred. An entry is read only from a
file that belongs to the caller, that nobody else can write, in a directory of which the same is
true; no sandbox ever sees that directory. Standard library's built-ins only.
"""

from __future__ import annotations

import marshal
import os
import stat
import sys
from _blake2 import blake2b

from . import observe
from .state import cache_dir, ensure_private

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

_MAGIC = b"nemoclaw-plan-2\n"
_MAX_SIZE = 16 << 20
_DIGEST = 32


def key(*parts: str) -> str:
    """The name of the entry for what the caller asked: BLAKE2b-256 of the parts, hexadecimal."""
    state = blake2b(digest_size=_DIGEST)
    for part in (sys.version, *parts):
        data = os.fsencode(part)
        state.update(len(data).to_bytes(8, "little") + data)
    return str(state.hexdigest())


def running_kernel() -> str:
    """Release, boot id and this process's control groups: what the host was found to enforce may
    change with them."""
    told = os.uname().release
    for path in ("/proc/sys/kernel/random/boot_id", "/proc/self/cgroup"):
        with open(path, "rb", buffering=0) as file:
            told += f"\n{os.fsdecode(file.read())}"
    return told


def module_states() -> list[list[Any]]:
    """Path, modification time and size of the loaded modules of nemoclaw and of its plugins."""
    found = []
    for name, module in list(sys.modules.items()):
        path = getattr(module, "__file__", None)
        if path and (name.startswith("nemoclaw") or _from_plugin(module)):
            state = os.stat(path)
            found.append([path, state.st_mtime_ns, state.st_size])
    return sorted(found)


def _from_plugin(module: Any) -> bool:
    return hasattr(sys.modules.get(module.__name__.partition(".")[0]), "NEMOCLAW_API")


def load(name: str) -> dict[str, Any] | None:
    """The entry of that name, or None when there is none that still holds."""
    entry = _read(os.path.join(cache_dir(), "plans", name))
    if entry is None or entry["kernel"] != running_kernel():
        return None
    try:
        for path, modified, size in entry["modules"]:
            state = os.stat(path)
            if state.st_mtime_ns != modified or state.st_size != size:
                return None
        for path, what, value in entry["observations"]:
            if observe.observe(path, what) != value:
                return None
    except OSError:
        return None
    return entry


def _read(path: str) -> dict[str, Any] | None:
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        found = os.fstat(descriptor)
        ours = found.st_uid == os.geteuid() and stat.S_ISREG(found.st_mode)
        if not ours or found.st_mode & 0o077 or found.st_nlink != 1 or found.st_size > _MAX_SIZE:
            return None
        folder = os.lstat(os.path.dirname(path))
        if folder.st_uid != os.geteuid() or folder.st_mode & 0o077:
            return None
        with open(descriptor, "rb", buffering=0, closefd=False) as file:
            data = file.read()
    finally:
        os.close(descriptor)
    head = len(_MAGIC) + _DIGEST
    body = data[head:]
    # Against a torn or damaged file: marshal is not made for arbitrary bytes.
    if data[:head] != _MAGIC + blake2b(body, digest_size=_DIGEST).digest():
        return None
    entry: dict[str, Any] = marshal.loads(body)
    return entry


def store(name: str, entry: dict[str, Any]) -> None:
    """Write an entry; a reader sees the old one, the new one or none, never a part.

    :raises OSError: it could not be written.
    :raises NemoclawError: the cache directory is not the caller's own.
    """
    ensure_private(cache_dir())
    folder = ensure_private(os.path.join(cache_dir(), "plans"))
    body = marshal.dumps(entry)
    path = os.path.join(folder, name)
    temporary = f"{path}.{os.getpid()}"
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    descriptor = os.open(temporary, flags, 0o600)
    try:
        with open(descriptor, "wb", buffering=0) as file:
            file.write(_MAGIC + blake2b(body, digest_size=_DIGEST).digest() + body)
        os.replace(temporary, path)
    except BaseException:
        os.unlink(temporary)
        raise
    _prune(folder)


def _prune(folder: str, keep: int = 256) -> None:
    """Forget the entries that were written longest ago."""
    entries = list(os.scandir(folder))
    if len(entries) > keep:
        entries.sort(key=lambda entry: entry.stat(follow_symlinks=False).st_mtime_ns)
        for entry in entries[: len(entries) - keep]:
            os.unlink(entry.path)
