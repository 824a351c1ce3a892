"""``python3 -m battery STAGE.json POLICY [ATTACK ...]`` makes attacks, and says how they went.

``python3 -m battery`` prints the page that lists them.
"""

from __future__ import annotations

import json
import os
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from .listing import ATTACKS, page
from .registry import Attack, Stage, Stopped


def tried(attack: Attack, facts: dict[str, Any]) -> dict[str, Any]:
    """One attack, in a new directory of its own name."""
    stage = Stage(facts=facts, by=attack.name, front=attack.front or attack.policy)
    os.makedirs(attack.name, exist_ok=True)
    try:
        return {"done": True, "said": attack.run(stage)}
    except (Stopped, OSError) as error:
        return {"done": False, "said": f"{type(error).__name__}: {error}"}


def main(arguments: list[str]) -> None:
    """The command line."""
    if not arguments:
        print(page(), end="")
        return
    facts = json.loads(Path(arguments[0]).read_text())
    facts["placeholder"] = os.environ.get("API_KEY", "")
    chosen = [each for each in ATTACKS.values() if each.policy == arguments[1]]
    if named := arguments[2:]:
        chosen = [each for each in chosen if each.name in named]
    together = [each for each in chosen if not each.alone]
    with ThreadPoolExecutor(6) as pool:
        results = list(pool.map(lambda each: tried(each, facts), together))
    told = {each.name: result for each, result in zip(together, results)}  # noqa: B905
    told.update((each.name, tried(each, facts)) for each in chosen if each.alone)
    print(json.dumps(told))


main(sys.argv[1:])
