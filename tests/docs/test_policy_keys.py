"""docs/policy.md and policies.toml against the JSON Schema that ``nemoclaw schema`` prints."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .conftest import Page


def keys(schema: dict[str, Any], root: dict[str, Any], prefix: str = "") -> Iterator[str]:
    """Every key that the schema knows, dotted. NAME stands for a name that the user chooses."""
    if "$ref" in schema:
        node: Any = root
        for part in schema["$ref"].removeprefix("#/").split("/"):
            node = node[part]
        schema = node
    for choice in (*schema.get("anyOf", ()), *schema.get("oneOf", ()), *schema.get("allOf", ())):
        yield from keys(choice, root, prefix)
    if isinstance(schema.get("items"), dict):
        yield from keys(schema["items"], root, prefix)
    children = dict(schema.get("properties", {}))
    for extra in (
        schema.get("additionalProperties"),
        *schema.get("patternProperties", {}).values(),
    ):
        if isinstance(extra, dict) and {"properties", "$ref", "anyOf", "oneOf"} & set(extra):
            children["NAME"] = extra
    for name, child in children.items():
        path = f"{prefix}.{name}" if prefix else name
        yield path
        yield from keys(child, root, path)


def schema_keys() -> set[str]:
    command = [sys.executable, "-m", "nemoclaw_core.cli", "schema"]
    schema = json.loads(subprocess.run(command, check=True, capture_output=True).stdout)
    return {re.sub(r"^policy\.NAME\.?", "", path) for path in keys(schema, schema)} - {""}


def documented_keys(page: Page) -> set[str]:
    """First cells, in backquotes, of the tables whose first column is called ``key``."""
    rows = [row for table in page.tables() if table[0][0] == "key" for row in table[1:]]
    return {name for row in rows for name in re.findall(r"`([^`]+)`", row[0])}


def test_every_policy_key_is_documented_and_every_documented_key_exists(
    pages: Mapping[str, Page],
) -> None:
    written, real = documented_keys(pages["docs/policy.md"]), schema_keys()
    assert written == real
