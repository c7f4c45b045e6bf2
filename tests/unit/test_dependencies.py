"""What the package imports is what it declares."""

from __future__ import annotations

import ast
import itertools
import re
import sys
import tomllib
from importlib.metadata import packages_distributions
from pathlib import Path

REPOSITORY = Path(__file__).parents[2]


def normalized(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def declared() -> set[str]:
    """Return the names of distributions that users get, extras included."""
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]
    lines = itertools.chain(project["dependencies"], *project["optional-dependencies"].values())
    return {normalized(re.split(r"[^\w.-]", line)[0]) for line in lines}


def imported(path: Path) -> set[str]:
    """Return the packages that a module imports, but for what only type checkers see."""
    found = set()
    todo: list[ast.AST] = [ast.parse(path.read_text())]
    while todo:
        node = todo.pop()
        match node:
            case ast.If(test=ast.Name(id="TYPE_CHECKING")):
                continue
            case ast.Import():
                found |= {alias.name for alias in node.names}
            case ast.ImportFrom(module=str() as module, level=0):
                found.add(module)
        todo += ast.iter_child_nodes(node)
    return {name.partition(".")[0] for name in found}


def test_every_package_that_is_imported_is_declared() -> None:
    known, wanted = packages_distributions(), declared()
    others = sys.stdlib_module_names | {"idcfs", "polars"}  # the last for users who have it
    for path in (REPOSITORY / "idcfs").rglob("*.py"):
        for package in imported(path) - others:
            names = {normalized(name) for name in known.get(package, [package])}
            assert names & wanted, f"{path.relative_to(REPOSITORY)} imports {package}"
