"""What an attempt is, and the decorator that registers one."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .stage import Stage

    Attack = Callable[[Stage], str]

CLASSES = ("files", "processes", "kernel", "network", "control")
NEEDS = ("any", "user", "namespace", "root")


class Stopped(Exception):
    """The attempt failed without an errno, for instance because the secret was not there."""


class CannotJudge(Exception):
    """The attempt means nothing on this host, for instance because the kernel lacks the feature."""


@dataclass(frozen=True)
class Attempt:
    """One way to try to get out.

    An attempt *worked* when its function returned. With an ``effect`` that is not enough: the
    function's word is ignored and the host is looked at instead, so that a write which went to a
    private copy counts as stopped, and one which claims to have failed but did not is noticed.
    """

    name: str
    """``CLASS-function``."""
    claim: str
    """What it tries to do: the first line of the function's docstring."""
    needs: str = "any"
    """Who can do it outside: ``any`` (root and ordinary users alike), ``user`` (only tried as one),
    ``namespace`` (root, or an ordinary user who is uid 0 of a user namespace), ``root``."""
    effect: str = ""
    """What must have happened on the host: ``KIND PATH``, where KIND is ``changed``, ``setid`` or
    ``device`` and PATH may use {home} {work} {base} {base_name} {run} {target} {name}; or
    ``victim``: the attempt's own host process died or has other attributes than before."""
    alone: bool = False
    """It disturbs others: give it a stage and a sandbox of its own, and run it in the process that
    the sandbox starts, not in a child."""
    exclusive: bool = False
    """It reaches beyond its own stage outside: nothing else may run meanwhile."""
    victim: bool = False
    """It wants a host process of the same user to attack."""
    dot_env: bool = False
    """It wants a directory of its own in the work directory with a denied ``.env`` in it."""
    policy: str = "escape"
    """Name of the policy that it is held by."""
    stage: str = ""
    """A stage with a difference: ``no-git``, ``policy-in-work``, ``state-in-work``."""
    stdin: str = ""
    """What standard input is: nothing, ``file`` (its own target, opened for reading), or
    ``terminal`` (then output is one, too)."""
    settle: float = 0.0
    """Seconds between the end of the run and the look at the host."""
    host: str = ""
    """A sysctl without which an ordinary user cannot do it: ``kernel/io_uring_disabled<=0``."""

    @property
    def kind(self) -> str:
        """The class of the attempt."""
        return self.name.partition("-")[0]

    def facts(self) -> dict[str, Any]:
        """The attempt as a JSON object."""
        return asdict(self)


ATTEMPTS: dict[str, tuple[Attempt, Attack]] = {}


def attempt(
    kind: str,
    *,
    needs: str = "any",
    effect: str = "",
    alone: bool = False,
    exclusive: bool = False,
    victim: bool = False,
    dot_env: bool = False,
    policy: str = "escape",
    stage: str = "",
    stdin: str = "",
    settle: float = 0.0,
    host: str = "",
) -> Callable[[Attack], Attack]:
    """Register the decorated function as an attempt; see :class:`Attempt` for the arguments.

    :raises ValueError: unknown class or need, a name used twice, or no docstring.
    """
    if kind not in CLASSES or needs not in NEEDS:
        raise ValueError(f"there is no class {kind!r} or need {needs!r}")

    def register(attack: Attack) -> Attack:
        name = f"{kind}-{attack.__name__}"
        claim = (attack.__doc__ or "").strip().partition("\n")[0]
        if name in ATTEMPTS or not claim:
            raise ValueError(f"{name} is registered twice or says nothing")
        described = Attempt(
            name=name,
            claim=claim,
            needs=needs,
            effect=effect,
            alone=alone or exclusive or bool(stage or stdin) or policy != "escape",
            exclusive=exclusive,
            victim=victim or effect == "victim",
            dot_env=dot_env,
            policy=policy,
            stage=stage,
            stdin=stdin,
            settle=settle,
            host=host,
        )
        ATTEMPTS[name] = (described, attack)
        return attack

    return register
