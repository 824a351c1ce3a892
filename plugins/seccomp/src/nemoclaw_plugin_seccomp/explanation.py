"""What ``nemoclaw policy explain`` shows of a policy's system calls."""

from __future__ import annotations

from typing import TYPE_CHECKING

import attrs

from .judge import judge

if TYPE_CHECKING:
    from nemoclaw_hookspecs import Host, Policy

    from .judge import Judgement


@attrs.frozen(slots=True, kw_only=True)
class Row:
    """One system call: what the filter answers, and why.

    ``answer`` is ``allowed``, ``allowed if``, ``logged``, ``logged if``, ``killed`` or the name of
    an errno. With ``... if`` the condition is in ``condition``, else that is empty.
    """

    call: str
    answer: str
    condition: str
    why: str

    def __str__(self) -> str:
        condition = f" {self.condition}" if self.condition else ""
        return f"{self.call}: {self.answer}{condition} ({self.why})"


def explain(policy: Policy, host: Host) -> list[Row]:
    """A row for each system call with a name, sorted by name.

    Calls without a row, which are younger than this plugin, are answered with ENOSYS.

    :raises PolicyError: as compiling the policy does.
    """
    judgements = judge(policy, host)
    return [_row(judgements[call], policy.syscalls.action) for call in sorted(judgements)]


def _row(judgement: Judgement, action: str) -> Row:
    answer: str = judgement.answer
    condition = ""
    if judgement.answer == "refuse":
        answer = "killed" if action == "kill" else "EPERM"
    elif judgement.answer in ("allow", "log"):
        answer = "allowed" if judgement.answer == "allow" else "logged"
        if judgement.rule:
            answer += " if"
            condition = judgement.rule.why
    return Row(call=judgement.call, answer=answer, condition=condition, why=judgement.why)
