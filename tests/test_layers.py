"""What may import what: the command line is on top of everything, and alone has a terminal."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

import ddbrelay

ROOT = Path(ddbrelay.__file__).parent
BELOW = sorted(
    path
    for path in ROOT.rglob("*.py")
    # `python -m` is a command line of its own.
    if "cli" not in path.relative_to(ROOT).parts and path.name != "__main__.py"
)


def imported(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.module is not None
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


@pytest.mark.parametrize("path", BELOW, ids=lambda path: str(path.relative_to(ROOT)))
def test_nothing_below_the_command_line_knows_it_or_a_terminal(path: Path) -> None:
    for name in imported(path):
        top = name.partition(".")[0]
        assert top not in {"click", "rich"}, f"{path} imports {name}"
        assert not name.startswith("ddbrelay.cli"), f"{path} imports {name}"


def test_only_the_doctor_knows_its_examination() -> None:
    """What runs need of it belongs to them: they load nothing of the doctor."""
    knowing = {
        path.relative_to(ROOT).as_posix()
        for path in ROOT.rglob("*.py")
        if any(name.startswith("ddbrelay.checkup") for name in imported(path))
    }
    assert {path for path in knowing if not path.startswith("checkup/")} == {"cli/doctor.py"}


def test_there_is_something_below_it() -> None:
    assert {"jobs.py", "engine.py", "session.py"} <= {path.name for path in BELOW}


def test_a_number_and_its_noun_are_put_into_words_by_one_function() -> None:
    having = [
        path.relative_to(ROOT).as_posix()
        for path in ROOT.rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.FunctionDef) and node.name.strip("_") == "counted"
    ]
    assert having == ["text.py"]
