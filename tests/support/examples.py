"""The examples of docs/python.md."""

from __future__ import annotations

import re
from pathlib import Path

DOCUMENT = Path(__file__).parents[2] / "docs" / "python.md"
_NETWORK = "# network\n"


def examples(*, network: bool) -> list[str]:
    """Return the blocks of Python that need a network, or those that need none."""
    blocks = re.findall(r"^```python\n(.*?)^```$", DOCUMENT.read_text(), re.DOTALL | re.MULTILINE)
    return [block for block in blocks if block.startswith(_NETWORK) == network]
