"""Everything that is printed passes one module, which takes the credentials out of it."""

from __future__ import annotations

import ast
import io
import json
from base64 import b64encode
from collections.abc import Iterator
from pathlib import Path

import pytest
from conftest import Cli

import ddbrelay
from ddbrelay.cli import console
from ddbrelay.secrecy import hidden_bytes

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


SECRET = "canary/secret+key=="


@pytest.fixture
def in_use(monkeypatch: pytest.MonkeyPatch) -> str:
    """A credential of this process."""
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", SECRET)
    return SECRET


def test_bytes_lose_what_texts_lose(in_use: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTPS_PROXY", "http://me:s3cret-ü@proxy:1")
    text = f'{{"a": "{in_use}", "b": "canary%2Fsecret%2Bkey%3D%3D at http://me:s3cret-ü@proxy"}}'
    shown = hidden_bytes(text.encode()).decode()
    assert shown == '{"a": "[redacted]", "b": "[redacted] at http://proxy"}'
    assert hidden_bytes(b"plain") == b"plain"


def test_a_credential_within_a_binary_is_hidden_wherever_it_stands(in_use: str) -> None:
    for ahead in range(7):
        for behind in range(4):
            data = b"\xff" * ahead + in_use.encode() + b"\xfe" * behind
            shown = hidden_bytes(b'{"a": "%s"}' % b64encode(data)).decode()
            assert "[redacted]" in shown
            # What is left are the bytes around it, and at most a character on each side.
            left = json.loads(shown)["a"].replace("[redacted]", "")
            assert len(left.rstrip("=")) <= 4 * (ahead + behind) / 3 + 2
    exact = b64encode(in_use.encode()).decode()
    assert hidden_bytes(f'{{"a": "{exact}"}}'.encode()) == b'{"a": "[redacted]"}'


def test_every_way_out_hides(in_use: str, capfd: pytest.CaptureFixture[str]) -> None:
    console.out(f"out {in_use}")
    console.err(f"err {in_use}")
    console.out_bytes(f"bytes {in_use}\n".encode())
    console.out_json(f'{{"json": "{in_use}"}}\n'.encode())
    console.append(1, f"append {in_use}\n")
    console.terminal().print(f"rich {in_use}")
    console.terminal(stderr=True).print(f"rich {in_use}")
    ways = console.Console("json")
    ways.object({"object": in_use})
    ways.data(f"data {in_use}")
    ways.words(f"words {in_use}")
    out, err = capfd.readouterr()
    assert "canary" not in out + err
    assert (out.count("[redacted]"), err.count("[redacted]")) == (7, 3)


def test_a_row_that_is_cut_has_no_half_of_a_credential(in_use: str) -> None:
    from rich.console import Console as Rich
    from stage import outcome

    from ddbrelay.cli.view.rows import Shown, below, row_lines

    shown = Shown.of(outcome(in_use, new={"id": in_use, "name": in_use}), detail=True)
    screen = Rich(file=io.StringIO(), width=40)
    for line in (*row_lines(shown, 40), *below(shown, 24)):
        screen.print(line)
    assert "canary" not in screen.file.getvalue()  # type: ignore[attr-defined]


@pytest.mark.parametrize("char", ["\x80", "\x9b", "\x9f", "\u061c", "\u200e", "\u202e", "\u2066"])
def test_json_escapes_what_a_terminal_would_obey(char: str) -> None:
    line = json.dumps({"a": f"x{char}y", "ü": "\u2028é語😀\u200d"}, ensure_ascii=False).encode()
    shown = console.escaped(line)
    assert char not in shown.decode()
    assert f"\\u{ord(char):04x}" in shown.decode()
    assert json.loads(shown) == json.loads(line)
    assert "ü" in shown.decode()
    assert console.escaped('{"ü": "語"}'.encode()) == '{"ü": "語"}'.encode()


def test_map_prints_no_control_character_in_any_form(bare_cli: Cli) -> None:
    text = "a\x9b31mb\u202ec\u2066d\x85e"
    change = {
        "eventID": "1",
        "eventName": "INSERT",
        "dynamodb": {
            "SequenceNumber": "1",
            "Keys": {"id": {"S": text}},
            "NewImage": {"id": {"S": text}, "note": {"S": text}},
        },
    }
    (bare_cli.directory / "changes.json").write_text(json.dumps(change))
    for form in ("rich", "lines", "json"):
        done = bare_cli.ok(
            *("map", "changes.json", "--table", "users", "--explain", "--detail"),
            *("--output", form),
        )
        assert not set(done.stdout + done.stderr) & set("\x9b\x85\u202e\u2066")
