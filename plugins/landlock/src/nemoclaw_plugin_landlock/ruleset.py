"""From policy and host to one Landlock ruleset: a pure function."""

from __future__ import annotations

from collections.abc import Iterator

from nemoclaw_hookspecs import (
    Gap,
    Host,
    LandlockRule,
    LandlockRuleset,
    Layer,
    PathRule,
    Policy,
)
from nemoclaw_hookspecs.policy import Origin

from .missing import missing_rights, no_landlock, open_network
from .pieces import bare_grants
from .rights import (
    IOCTL_DEV,
    READ_DIR,
    READ_FILE,
    TRUNCATE,
    WRITE_FILE,
    WRITE_TREE,
    Handled,
    access,
    handled,
)
from .trees import Grant, covered_grants, denied, granted

_DEVICES = ("null", "zero", "full", "random", "urandom", "tty")
_TERMINAL = READ_FILE | WRITE_FILE | IOCTL_DEV


def build(policy: Policy, host: Host) -> Layer:
    """The Landlock layer of a policy on a host.

    A namespace counts only when the host can make it *and* the policy enables the plugin that
    asks for it. Rules for the private directories of a view would otherwise open the host's own.
    """
    origin = _origin(policy.filesystem.origins.get("compatibility"))
    if host.landlock_abi < 1:
        return Layer(gaps=(no_landlock(origin),))
    made = host.made_by(policy.plugins.enable)
    view, network = "mount" in made, "network" in made
    # The namespace is the boundary of the network, and inside it the agent's servers and clients
    # talk to each other; Landlock cannot tell that loopback from the host's.
    rights = handled(host.landlock_abi, network=not network)
    walls = {"mount", "pid"} if view else set()
    if network:
        walls.add("network")
    gaps = list(missing_rights(host.landlock_abi, frozenset(walls), origin))
    if not network:
        gaps.append(open_network(host.landlock_abi, bool(rights.net), origin))
    rules = policy.filesystem.rules
    if view:
        grants = covered_grants(rules)
        provided = tuple(_view(policy))
    else:
        grants, given_up = bare_grants(
            _with_shared_tmp(policy),
            policy.filesystem.contents,
            # What makes a policy file harmless is a note elsewhere; where truncating cannot be
            # refused, the agent could empty it.
            fallbacks=bool(rights.fs & TRUNCATE),
        )
        gaps.extend(given_up)
        gaps.extend(_no_private_directories(policy))
        provided = _devices()
    named = {rule.path for rule in rules}
    ruleset = LandlockRuleset(
        handled_fs=rights.fs,
        handled_net=rights.net,
        scoped=rights.scoped,
        restrict_flags=rights.flags,
        rules=(
            *_rules(grants, rights),
            *_masked(
                (
                    rule
                    for rule in provided
                    if rule.path not in named and not denied(rule.path, rules)
                ),
                rights,
            ),
        ),
    )
    return Layer(operations=(ruleset,), gaps=tuple(gaps))


def _origin(origin: Origin | None) -> str:
    return "" if origin is None else str(origin)


def _rules(grants: tuple[Grant, ...], rights: Handled) -> tuple[LandlockRule, ...]:
    return tuple(
        _masked(
            (
                LandlockRule(
                    path=each.path, access=access(each.kind, each.mode), origin=each.origin
                )
                for each in grants
            ),
            rights,
        )
    )


def _masked(rules: Iterator[LandlockRule], rights: Handled) -> Iterator[LandlockRule]:
    """Leave out what the ABI does not handle; the kernel refuses a rule with no right in it."""
    for rule in rules:
        if rule.access & rights.fs:
            yield LandlockRule(path=rule.path, access=rule.access & rights.fs, origin=rule.origin)


def _devices() -> tuple[LandlockRule, ...]:
    return tuple(LandlockRule(path=f"/dev/{name}", access=_TERMINAL) for name in _DEVICES)


def _view(policy: Policy) -> Iterator[LandlockRule]:
    """Rules for what every view holds besides the paths of the policy.

    ``/`` can be listed: in a view it holds nothing but the parents of what the policy names, and
    bundlers and runtimes (bun, esbuild) list every directory above the one they work in.
    """
    filesystem = policy.filesystem
    yield LandlockRule(path="/", access=READ_DIR)
    yield LandlockRule(path="/proc", access=READ_FILE | READ_DIR)
    yield LandlockRule(path="/dev", access=READ_DIR)
    yield from _devices()
    # Covers /dev/ptmx too, which is a link to pts/ptmx in a view.
    yield LandlockRule(path="/dev/pts", access=_TERMINAL | READ_DIR)
    yield LandlockRule(path="/dev/shm", access=WRITE_TREE)
    # What a rule of the policy shows there is the host's own, and has that rule's rights.
    origin = _origin(filesystem.origins.get("tmp"))
    private = filesystem.tmp == "private"
    if filesystem.tmp == "shared" or (private and not granted("/tmp", filesystem.rules)):
        yield LandlockRule(path="/tmp", access=WRITE_TREE, origin=origin)
    home = filesystem.home
    if private and home not in ("/", "/tmp") and not granted(home, filesystem.rules):
        yield LandlockRule(path=home, access=WRITE_TREE, origin=origin)


def _with_shared_tmp(policy: Policy) -> tuple[PathRule, ...]:
    """The policy's rules, and one for the host's /tmp where the policy shares it."""
    rules = policy.filesystem.rules
    if policy.filesystem.tmp != "shared" or any(rule.path == "/tmp" for rule in rules):
        return rules
    origin = policy.filesystem.origins.get("tmp") or Origin(
        file=policy.file, line=0, key="filesystem.tmp"
    )
    shared = PathRule(path="/tmp", access="write", kind="directory", uid=0, gid=0, origin=origin)
    return (*rules, shared)


def _no_private_directories(policy: Policy) -> Iterator[Gap]:
    if policy.filesystem.tmp != "private":
        return
    yield Gap(
        what="a private /tmp and home directory",
        consequence="the agent gets none: of /tmp, /var/tmp, /dev/shm and the home directory it "
        "can use what the policy's own rules grant on the host, and nothing else",
        remedy="allow user namespaces on this host (`nemoclaw doctor` says how) and list `mounts` "
        'in plugins.enable, or write `tmp = "none"` or `tmp = "shared"` in the policy',
        origin=_origin(policy.filesystem.origins.get("tmp")),
    )
