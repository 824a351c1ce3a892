"""Every attack gets past a naive proxy, and none past the gate."""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable, Iterator, Mapping

import attrs
import pytest

from ..callers import PATH, User, everybody
from ..egress.grounds import Outside
from .battery.listing import ATTACKS
from .battery.registry import Attack
from .ground import ALLOWED, Made, ground

# The first test runs all of it; the others look at the outcome.
pytestmark = pytest.mark.timeout(300)

_NEEDS = {"callers-preloaded": "gcc", "callers-mounted_over": "unshare"}


@attrs.frozen
class Battle:
    """The same attacks on both sides."""

    outside: Made
    inside: Made


@pytest.fixture(scope="module", params=[user.name for user in everybody()])
def battle(
    request: pytest.FixtureRequest,
    users: Mapping[str, User],
    outside: Outside,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Battle]:
    user = users[request.param]
    with ground(user, outside, tmp_path_factory.mktemp("ground")) as made:
        policies = ("narrow", "wide")
        yield Battle(made.outside(policies), made.inside(policies))


@pytest.mark.parametrize("attack", ATTACKS.values(), ids=ATTACKS)
def test_works_against_a_naive_proxy_and_fails_here(
    attack: Attack, battle: Battle, record_property: Callable[[str, object], None]
) -> None:
    program = _NEEDS.get(attack.name, "sh")
    if shutil.which(program, path=PATH) is None:
        pytest.skip(f"{program} is missing")
    outside, inside = battle.outside.told[attack.name], battle.inside.told[attack.name]
    record_property("stopped by", inside["said"])
    if outside["said"].count("unshare failed"):
        pytest.skip("this host makes no user namespaces for users")
    worked = battle.inside.worked(attack.name, attack.evidence, attack.policy)
    if attack.limit:
        assert worked, f"no limit any more: say so on the page ({inside['said']})"
    else:
        assert not worked, f"GOT PAST: {attack.claim} ({inside['said']})"
        assert re.search(attack.told, inside["said"]), f"not by this: {inside['said']}"
    proven = battle.outside.worked(attack.name, attack.evidence, attack.policy)
    assert proven, f"it proves nothing: a naive proxy stops it too ({outside['said']})"


def test_nothing_but_allowed_hosts_was_asked(battle: Battle) -> None:
    """Whatever name an attack has: of all that came through, nothing has another host."""
    limited = {attack.name for attack in ATTACKS.values() if attack.limit}
    hosts = {each.host for each in battle.inside.asked if each.by not in limited}
    others = {host for host in hosts if host not in ALLOWED and not host.endswith(".rebind.test")}
    # The wide policy allows every name that leads to an address of its own.
    assert others <= {"a.wild.test"}
