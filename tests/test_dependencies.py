"""What pyproject.toml says of the packages that the code needs."""

from __future__ import annotations

import ast
import re
import sys
import tomllib
from collections.abc import Iterator
from importlib.metadata import packages_distributions
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent.parent


def names(requirements: list[str]) -> set[str]:
    """The packages of some requirements, spelt as their distributions are."""
    return {canonical(re.split(r"[\[<>=;! ]", one)[0]) for one in requirements}


def canonical(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def imported() -> dict[str, set[str]]:
    """The packages from outside that ddbrelay imports, with the modules that do."""
    found: dict[str, set[str]] = {}
    for file in sorted((ROOT / "ddbrelay").rglob("*.py")):
        for name in _imports(ast.parse(file.read_text())):
            if name not in sys.stdlib_module_names and name != "ddbrelay":
                found.setdefault(name, set()).add(str(file.relative_to(ROOT)))
    return found


def _imports(node: ast.AST) -> Iterator[str]:
    """What is imported when it runs; for types alone nothing needs to be installed."""
    if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
        return
    if isinstance(node, ast.Import):
        yield from (one.name.partition(".")[0] for one in node.names)
    elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
        yield node.module.partition(".")[0]
    for inner in ast.iter_child_nodes(node):
        yield from _imports(inner)


def test_every_package_that_is_imported_is_asked_for() -> None:
    project: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]
    asked = names([*project["dependencies"], *extras["local"], *extras["dev"]])
    distributions = packages_distributions()
    missing = {
        name: modules
        for name, modules in imported().items()
        if not {canonical(one) for one in distributions.get(name, [name])} & asked
    }
    assert missing == {}


def test_every_package_has_a_lower_bound() -> None:
    """CI installs exactly these versions, and runs on them what they can break."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]
    requirements = [*project["dependencies"], *extras["local"], *extras["dev"]]
    assert [one for one in requirements if ">=" not in one] == ["ddbrelay[local]"]
