"""From a policy to a plan: ask the plugins, judge what they say, combine it, add the core's own.

Everything here is a function of (policy, host, plugins), so a plan can be cached, compared and
computed for another machine. Nothing is touched.
"""

from __future__ import annotations

from types import MappingProxyType

import attrs
from nemoclaw_hookspecs.errors import LauncherError, LayerUnavailable, PluginError
from nemoclaw_hookspecs.host import Host
from nemoclaw_hookspecs.plan import LayerStatus, Plan, Service, Step
from nemoclaw_hookspecs.policy import Policy
from nemoclaw_hookspecs.seal import EnterView, Gap, Hostname, Proc, Unshare

from . import seal
from .admission import admit, check_targets
from .baseline import CORE, baseline
from .combine import combine
from .contract import place
from .origins import traced
from .plugins import PluginManager

LAYER_HOOKS = ("apply_net", "apply_fs", "apply_syscall")
"""The hooks that contribute to a plan, in the order in which they are called."""


def compile_plan(policy: Policy, host: Host, manager: PluginManager) -> Plan:
    """Compile a policy for a host.

    :raises PluginError: a plugin is missing, failed or broke the contract, two plugins contradict
        each other, or a required one contributed nothing.
    :raises LayerUnavailable: the policy is ``strict``, and this host or this version cannot enforce
        all of it; names every gap with its policy line and remedy.
    """
    # Before a plugin has seen it.
    written = dict(policy.process.environment_set)
    environment: dict[str, str] = {}
    _check_loaded(policy, manager)
    steps: list[Step] = []
    layers: list[LayerStatus] = []
    services: list[Service] = []
    for hook in LAYER_HOOKS:
        for outcome in manager.each(hook, policy=policy, host=host):
            if outcome.error is not None:
                raise outcome.error
            if outcome.value is None:
                continue
            name = outcome.plugin
            admitted = admit(name, hook, outcome.value, policy, host)
            steps += [traced(step, name, policy) for step in admitted]
            if outcome.value.service:
                services.append(
                    Service(
                        plugin=name,
                        entry=outcome.value.service,
                        authority=outcome.value.authority,
                    )
                )
            _check_environment(name, hook, dict(outcome.value.environment))
            environment = {**outcome.value.environment, **environment}
            layers.append(
                LayerStatus(
                    plugin=name,
                    hook=hook,
                    status=outcome.value.status,
                    required=name in policy.plugins.required,
                    gaps=tuple(traced(gap, name, policy) for gap in outcome.value.gaps),
                    notes=outcome.value.notes,
                )
            )
    _check_required(policy, steps, layers)
    check_targets(steps, policy)
    own = baseline(policy, host, _namespaces(steps))
    if policy.compatibility == "strict":
        _refuse_gaps(
            policy,
            [(layer.plugin, gap) for layer in layers for gap in layer.gaps]
            + [(CORE, gap) for gap in own.gaps],
        )
    steps += [
        Step(plugin=CORE, operation=operation)
        for operation in own.operations
        # A plugin may have named the host already.
        if not isinstance(operation, Hostname)
        or not any(isinstance(step.operation, Hostname) for step in steps)
    ]
    combined = combine(steps)
    _check_whole(combined)
    layers.append(
        LayerStatus(
            plugin=CORE,
            hook="process",
            status="partial" if own.gaps or own.weaknesses else "full",
            required=False,
            gaps=own.gaps + own.weaknesses,
        )
    )
    return Plan(
        policy=f"{policy.file}:{policy.name}",
        steps=seal.sort_steps(combined),
        layers=tuple(layers),
        environment={**environment, **written},
        environment_pass=policy.process.environment_pass,
        workdir=policy.filesystem.workdir,
        home=policy.filesystem.home,
        timeout=policy.process.timeout,
        compatibility=policy.compatibility,
        services=tuple(services),
    )


def run_pre_spawn(plan: Plan, manager: PluginManager) -> Plan:
    """Let each plugin look at a finished plan, in order, and add to its environment.

    :raises PluginError: a plugin refused, or gave a plan that differs in anything but the
        environment.
    """
    fixed = _fixed(plan)
    environment = dict(plan.environment)
    for name in manager.loaded:
        shown = attrs.evolve(plan, environment=MappingProxyType(dict(environment)))
        outcome = manager.one(name, "pre_spawn", plan=shown)
        if outcome is None:
            continue
        if outcome.error is not None:
            raise outcome.error
        # What was shown is compared too: a plugin could have reached into it.
        if _fixed(shown) != fixed or _fixed(outcome.value or plan) != fixed:
            raise PluginError(
                f"plugin {name!r}: pre_spawn changed more of the plan than its environment",
                plugin=name,
            )
        if outcome.value is not None:
            environment = dict(outcome.value.environment)
            _check_environment(name, "pre_spawn", environment)
    return attrs.evolve(plan, environment=environment)


def _fixed(plan: Plan) -> object:
    """All of a plan but its environment; None when it is no plan any more."""
    try:
        return seal.encode(attrs.evolve(plan, environment={}))
    except LauncherError:
        return None


def _check_environment(plugin: str, hook: str, environment: dict[str, str]) -> None:
    for name, value in environment.items():
        texts = type(name) is str and type(value) is str
        if not texts or not name or "=" in name or "\0" in name + value:
            # The value is not shown: it may be a secret.
            raise PluginError(
                f"plugin {plugin!r}: {hook} set a variable that cannot be: {name!r}",
                plugin=plugin,
            )


def _check_loaded(policy: Policy, manager: PluginManager) -> None:
    enabled, loaded = policy.plugins.enable, manager.loaded
    for name in policy.plugins.required:
        if name not in enabled:
            raise PluginError(
                f"the policy requires plugin {name!r} and does not enable it",
                plugin=name,
                where=place(policy.plugins, "required", name),
                remedy="add it to plugins.enable",
            )
    for name in enabled:
        if name not in loaded:
            raise PluginError(
                f"plugin {name!r} is enabled and not loaded",
                plugin=name,
                where=place(policy.plugins, "enable", name),
            )
    for name in loaded:
        if name not in enabled:
            raise PluginError(f"plugin {name!r} is loaded and not enabled", plugin=name)


def _check_required(policy: Policy, steps: list[Step], layers: list[LayerStatus]) -> None:
    for name in policy.plugins.required:
        built = any(step.plugin == name for step in steps)
        explained = any(layer.plugin == name and layer.gaps for layer in layers)
        if not built and not explained:
            raise PluginError(
                f"the policy requires plugin {name!r}, which contributes no layer to it",
                plugin=name,
                where=place(policy.plugins, "required", name),
                remedy=f"take {name!r} off plugins.required, or ask its author",
            )


def _refuse_gaps(policy: Policy, gaps: list[tuple[str, Gap]]) -> None:
    if not gaps:
        return
    told = "".join(
        f"\n  {gap.origin or policy.name}: {gap.what} ({plugin}): {gap.consequence}"
        f"\n    remedy: {gap.remedy}"
        for plugin, gap in gaps
    )
    raise LayerUnavailable(
        f"not all of the policy {policy.file}:{policy.name} can be enforced here{told}",
        remedy='follow the remedies, or write compatibility = "best-effort" into the policy and '
        "do without",
    )


def _namespaces(steps: list[Step]) -> frozenset[str]:
    return frozenset(
        namespace
        for step in steps
        if isinstance(step.operation, Unshare)
        for namespace in step.operation.namespaces
    )


def _check_whole(steps: tuple[Step, ...]) -> None:
    """Refuse steps that would act on the host's own namespaces."""
    namespaces = _namespaces(list(steps))
    enters = any(isinstance(step.operation, EnterView) for step in steps)
    for step in steps:
        operation, needed = step.operation, ""
        if type(operation).phase == "network":
            needed = "network"
        elif isinstance(operation, Hostname):
            needed = "uts"
        elif isinstance(operation, Proc) and "pid" not in namespaces:
            needed = "pid"
        elif type(operation).phase == "mounts":
            needed = "mount"
        name = type(operation).__name__
        if needed and needed not in namespaces:
            raise PluginError(
                f"plugin {step.plugin!r} asks for {name} without a {needed} namespace",
                plugin=step.plugin,
            )
        if needed == "mount" and not enters:
            raise PluginError(
                f"plugin {step.plugin!r} asks for {name}, and no plugin enters the view",
                plugin=step.plugin,
            )
