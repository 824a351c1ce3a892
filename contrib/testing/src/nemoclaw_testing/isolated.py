"""Run a plugin's hook in an interpreter of its own, without the core (``python -m``).

Arguments: the plugin's ``module[:object]`` and the hook. Standard input: the pickled cases.
Standard output: JSON with the answers as text, and nemoclaw's packages that were imported.
"""

from __future__ import annotations

import importlib
import json
import pickle
import sys
from typing import Any


class _NoCore:
    """An import finder in front of all others, to which the core does not exist."""

    def find_spec(self, name: str, path: object = None, target: object = None) -> None:
        if name.partition(".")[0] == "nemoclaw_core":
            raise ModuleNotFoundError("a plugin may not import nemoclaw_core", name=name)


def main() -> None:
    """Answer every case and print what came out."""
    reference, hook = sys.argv[1:]
    sys.meta_path.insert(0, _NoCore())
    module, _, attribute = reference.partition(":")
    plugin: Any = importlib.import_module(module)
    if attribute:
        plugin = getattr(plugin, attribute)
    answers = [
        repr(getattr(plugin, hook)(**arguments)) for arguments in pickle.load(sys.stdin.buffer)
    ]
    mine = module.partition(".")[0]
    packages = {name.partition(".")[0] for name in sys.modules}
    imported = sorted(
        name
        for name in packages
        if name.startswith("nemoclaw_")
        and name not in (mine, "nemoclaw_hookspecs", "nemoclaw_testing")
    )
    print(json.dumps({"answers": answers, "imported": imported}))


if __name__ == "__main__":
    main()
