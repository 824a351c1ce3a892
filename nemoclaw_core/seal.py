"""Plans as plain data: the order of steps, and the form that is cached, shown and executed.

An encoded plan holds builtins only (``str int float bool None bytes list dict``), so it can be
written with :mod:`marshal`, and the launcher reads it without importing attrs. Both directions
are driven by the contract's own field declarations: a new operation or field needs no code here.

Reading is strict. A plan that has an unknown operation, an unknown or missing field, a value of
another type or steps out of order is refused whole.
"""

from __future__ import annotations

import base64
import json
import math
import re
import types
import typing
from collections.abc import Iterable, Mapping
from typing import Any, Literal, Union, get_args, get_origin

import attrs
from nemoclaw_hookspecs.errors import LauncherError
from nemoclaw_hookspecs.plan import Plan, Step
from nemoclaw_hookspecs.seal import OPERATIONS, PHASES, EnterView, Gap, Mask, Operation

from .decoders import Misfit, check_names, fields_of, reader

__all__ = [
    "VERSION",
    "check",
    "decode",
    "decode_value",
    "encode",
    "encode_value",
    "operation_name",
    "sort_steps",
    "to_json",
]

_Value = typing.TypeVar("_Value")
VERSION = 1
"""Version of the encoded form."""


def operation_name(operation: type[Operation]) -> str:
    """The name of an operation in an encoded plan: its class name in snake case."""
    return re.sub(r"(?<!^)(?=[A-Z])", "_", operation.__name__).lower()


_OPERATION: dict[str, type[Operation]] = {operation_name(kind): kind for kind in OPERATIONS}
_PHASE = {phase: index for index, phase in enumerate(PHASES)}


def _order(step: Step) -> tuple[int, int, int]:
    operation = step.operation
    phase = _PHASE[type(operation).phase]
    if type(operation).phase != "mounts":
        return phase, 0, 0
    if isinstance(operation, EnterView):
        return phase, 1 << 30, 0
    target: str = getattr(operation, "target")  # noqa: B009 - every other mount step has one
    # A mask goes on top of what it hides, whichever plugin asked first.
    return phase, sum(map(bool, target.split("/"))), int(isinstance(operation, Mask))


def sort_steps(steps: Iterable[Step]) -> tuple[Step, ...]:
    """Put steps into the order of execution.

    Phases in the contract's order; within a phase, the order given. Mounts go from the root of the
    view downwards, because a later mount hides whatever was mounted below it before; at one depth
    masks go last, and the switch to the view after everything.
    """
    return tuple(sorted(steps, key=_order))


def check(value: object) -> None:
    """Verify that a value is an operation of the contract, or a gap, and that its fields fit.

    :raises LauncherError: it is not, naming the field. Subclasses are not: the set is closed.
    """
    _ = _encode(Gap, value, "gap") if type(value) is Gap else _encode_operation(value, "operation")


def encode(plan: Plan) -> dict[str, Any]:
    """The plan as builtins, with its steps in order of execution.

    :raises LauncherError: a value in it does not fit its declaration.
    """
    encoded: dict[str, Any] = {"version": VERSION}
    for name, kind in fields_of(Plan).items():
        value = getattr(plan, name)
        if name == "steps":
            encoded[name] = [
                _encode_step(step, f"steps[{index}]")
                for index, step in enumerate(sort_steps(_steps(value)))
            ]
        else:
            encoded[name] = _encode(kind, value, name)
    return encoded


def encode_value(value: object) -> dict[str, Any]:
    """Any attrs value of the contract as builtins, a network policy for instance.

    :raises LauncherError: a value in it does not fit its declaration.
    """
    found: dict[str, Any] = _encode(type(value), value, type(value).__name__)
    return found


def decode_value(kind: type[_Value], data: object) -> _Value:
    """The inverse of :func:`encode_value`.

    :raises LauncherError: ``data`` is not exactly an encoded ``kind``.
    """
    found: _Value = _decode(kind, data, kind.__name__)
    return found


def decode(data: object) -> Plan:
    """The plan that :func:`encode` made ``data`` from.

    :raises LauncherError: ``data`` is not exactly an encoded plan of this version.
    """
    fields = fields_of(Plan)
    found = _table(data, ("version", *fields), "plan")
    if found["version"] != VERSION or type(found["version"]) is not int:
        raise _refusal("version", f"is {found['version']!r}, expected {VERSION}")
    values = {
        name: _decode(kind, found[name], name) for name, kind in fields.items() if name != "steps"
    }
    steps = tuple(
        _decode_step(step, f"steps[{index}]")
        for index, step in enumerate(_list(found["steps"], "steps"))
    )
    if sort_steps(steps) != steps:
        raise _refusal("steps", "are out of order")
    return Plan(steps=steps, **values)


def to_json(plan: Plan) -> str:
    """The encoded plan as one JSON document; bytes become ``{"base64": "..."}``."""
    return json.dumps(encode(plan), indent=2, default=_json_bytes)


def _json_bytes(value: object) -> dict[str, str]:
    if not isinstance(value, bytes):
        raise TypeError(f"{type(value).__name__} in an encoded plan")
    return {"base64": base64.b64encode(value).decode("ascii")}


def _refusal(where: str, problem: str) -> LauncherError:
    return LauncherError(
        f"the plan is malformed: {where} {problem}",
        remedy="run again; a plan that was kept from another version is compiled anew",
    )


def _steps(value: object) -> tuple[Step, ...]:
    if not isinstance(value, tuple):
        raise _refusal("steps", "is not a tuple")
    for index, step in enumerate(value):
        if type(step) is not Step or type(step.operation) not in OPERATIONS:
            raise _refusal(f"steps[{index}]", "is not a step with an operation of the contract")
        # Sorting reads the target, so it must be right before the rest is looked at.
        if not isinstance(getattr(step.operation, "target", ""), str):
            raise _refusal(f"steps[{index}].target", "is not str")
    return value


def _encode_operation(operation: object, where: str) -> dict[str, Any]:
    kind = type(operation)
    if kind not in OPERATIONS:
        raise _refusal(where, f"is {kind.__name__}, which is no seal operation")
    name = operation_name(kind)
    return {
        field: _encode(declared, getattr(operation, field), f"{where}.{name}.{field}")
        for field, declared in fields_of(kind).items()
    }


def _encode_step(step: Step, where: str) -> dict[str, Any]:
    return {
        "op": operation_name(type(step.operation)),
        "plugin": _encode(str, step.plugin, f"{where}.plugin"),
        **_encode_operation(step.operation, where),
    }


def _decode_step(data: object, where: str) -> Step:
    if type(data) is not dict or type(data.get("op")) is not str:
        raise _refusal(where, "has no operation name")
    kind = _OPERATION.get(data["op"])
    if kind is None:
        raise _refusal(f"{where}.op", f"is {data['op']!r}, which is no seal operation")
    fields = fields_of(kind)
    found = _table(data, ("op", "plugin", *fields), where)
    values = {
        name: _decode(declared, found[name], f"{where}.{data['op']}.{name}")
        for name, declared in fields.items()
    }
    return Step(plugin=_decode(str, found["plugin"], f"{where}.plugin"), operation=kind(**values))


def _encode(kind: Any, value: object, where: str) -> Any:
    """``value``, declared as ``kind``, as builtins."""
    origin, arguments = get_origin(kind), get_args(kind)
    if origin is Literal:
        return _choice(arguments, value, where)
    if origin in (Union, types.UnionType):
        return None if value is None else _encode(_not_none(arguments), value, where)
    if origin is tuple:
        if not isinstance(value, tuple):
            raise _refusal(where, f"is {type(value).__name__}, expected tuple")
        return [
            _encode(item_kind, item, f"{where}[{index}]")
            for index, (item_kind, item) in enumerate(_items(arguments, value, where))
        ]
    if origin is Mapping:
        if not isinstance(value, Mapping):
            raise _refusal(where, f"is {type(value).__name__}, expected a mapping")
        return {
            _encode(arguments[0], key, where): _encode(arguments[1], item, f"{where}[{key!r}]")
            for key, item in value.items()
        }
    if attrs.has(kind):
        if type(value) is not kind:
            raise _refusal(where, f"is {type(value).__name__}, expected {kind.__name__}")
        return {
            name: _encode(declared, getattr(value, name), f"{where}.{name}")
            for name, declared in fields_of(kind).items()
        }
    if kind is int and isinstance(value, int) and not isinstance(value, bool):
        return int(value)  # an IntFlag becomes a number
    if kind is float and type(value) is int:
        return float(value)
    return _scalar(kind, value, where)


def _decode(kind: Any, data: object, where: str) -> Any:
    """The inverse of :func:`_encode`."""
    try:
        return reader(kind)(data)
    except Misfit as misfit:
        raise _refusal(where + misfit.path, misfit.problem) from None


def _scalar(kind: Any, value: object, where: str) -> object:
    if kind not in (str, int, float, bool, bytes):
        raise TypeError(f"{where} is declared as {kind!r}, which a plan cannot carry")
    # Exactly: True is no number here, and marshal cannot write a subclass of str.
    if type(value) is not kind:
        raise _refusal(where, f"is {type(value).__name__}, expected {kind.__name__}")
    if isinstance(value, float) and not math.isfinite(value):
        raise _refusal(where, "is not a finite number")
    return value


def _choice(allowed: tuple[object, ...], value: object, where: str) -> object:
    for choice in allowed:
        if type(value) is type(choice) and value == choice:
            return value
    raise _refusal(where, f"is not one of {', '.join(map(repr, allowed))}")


def _not_none(arguments: tuple[Any, ...]) -> Any:
    (kind,) = (argument for argument in arguments if argument is not type(None))
    return kind


def _items(
    arguments: tuple[Any, ...], values: Iterable[object], where: str
) -> list[tuple[Any, object]]:
    values = tuple(values)
    if arguments[1:] == (Ellipsis,):
        return [(arguments[0], value) for value in values]
    if len(values) != len(arguments):
        raise _refusal(where, f"has {len(values)} items, expected {len(arguments)}")
    return list(zip(arguments, values, strict=True))


def _list(data: object, where: str) -> list[object]:
    if type(data) is not list:
        raise _refusal(where, f"is {type(data).__name__}, expected list")
    return data


def _table(data: object, names: tuple[str, ...], where: str) -> dict[str, object]:
    if type(data) is not dict:
        raise _refusal(where, f"is {type(data).__name__}, expected dict")
    try:
        check_names(data, names)
    except Misfit as misfit:
        raise _refusal(where, misfit.problem) from None
    return data
