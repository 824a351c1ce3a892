"""From path rules to mounts."""

from __future__ import annotations

import posixpath

from nemoclaw_hookspecs import (
    BindMount,
    Devices,
    EnterView,
    FileMount,
    FilesystemPolicy,
    Mask,
    Operation,
    PathRule,
    Policy,
    Proc,
    Symlink,
    Tmpfs,
    Unshare,
)

# What proc(5) tells about the machine's kernel and keys rather than about the agent's processes.
# Others of that kind (kcore, timer_list) only root can open, and the agent never is root.
_MASKED_PROC = ("kallsyms", "key-users", "keys")


def covers(outer: str, inner: str) -> bool:
    """True when ``inner`` is ``outer`` or lies below it."""
    return outer in ("/", inner) or inner.startswith(outer + "/")


def build_view(policy: Policy, namespaces: tuple[str, ...]) -> tuple[Operation, ...]:
    """The mount operations of a policy, in no particular order.

    A rule that says what the nearest rule above it says already needs no mount. A path in a
    writable tree that is denied or read-only is held in place: each directory between it and the
    tree's root is bound onto itself, because a mount point cannot be renamed, and a directory on
    the way could otherwise be moved aside and made anew.
    """
    filesystem = policy.filesystem
    rules = _effective(filesystem.rules)
    operations: list[Operation] = [
        Unshare(namespaces=namespaces, origin=_origin(policy, "read")),
        Proc(masked=_MASKED_PROC, origin="nemoclaw: every sandbox has its own /proc"),
        Devices(
            shm_size=policy.process.max_memory, origin="nemoclaw: every sandbox has its own /dev"
        ),
        EnterView(origin="nemoclaw: the view becomes the root"),
    ]
    operations.extend(_private(policy, rules))
    operations.extend(
        Symlink(target=link.path, text=link.target, origin=str(link.origin))
        for link in filesystem.links
        if not any(covers(rule.path, link.path) for rule in rules)
    )
    held: set[str] = set()
    for rule in rules:
        above = _nearest(rules, rule.path)
        if rule.access == "deny":
            if above is not None:
                operations.append(_mask(rule))
        elif above is None or above.access != rule.access or _separate(rule, above):
            operations.append(_bind(policy, rules, rule))
        if above is not None and above.access == "write" and rule.access != "write":
            operations.extend(_hold(policy, rules, rule, above, held))
    if policy.process.switch_user and any(covers(rule.path, "/etc") for rule in rules):
        operations.extend(_accounts(policy))
    return tuple(operations)


def _effective(rules: tuple[PathRule, ...]) -> list[PathRule]:
    """The rules that mean anything: none below a denied path, and of two for one path the deny,
    else the narrower."""
    denied = [rule.path for rule in rules if rule.access == "deny"]
    order = {"deny": 0, "read": 1, "write": 2}
    found: dict[str, PathRule] = {}
    for rule in sorted(rules, key=lambda rule: (rule.path, order[rule.access])):
        if any(covers(path, rule.path) and path != rule.path for path in denied):
            continue
        found.setdefault(rule.path, rule)
    return list(found.values())


def _nearest(rules: list[PathRule], path: str) -> PathRule | None:
    """The deepest rule strictly above a path."""
    above = [rule for rule in rules if rule.path != path and covers(rule.path, path)]
    return max(above, key=lambda rule: len(rule.path), default=None)


def _separate(rule: PathRule, above: PathRule) -> bool:
    """True when a rule needs a mount although the one above grants the same."""
    return rule.kind in ("device", "socket") and above.kind == "directory"


def _owner(policy: Policy, rules: list[PathRule], rule: PathRule) -> tuple[int, int] | None:
    """The host owner to be shown as the agent, for what lies in a writable tree."""
    if not policy.process.switch_user or rule.kind in ("device", "socket"):
        return None
    tree: PathRule | None = rule
    while tree is not None and tree.access != "write":
        tree = _nearest(rules, tree.path)
    if tree is None or tree.uid in (-1, policy.process.uid):
        return None
    return tree.uid, tree.gid


def _bind(policy: Policy, rules: list[PathRule], rule: PathRule) -> BindMount:
    assert rule.kind != "missing"
    return BindMount(
        source=rule.path,
        target=rule.path,
        kind=rule.kind,
        read_only=rule.access == "read",
        owner=_owner(policy, rules, rule),
        origin=str(rule.origin),
    )


def _mask(rule: PathRule) -> Mask:
    kind = rule.kind if rule.kind in ("directory", "missing") else "file"
    return Mask(target=rule.path, kind=kind, origin=str(rule.origin))


def _hold(
    policy: Policy, rules: list[PathRule], rule: PathRule, above: PathRule, held: set[str]
) -> list[Operation]:
    operations: list[Operation] = []
    path = posixpath.dirname(rule.path)
    while path != above.path:
        if path not in held:
            held.add(path)
            operations.append(
                BindMount(
                    source=path,
                    target=path,
                    kind="directory",
                    read_only=False,
                    owner=_owner(policy, rules, above),
                    origin=f"{rule.origin} (holds {posixpath.basename(path)} in place)",
                )
            )
        path = posixpath.dirname(path)
    return operations


def _private(policy: Policy, rules: list[PathRule]) -> list[Operation]:
    """The sandbox's own /tmp and home, gone when it ends."""
    filesystem = policy.filesystem
    size = policy.process.max_memory
    origin = _origin(policy, "tmp")
    operations: list[Operation] = []
    granted = [rule.path for rule in rules if rule.access != "deny"]
    if filesystem.tmp == "shared" and "/tmp" not in granted:
        operations.append(
            BindMount(
                source="/tmp", target="/tmp", kind="directory", read_only=False, origin=origin
            )
        )
    if filesystem.tmp == "private":
        if not any(covers(path, "/tmp") for path in granted):
            operations.append(Tmpfs(target="/tmp", size=size, mode=0o1777, origin=origin))
        if _home_is_free(filesystem, granted):
            operations.append(Tmpfs(target=filesystem.home, size=size, mode=0o700, origin=origin))
    # A private home in /var/tmp makes that a directory, too.
    shown = [*granted, *(each.target for each in operations if isinstance(each, Tmpfs))]
    in_the_way = any(covers(path, "/var/tmp") for path in granted) or any(
        covers("/var/tmp", path) for path in shown
    )
    if filesystem.tmp != "none" and not in_the_way:
        operations.append(Symlink(target="/var/tmp", text="/tmp", origin=origin))
    return operations


def _home_is_free(filesystem: FilesystemPolicy, granted: list[str]) -> bool:
    """True when the home directory holds nothing that the policy shows, so it can be private."""
    home = filesystem.home
    return home not in ("/", "/tmp") and not any(covers(path, home) for path in granted)


def _accounts(policy: Policy) -> list[Operation]:
    """Account files in which the agent's id has a name: ssh-keygen and git ask for one."""
    process = policy.process
    home = policy.filesystem.home
    origin = str(process.origins.get("user", "process.user"))
    passwd = (
        "root:x:0:0:root:/root:/bin/sh\n"
        f"agent:x:{process.uid}:{process.gid}:agent:{home}:/bin/sh\n"
        "nobody:x:65534:65534:nobody:/nonexistent:/usr/sbin/nologin\n"
    )
    group = f"root:x:0:\nagent:x:{process.gid}:\nnogroup:x:65534:\n"
    return [
        FileMount(target="/etc/passwd", content=passwd, origin=origin),
        FileMount(target="/etc/group", content=group, origin=origin),
    ]


def _origin(policy: Policy, key: str) -> str:
    return str(policy.filesystem.origins.get(key, f"filesystem.{key}"))
