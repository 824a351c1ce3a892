"""``nemoclaw run --dry-run``: what would be done, in order, and the policy line of each step."""

from __future__ import annotations

import base64
import json
import os

from .. import planning
from ..events.text import printable
from ..workdir import choose_workdir
from . import options

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from .options import Options


def show(given: Options) -> int:
    """Print the plan; nothing is started."""
    workdir = choose_workdir(given.last("--workdir"), given.last("--policy"))
    planned = planning.load_plan(given.last("--policy"), workdir, use_cache=False)
    plan = planned.prepare()
    if "--json" in given.flags:
        print(json.dumps(plan, default=_bytes, indent=2))
        return 0
    _tell(f"policy   {plan['policy']} ({plan['compatibility']})")
    _tell(f"workdir  {plan['workdir']}")
    _tell(f"caller   uid {os.getuid()}")
    for layer in plan["layers"]:
        required = ", required" if layer["required"] else ""
        _tell(f"layer    {layer['plugin']}.{layer['hook']}: {layer['status']}{required}")
        for gap in layer["gaps"]:
            _tell(f"         gap: {gap['what']}: {gap['consequence']}")
    print()
    width = max(len(step["op"]) for step in plan["steps"])
    for number, step in enumerate(plan["steps"], 1):
        _tell(f"{number:3}  {step['op']:<{width}}  {_summary(step)}")
        _tell(f"     {'':<{width}}    from {step['origin'] or 'default'}")
        for text in step.get("texts", ()):
            _tell(f"     {'':<{width}}      {text}")
        for rule in step.get("rules", ()):
            _tell(f"     {'':<{width}}      {rule['path']} from {rule['origin'] or 'default'}")
    names = [
        *plan["environment_pass"],
        *(f"{name}=..." for name in plan["environment"]),
        *(f"{name}=... (--env)" for name in options.environment(given)),
    ]
    _tell(f"{len(plan['steps']) + 1:3}  {'exec':<{width}}  {' '.join(given.rest)}")
    _tell(f"     {'':<{width}}    environment: {', '.join(names)}")
    return 0


def _tell(line: str) -> None:
    # Paths may have been named by an agent.
    print(printable(line))


def _summary(step: dict[str, Any]) -> str:
    parts = []
    for name, value in step.items():
        if name in ("op", "plugin", "origin"):
            continue
        if isinstance(value, bytes):
            parts.append(f"{name}={len(value) // 8} instructions")
        elif name == "rules":
            parts.append(f"rules={len(value)}")
        elif name == "texts":
            continue  # Each on a line of its own.
        elif name == "messages":
            parts.append(f"messages={len(value)}")
        elif isinstance(value, list):
            parts.append(f"{name}={','.join(map(str, value))}")
        elif name == "content":
            parts.append(f"{len(value)} bytes")
        elif name in ("handled_fs", "handled_net", "scoped", "access"):
            parts.append(f"{name}={value:#x}")
        elif name == "mode":
            parts.append(f"mode={value:o}")
        elif value is not None:
            parts.append(f"{name}={value}")
    return f"[{step['plugin']}] {' '.join(parts)}"


def _bytes(value: object) -> dict[str, str]:
    if isinstance(value, bytes):
        return {"base64": base64.b64encode(value).decode()}
    raise TypeError(f"{type(value).__name__} cannot be part of a plan")
