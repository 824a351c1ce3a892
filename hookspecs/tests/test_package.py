"""Claims about the package: what it exports, and what importing it costs."""

from __future__ import annotations

import inspect
import subprocess
import sys
from importlib import import_module

import attrs
import nemoclaw_hookspecs
import pytest
from nemoclaw_hookspecs import API, OPERATIONS, PHASES, NemoclawError, errors, version

MODULES = (
    "egress",
    "errors",
    "events",
    "host",
    "inference",
    "plan",
    "policy",
    "seal",
    "specs",
    "version",
)


def imported_by(statement: str, *names: str) -> list[str]:
    """Which of ``names`` a fresh interpreter has imported after ``statement``."""
    script = f"import sys\n{statement}\nprint(*[n for n in {names!r} if n in sys.modules])"
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    return done.stdout.split()


@pytest.mark.parametrize(
    "statement",
    [
        "import nemoclaw_hookspecs",
        "import nemoclaw_hookspecs.errors",
        "from nemoclaw_hookspecs import PluginError",
        "import nemoclaw_hookspecs.version",
    ],
)
def test_an_error_costs_neither_attrs_nor_pluggy(statement: str) -> None:
    assert imported_by(statement, "attrs", "attr", "pluggy") == []


def test_an_error_costs_nothing_of_the_standard_library_either() -> None:
    statement = "import nemoclaw_hookspecs.errors"
    assert imported_by(statement, "json", "re", "enum", "dataclasses", "importlib.metadata") == []


def test_the_check_above_can_fail() -> None:
    assert imported_by("from nemoclaw_hookspecs import Layer", "attrs", "pluggy") == ["attrs"]
    assert imported_by("from nemoclaw_hookspecs import hookimpl", "pluggy") == ["pluggy"]


def test_every_public_name_is_exported_and_every_export_exists() -> None:
    defined = set()
    for module in map(import_module, (f"nemoclaw_hookspecs.{name}" for name in MODULES)):
        for name, value in vars(module).items():
            home = getattr(value, "__module__", module.__name__)
            # Hooks are not exported: a plugin's own functions have those names.
            if inspect.isfunction(value) or name.startswith("_") or home != module.__name__:
                continue
            if inspect.isclass(value):
                defined.add(name)
    constants = {
        "API",
        "ENFORCEMENT_HOOKS",
        "ENTRY_POINT_GROUP",
        "NAMESPACES",
        "OPERATIONS",
        "PHASES",
        "PROJECT",
        "hookimpl",
        "hookspec",
    }
    assert set(nemoclaw_hookspecs.__all__) == defined | constants
    for name in nemoclaw_hookspecs.__all__:
        assert getattr(nemoclaw_hookspecs, name) is not None
    with pytest.raises(AttributeError, match="no_such_name"):
        _ = nemoclaw_hookspecs.no_such_name


def test_the_lazy_table_is_the_list_of_exports() -> None:
    assert sorted(nemoclaw_hookspecs._HOME) == sorted(nemoclaw_hookspecs.__all__)


def test_the_version_of_the_distribution_is_that_of_the_contract() -> None:
    assert version.__version__.startswith(f"{API[0]}.{API[1]}.")


@pytest.mark.parametrize("kind", OPERATIONS, ids=lambda kind: kind.__name__)
def test_every_operation_has_a_phase_a_meaning_and_frozen_slots(kind: type) -> None:
    assert vars(kind)["phase"] in PHASES
    assert inspect.getdoc(kind)
    assert attrs.fields_dict(kind)["origin"].default == ""
    assert not hasattr(kind, "__dict__") or "__slots__" in vars(kind)


@pytest.mark.parametrize(
    "kind",
    [value for value in vars(errors).values() if inspect.isclass(value)],
    ids=lambda kind: kind.__name__,
)
def test_every_error_has_a_code_an_exit_status_and_says_what_where_and_remedy(
    kind: type[NemoclawError],
) -> None:
    if not issubclass(kind, NemoclawError):
        pytest.skip("not an error of ours")
    more = {"plugin": "toy"} if kind is errors.PluginError else {}
    error = kind("it broke", where="policies.toml:3", remedy="mend it", **more)
    assert str(error) == "policies.toml:3: it broke\n  remedy: mend it"
    assert kind.exit_code in (2, 3, 4, 125, 126, 127)
    assert kind.code
    assert inspect.getdoc(kind)


def test_error_codes_are_unlike() -> None:
    kinds = [
        value
        for value in vars(errors).values()
        if inspect.isclass(value) and issubclass(value, NemoclawError)
    ]
    assert len({kind.code for kind in kinds}) == len(kinds)
