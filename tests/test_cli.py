"""The command line itself: options on both sides, help, completion, errors."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import click
import pytest
from conftest import Cli
from pipeline import clear_error

from ddbrelay import __version__
from ddbrelay.cli.main import COMMANDS, cli

HEAVY = ("aiohttp", "boto3", "botocore", "faker", "jmespath", "moto", "msgspec", "rich")


def leaves(*start: str) -> Iterator[tuple[str, ...]]:
    """The words of every command below `start` that is no group."""
    command = found(*start)
    if not isinstance(command, click.Group):
        yield start
        return
    for name in command.list_commands(click.Context(command)):
        yield from leaves(*start, name)


def found(*words: str) -> click.Command:
    """The command of these words."""
    command: click.Command = cli
    for word in words:
        assert isinstance(command, click.Group)
        inner = command.get_command(click.Context(command), word)
        assert inner is not None, words
        command = inner
    return command


def setting(cli: Cli, key: str, *words: str) -> tuple[object, str]:
    [shown] = cli.json(*words)
    entry = shown["settings"][key]
    return entry["value"], entry["origin"]


@pytest.mark.parametrize(
    "words",
    [
        ("--table", "users", "config", "show"),
        ("config", "--table", "users", "show"),
        ("config", "show", "--table", "users"),
        ("--table", "orders", "config", "show", "--table", "users"),
        ("--table", "orders", "config", "--table", "shops", "show", "--table=users"),
        ("config", "show", "--table", "orders", "--table", "users"),
    ],
)
def test_global_options_stand_before_or_after_the_command_and_the_last_wins(
    bare_cli: Cli, words: tuple[str, ...]
) -> None:
    assert setting(bare_cli, "source.table", *words) == ("users", "flag --table")


def test_every_command_takes_every_global_option() -> None:
    def options(command: click.Command) -> set[str]:
        return {opt for param in command.params for opt in param.opts}

    for words in [*leaves(), *((name,) for name in COMMANDS)]:
        assert options(cli) <= options(found(*words)), words


def test_quiet_and_verbose_the_last_wins(bare_cli: Cli) -> None:
    assert bare_cli.ok("-v", "local", "stop", "-q").stderr == ""
    assert "not running\n" in bare_cli.ok("-q", "local", "stop", "-v").stderr


def test_quiet_prints_errors_and_json_results_only(bare_cli: Cli) -> None:
    silent = bare_cli.ok("-q", "config", "show")
    assert (silent.stdout, silent.stderr) == ("", "")
    asked = bare_cli.ok("-q", "config", "show", "--output", "json")
    assert json.loads(asked.stdout)
    wrong = bare_cli.run("-q", "config", "show", "--output", "xml")
    assert wrong.returncode == 2
    assert wrong.stderr.startswith("error: ")


@pytest.mark.parametrize("words", [("--version",), ("config", "show", "--version")])
def test_the_version_is_printed(bare_cli: Cli, words: tuple[str, ...]) -> None:
    assert bare_cli.ok(*words).stdout == f"ddbrelay {__version__}\n"


def test_the_module_and_the_script_are_one_command(bare_cli: Cli) -> None:
    program = "from ddbrelay.cli.main import main; main(['--help'])"
    script = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    module = bare_cli.ok("--help")
    assert module.stdout == script.stdout
    assert module.stdout.startswith("Usage: ddbrelay [OPTIONS] COMMAND [ARGS]...")
    for name in COMMANDS:
        assert f"\n  {name} " in module.stdout


@pytest.mark.parametrize("words", [("config", "show"), ("rules", "--output", "json")])
def test_an_output_that_takes_nothing_is_told_as_such(
    bare_cli: Cli, words: tuple[str, ...]
) -> None:
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(
            bare_cli.arguments(*words, "--table", "users"),
            cwd=bare_cli.directory,
            env=bare_cli.env(),
            stdin=subprocess.DEVNULL,
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
        )
    clear_error(done, 7, "cannot write the output: No space left on device", "make room")


def test_no_command_at_all_shows_the_help_and_is_wrong_usage(bare_cli: Cli) -> None:
    done = bare_cli.run()
    assert (done.returncode, done.stdout) == (2, "")
    assert "Usage: ddbrelay" in done.stderr


@pytest.mark.parametrize(
    ("words", "error", "hint"),
    [
        (("provison",), 'no command "provison"', 'did you mean "provision"?'),
        (("config", "shwo"), 'no command "shwo"', 'did you mean "show"?'),
        (("zzz",), 'no command "zzz"', "ddbrelay --help"),
        (("version",), 'no command "version"', 'did you mean "--version"?'),
        (
            ("--state", "x", "tail"),
            'no option "--state"',
            "it stands behind the command: ddbrelay tail --state …",
        ),
        (
            ("tail", "users"),
            "Got unexpected extra argument (users)",
            "a table is named with --table; ddbrelay tail --help",
        ),
        (("local", "zzz"), 'no command "zzz"', "ddbrelay local --help"),
        (
            ("config", "show", "--tabel", "x"),
            'no option "--tabel"',
            'did you mean "--table"?',
        ),
        (
            ("local", "start", "--engine", "mto"),
            "Invalid value for '--engine'",
            'did you mean "moto"?',
        ),
        (
            ("local", "start", "--engine", "zzz"),
            "Invalid value for '--engine'",
            "ddbrelay local start --help",
        ),
        (("completion", "bsh"), "Invalid value for", 'did you mean "bash"?'),
        (
            ("config", "show", "--output", "jsno"),
            "--output: 'jsno' is none of rich, lines, json",
            'did you mean "json"?',
        ),
        (("tail", "--on-gap", "stopp"), "--on-gap: 'stopp' is none of", 'did you mean "stop"?'),
        (("help", "positons"), 'no topic or command "positons"', 'did you mean "positions"?'),
        (("help", "zzz"), 'no topic or command "zzz"', "ddbrelay help lists what there is"),
        (
            ("help", "config", "shwo"),
            'ddbrelay config has no command "shwo"',
            'did you mean "show"?',
        ),
        (("help", "tail", "x"), 'ddbrelay tail has no command "x"', "ddbrelay tail --help"),
        (("help", "output", "tial"), 'no schema of the output of "tial"', 'did you mean "tail"?'),
        (
            ("local", "start", "--port", "99999"),
            "Invalid value for '--port'",
            "ddbrelay local start --help",
        ),
        (
            ("config", "show", "stray"),
            "Got unexpected extra argument (stray)",
            "ddbrelay config show --help",
        ),
        (("--zzz",), 'no option "--zzz"', "ddbrelay --help"),
        (("--table",), "Option '--table' requires an argument.", "ddbrelay --help"),
    ],
)
def test_wrong_usage_is_two_lines_and_exit_code_2(
    bare_cli: Cli, words: tuple[str, ...], error: str, hint: str
) -> None:
    done = bare_cli.run(*words)
    assert (done.returncode, done.stdout) == (2, "")
    first, second = done.stderr.splitlines()
    assert first.startswith(f"error: {error}")
    assert second == f"  hint: {hint}"


@pytest.mark.parametrize("name", [None, *COMMANDS])
def test_help_shows_examples_and_imports_nothing_heavy(name: str | None) -> None:
    words = [()] if name is None else list(leaves(name))
    program = (
        "import contextlib, json, sys\n"
        "from ddbrelay.cli.main import main\n"
        "for words in json.loads(sys.argv[1]):\n"
        "    with contextlib.suppress(SystemExit):\n"
        "        main([*words, '--help'])\n"
        f"print('loaded:', *sorted(set({HEAVY!r}) & set(sys.modules)))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, json.dumps(words)],
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.splitlines()[-1] == "loaded:"
    assert done.stderr == ""
    if name is not None:
        assert len(re.findall(r"^  Examples?:$", done.stdout, re.MULTILINE)) == len(words)


def raising(statement: str, *words: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run `config show` with a line of Python in place of what it does."""
    program = (
        "import sys\n"
        "from ddbrelay.cli import config\n"
        "from ddbrelay.errors import *\n"
        "def act():\n"
        f"    {statement}\n"
        "config.show.callback = act\n"
        "from ddbrelay.cli.main import main\n"
        "main(sys.argv[1:])\n"
    )
    return subprocess.run(
        [sys.executable, "-c", program, "config", "show", *words],
        capture_output=True,
        text=True,
        env={**os.environ, **environment},
    )


def test_an_error_is_one_line_and_a_hint_without_a_traceback() -> None:
    done = raising("raise AwsRefused('no bus', 'make one')")
    assert (done.returncode, done.stdout) == (5, "")
    assert done.stderr == "error: no bus\n  hint: make one\n"


@pytest.mark.parametrize(
    ("error", "code"),
    [
        ("ConfigError", 2),
        ("StateError", 2),
        ("RecordsParked", 3),
        ("DataLost", 4),
        ("AwsRefused", 5),
        ("ExpectationNotMet", 6),
        ("TemporaryFailure", 7),
        ("StateUnavailable", 7),
        ("DdbrelayError", 1),
    ],
)
def test_each_family_of_errors_has_its_exit_code(error: str, code: int) -> None:
    done = raising(f"raise {error}('it happened')")
    assert (done.returncode, done.stderr) == (code, "error: it happened\n")


def test_verbose_adds_the_chain_and_twice_the_traceback() -> None:
    statement = "raise AwsRefused('no bus') from KeyError('below')"
    plain = raising(statement).stderr
    chain = raising(statement, "-v").stderr
    assert chain.endswith(f"caused by: KeyError: 'below'\n{plain}")
    assert "Traceback" not in chain
    full = raising(statement, "-vv").stderr
    assert "Traceback (most recent call last)" in full
    assert full.endswith(plain)


def test_what_nobody_expected_is_one_line_too() -> None:
    done = raising("raise RuntimeError('a surprise\\nwith a second line')")
    assert done.returncode == 1
    first, second = done.stderr.splitlines()
    assert first == "error: unexpected: RuntimeError: a surprise"
    assert second == "  hint: run again with -vv and report what it prints"


def test_a_botocore_error_that_nobody_translated_is_one_line() -> None:
    statement = (
        "from botocore.exceptions import ClientError; raise ClientError({'Error': "
        "{'Code': 'ExpiredTokenException', 'Message': 'old'}}, 'ListTables')"
    )
    done = raising(statement)
    assert done.returncode == 5
    assert "AWS refused the credentials, to call ListTables" in done.stderr


@pytest.mark.parametrize(
    "statement",
    [
        "raise KeyboardInterrupt",
        "import click; raise click.Abort",
        "import os, signal; os.kill(os.getpid(), signal.SIGINT); signal.pause()",
        "import os, signal; os.kill(os.getpid(), signal.SIGTERM); signal.pause()",
    ],
)
def test_an_interrupt_unwinds_and_ends_with_130(statement: str) -> None:
    wrapped = statement if statement.startswith("raise") else f"exec({statement!r})"
    done = raising(f"exec('''try:\\n    {wrapped}\\nfinally:\\n    print('cleaned up')''')")
    assert (done.returncode, done.stdout) == (130, "cleaned up\n")
    assert "error: interrupted" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_number_that_a_command_returns_is_its_exit_code() -> None:
    assert raising("return 6").returncode == 6
    assert raising("return None").returncode == 0


@pytest.mark.parametrize("words", [("config", "show"), ("--help",), ("config", "show", "--help")])
def test_a_reader_that_leaves_early_is_no_error(bare_cli: Cli, words: tuple[str, ...]) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    try:
        done = subprocess.run(
            bare_cli.arguments(*words),
            cwd=bare_cli.directory,
            env=bare_cli.env(),
            stdout=writer,
            stderr=subprocess.PIPE,
            text=True,
        )
    finally:
        os.close(writer)
    assert (done.returncode, done.stderr) == (0, "")


def test_a_connection_that_breaks_is_an_error_and_not_a_reader_that_left() -> None:
    done = raising("raise BrokenPipeError(32, 'Broken pipe')")
    assert done.returncode == 5
    assert "error: a connection broke" in done.stderr


@pytest.mark.parametrize("no_color", [True, False])
def test_colour_is_for_terminals_and_off_where_asked(bare_cli: Cli, no_color: bool) -> None:
    pty = pytest.importorskip("pty")
    bare_cli.environment |= {"TERM": "xterm"} | ({"NO_COLOR": "1"} if no_color else {})
    master, slave = pty.openpty()
    with subprocess.Popen(
        bare_cli.arguments("config", "show", "--grace", "1"),
        cwd=bare_cli.directory,
        env=bare_cli.env(),
        stdin=subprocess.DEVNULL,
        stdout=slave,
        stderr=slave,
    ) as process:
        os.close(slave)
        assert process.wait(30) == 2
    screen = os.read(master, 10_000).decode()
    os.close(master)
    assert ("\x1b[" in screen) is not no_color
    assert "error:" in screen


def test_all_three_outputs_of_config_show_agree(bare_cli: Cli) -> None:
    plain = bare_cli.ok("config", "show", "--output", "lines").stdout
    rich = bare_cli.ok("config", "show", "--output", "rich").stdout
    assert "\x1b" not in plain + rich
    lines = [line.rsplit("  ", 1) for line in plain.replace("lines", "rich ").splitlines()]
    # At a terminal the value, which may be long, stands behind its origin.
    swapped = [(*left.split(None, 1), origin) for left, origin in lines]
    told = [line.split(None, 1) for line in rich.splitlines()]
    assert [key for key, *_ in swapped] == [key for key, _ in told]
    for (_, value, origin), (_, rest) in zip(swapped, told, strict=True):
        assert rest.removeprefix(origin).strip() == value.strip()
