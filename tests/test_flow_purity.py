"""The path of a record is pure, and each station knows only the stations before it."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

import ddbrelay.flow

ROOT = Path(ddbrelay.flow.__file__).parent
ROOT_NAME = "ddbrelay.flow"
MODULES = sorted(ROOT.rglob("*.py"))
MAY_BE_IMPORTED = {
    "__future__",
    "base64",
    "collections",
    "dataclasses",
    "datetime",
    "decimal",
    "difflib",
    "enum",
    "functools",
    "hashlib",
    "ipaddress",
    "jmespath",
    "json",
    "math",
    "msgspec",
    "operator",
    "random",
    "re",
    "typing",
}
SHARED = {"ddbrelay.text", "ddbrelay.times"}
"""Pure themselves, and used by everything."""
BUILT_IN_IO = {"open", "print", "input", "exec", "eval", "__import__", "breakpoint"}


def station(module: str) -> str:
    """`ddbrelay.flow.capture.reader` -> `capture`, a file or a folder of its own."""
    return module.removeprefix(ROOT_NAME).lstrip(".").partition(".")[0]


def imports(tree: ast.Module) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports inside flow/ are absolute"
            assert node.module is not None
            yield node.module


def name_of(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(("ddbrelay", "flow", *(part for part in parts if part != "__init__")))


@pytest.fixture(params=MODULES, ids=name_of)
def module(request: pytest.FixtureRequest) -> tuple[str, ast.Module]:
    return name_of(request.param), ast.parse(request.param.read_text())


def test_a_station_imports_only_stations_that_sort_before_it(
    module: tuple[str, ast.Module],
) -> None:
    name, tree = module
    for imported in imports(tree):
        if imported.startswith("ddbrelay"):
            if imported in SHARED:
                continue
            assert imported.startswith("ddbrelay.flow."), f"{name} imports {imported}"
            assert station(imported) <= station(name), f"{name} imports {imported}"


def test_a_station_imports_nothing_that_waits_reads_or_looks_at_a_clock(
    module: tuple[str, ast.Module],
) -> None:
    name, tree = module
    foreign = {i.partition(".")[0] for i in imports(tree)} - MAY_BE_IMPORTED - {"ddbrelay"}
    assert not foreign, f"{name} imports {sorted(foreign)}"


def test_chance_is_passed_in(module: tuple[str, ast.Module]) -> None:
    name, tree = module
    used = {
        node.attr
        for node in ast.walk(tree)
        if isinstance(node, ast.Attribute)
        and isinstance(node.value, ast.Name)
        and node.value.id == "random"
    }
    assert used <= {"Random"}, f"{name} uses random.{sorted(used)}"
    assert not any(
        isinstance(node, ast.ImportFrom) and node.module == "random" for node in ast.walk(tree)
    )


def test_a_station_only_declares_what_waits(module: tuple[str, ast.Module]) -> None:
    """Ports have coroutines without a body; nothing in flow/ awaits."""
    name, tree = module
    waits = [n for n in ast.walk(tree) if isinstance(n, ast.Await | ast.AsyncFor | ast.AsyncWith)]
    assert not waits, f"{name} awaits"
    for node in ast.walk(tree):
        if isinstance(node, ast.AsyncFunctionDef):
            assert all(isinstance(part, ast.Expr) for part in node.body), f"{name}.{node.name}"


def test_a_station_calls_nothing_that_reads_or_prints(module: tuple[str, ast.Module]) -> None:
    name, tree = module
    called = {
        node.func.id
        for node in ast.walk(tree)
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name)
    }
    assert not called & BUILT_IN_IO, f"{name} calls {sorted(called & BUILT_IN_IO)}"


def test_a_station_computes_with_times_and_never_asks_for_one(
    module: tuple[str, ast.Module],
) -> None:
    name, tree = module
    asked = {node.attr for node in ast.walk(tree) if isinstance(node, ast.Attribute)}
    assert not asked & {"now", "today", "utcnow"}, f"{name} looks at a clock"


def test_there_are_stations_to_look_at() -> None:
    assert {"ddbrelay.flow.change", "ddbrelay.flow.tracking"} <= {name_of(p) for p in MODULES}
