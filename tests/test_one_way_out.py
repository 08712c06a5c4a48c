"""Everything that is printed passes one module, which takes the credentials out of it."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

import ddbrelay

ROOT = Path(ddbrelay.__file__).parent
MAY_WRITE = {
    "cli/console.py": "the way itself",
    "logs.py": "log lines, scrubbed by its formatters",
    "aws_lambda/log.py": "a function has no command line; it hides by itself",
    "lock.py": "os.write, of a process id into its own file",
}
_PRINTING = {"echo", "secho", "echo_via_pager", "confirm", "prompt"}
_WRITING = {"write", "writelines", "buffer", "flush"}


def ways_out(tree: ast.AST) -> Iterator[str]:
    """The places where a module writes to stdout or stderr, or could."""
    consoles = {
        one.asname or one.name
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom) and node.module == "rich.console"
        for one in node.names
        if one.name == "Console"
    }
    for node in ast.walk(tree):
        match node:
            case ast.Call(func=ast.Name("print")):
                yield f"line {node.lineno}: print"
            case ast.Call(func=ast.Attribute(ast.Name("click"), name)) if name in _PRINTING:
                yield f"line {node.lineno}: click.{name}"
            case ast.Call(func=ast.Attribute(ast.Name("os"), "write")):
                yield f"line {node.lineno}: os.write"
            case ast.Call(func=ast.Name(name), keywords=options) if name in consoles:
                if "file" not in {option.arg for option in options}:
                    yield f"line {node.lineno}: a console of rich"
            case ast.Attribute(ast.Attribute(ast.Name("sys"), stream), name) if (
                stream.strip("_") in {"stdout", "stderr"} and name in _WRITING
            ):
                yield f"line {node.lineno}: sys.{stream}.{name}"


@pytest.mark.parametrize(
    ("code", "number"),
    [
        ("print(1)", 1),
        ("click.echo(1); click.secho(2)", 2),
        ("sys.stdout.write(''); sys.__stderr__.buffer", 2),
        ("from rich.console import Console as C\nC(); C(file=f)", 1),
        ("os.write(1, b'')", 1),
        ("is_terminal(sys.stdout)", 0),
    ],
)
def test_the_ways_out_are_known(code: str, number: int) -> None:
    assert len([*ways_out(ast.parse(code))]) == number


def test_nothing_is_printed_past_the_module_that_hides_credentials() -> None:
    found = {
        str(file.relative_to(ROOT)): [*ways_out(ast.parse(file.read_text()))]
        for file in ROOT.rglob("*.py")
    }
    writers = {name: ways for name, ways in found.items() if ways}
    assert writers.keys() == MAY_WRITE.keys(), {
        name: ways for name, ways in writers.items() if name not in MAY_WRITE
    }
