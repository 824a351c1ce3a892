"""The pages of the documentation, as text that tests take apart."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

import attrs
import pytest

ROOT = Path(__file__).resolve().parents[2]


@attrs.frozen(slots=True, kw_only=True)
class Block:
    """A fenced example: where it stands, its language, its text."""

    where: str
    language: str
    text: str


@attrs.frozen(slots=True, kw_only=True)
class Page:
    """One page."""

    name: str
    """Relative to the repository's root."""
    text: str

    def blocks(self, language: str) -> tuple[Block, ...]:
        """Fenced examples whose info string is exactly ``language``."""
        found = []
        for match in re.finditer(r"(?ms)^```([^\n`]*)\n(.*?)^```$", self.text):
            line = self.text.count("\n", 0, match.start()) + 1
            info, text = match[1].strip(), match[2]
            found.append(Block(where=f"{self.name}:{line}", language=info, text=text))
        return tuple(block for block in found if block.language == language)

    def tables(self) -> tuple[tuple[tuple[str, ...], ...], ...]:
        """Tables as rows of cells, the header first, the rule under it left out."""
        found: list[list[tuple[str, ...]]] = []
        before = ""
        for line in self.text.splitlines():
            if line.startswith("|"):
                if not before.startswith("|"):
                    found.append([])
                cells = re.split(r"(?<!\\)\|", line.strip().strip("|"))
                if not re.fullmatch(r"[|\s:-]+", line):
                    found[-1].append(tuple(cell.strip() for cell in cells))
            before = line
        return tuple(tuple(table) for table in found)

    def links(self) -> tuple[str, ...]:
        """Targets of links that are not addresses on the web."""
        targets = re.findall(r"\]\(([^)\s]+)\)", self.text)
        return tuple(each for each in targets if not each.startswith(("http:", "https:", "#")))


@pytest.fixture(scope="session")
def pages() -> Mapping[str, Page]:
    """Every page of this repository by name."""
    patterns = ("*.md", "docs/*.md", "hookspecs/*.md", "plugins/*/*.md", "contrib/**/*.md")
    files = sorted(path for pattern in patterns for path in ROOT.glob(pattern))
    names = (str(path.relative_to(ROOT)) for path in files)
    return {name: Page(name=name, text=(ROOT / name).read_text()) for name in names}
