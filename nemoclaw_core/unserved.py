"""What a policy may write, and nothing of this version acts on.

Nothing is in danger: where no model can be reached, no prompt leaves. Still a strict start is
refused, because whoever wrote that prompts are redacted or kept local relies on it. That is what
the network's rules meet too, in the plugin that closes the network.
"""

from __future__ import annotations

from collections.abc import Iterator

from nemoclaw_hookspecs.policy import InferencePolicy, Policy
from nemoclaw_hookspecs.seal import Gap


def unserved(policy: Policy) -> Iterator[Gap]:
    """The gap that the ``inference`` table leaves, if it says more than the defaults."""
    written = list(_written(policy.inference))
    if written:
        names = ", ".join(name for name, _ in written)
        yield Gap(
            what=f"inference ({names})",
            consequence="this version of nemoclaw routes no prompts: no model can be reached, "
            "nothing is classified or redacted, and no credential is added for it",
            remedy='remove the table, or start without it: `compatibility = "best-effort"`',
            origin=next((origin for _, origin in written if origin), ""),
        )


def _written(inference: InferencePolicy) -> Iterator[tuple[str, str]]:
    """Each key that asks for something, and where it stands."""
    for key in ("default", "sensitive"):
        if getattr(inference, key) != "deny":
            yield key, str(inference.origins.get(key, ""))
    if inference.hosts:
        yield "hosts", str(inference.origins.get("hosts", ""))
    if inference.rules:
        yield "rules", str(inference.rules[0].origin)
    if inference.backends:
        yield "backends", str(next(iter(inference.backends.values())).origin)
