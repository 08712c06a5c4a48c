"""The README does what it says: its commands run, its help and its tables are those of the code.

A block of commands is opened with ```sh, and the line before it says what becomes of it:
`<!-- run -->` runs here, all blocks of one level-2 section in one session of bash;
`<!-- install -->` and `<!-- test -->` are for CI; `<!-- no run: reason -->` runs nowhere. A block
of help stands as ```text behind `<!-- help: ddbrelay tail -->`; `python -m tests.test_readme`
writes these blocks anew.
"""

from __future__ import annotations

import difflib
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, fields
from pathlib import Path

import pytest

from ddbrelay import config, errors
from ddbrelay.cli.main import COMMANDS

ROOT = Path(__file__).parent.parent
README = ROOT / "README.md"
DOCUMENTS = [README, ROOT / "examples" / "README.md"]
_FENCE = re.compile(r" *(```+|~~~+) *(\S*)")
_HELP = re.compile(r"(<!-- help: (ddbrelay[^\n]*?) -->\n```text\n)(.*?)^```$", re.M | re.S)
_OTHER_SHELLS = {"bash", "console", "shell", "shell-session", "zsh"}
_LONGEST_SESSION = 240.0


@dataclass(frozen=True)
class Block:
    """A fenced block; `section` is the level-2 heading above it, `mark` what the comment says."""

    language: str
    text: str
    line: int
    section: str
    mark: str


def blocks(markdown: str) -> Iterator[Block]:
    """Every fenced block, in order."""
    section, before, inside = "", "", None
    body: list[str] = []
    for number, line in enumerate(markdown.splitlines(), 1):
        fence = _FENCE.match(line)
        if inside is not None:
            if fence and line.strip().startswith(inside.fence) and not fence[2]:
                yield Block(inside.language, "\n".join(body), inside.line, section, inside.mark)
                inside = None
            else:
                body.append(line)
        elif fence:
            comment = re.fullmatch(r"\s*<!-- (.+) -->\s*", before)
            inside = _Open(fence[1], fence[2], number, comment[1] if comment else "")
            body = []
        elif line.startswith("## "):
            section = line[3:].strip()
        before = line


@dataclass(frozen=True)
class _Open:
    fence: str
    language: str
    line: int
    mark: str


def faults(markdown: str) -> list[str]:
    """What is wrong with the marks of the blocks, one line each."""
    found = []
    for block in blocks(markdown):
        place = f"line {block.line}"
        known = block.mark in {"run", "install", "test"} or re.match(r"no run: \S", block.mark)
        if block.language in _OTHER_SHELLS:
            found.append(f"{place}: open it with ```sh")
        elif block.language == "sh" and not known:
            found.append(f"{place}: no <!-- run -->, <!-- no run: reason --> … on the line before")
        elif block.language != "sh" and known:
            found.append(f"{place}: marked {block.mark!r}, but not opened with ```sh")
        elif block.text.startswith("Usage: ddbrelay") and not block.mark.startswith("help: "):
            found.append(f"{place}: no <!-- help: ddbrelay … --> on the line before")
    return found


def sessions(markdown: str) -> dict[str, str]:
    """Section -> the commands of its blocks that run."""
    found: dict[str, list[str]] = {}
    for block in blocks(markdown):
        if block.language == "sh" and block.mark == "run":
            found.setdefault(block.section, []).append(block.text)
    return {section: "\n".join(texts) + "\n" for section, texts in found.items()}


def shell_environment(folder: Path) -> dict[str, str]:
    """Variables with which `ddbrelay` and `python3` are those under test, whatever the PATH."""
    programs = folder / "bin"
    programs.mkdir()
    for name, words in {"ddbrelay": "-P -m ddbrelay", "python": "", "python3": ""}.items():
        program = programs / name
        program.write_text(f'#!/bin/sh\nexec "{sys.executable}" {words} "$@"\n')
        program.chmod(0o755)
    return {
        **os.environ,
        "PATH": f"{programs}:{os.environ['PATH']}",
        "DDBRELAY_STATE_DIR": str(folder / "state"),
    }


def run_session(script: str, folder: Path) -> str:
    """Run commands in a new folder that has a copy of `examples`; what they printed.

    Fails with that when one of them does not exit with 0, and when something is left running.
    """
    environment = shell_environment(folder)
    work = folder / "work"
    shutil.copytree(ROOT / "examples", work / "examples")
    (folder / "session.sh").write_text(script)
    with (folder / "printed").open("w+") as printed:
        process = subprocess.Popen(
            ["bash", "-ev", "-o", "pipefail", folder / "session.sh"],
            cwd=work,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=printed,
            stderr=printed,
            start_new_session=True,
        )
        try:
            code: int | None = process.wait(_LONGEST_SESSION)
        except subprocess.TimeoutExpired:
            code = None
        finally:
            left = _end_group(process, patience=5 if process.returncode is not None else 0)
            stopped = subprocess.run(
                [*_program(environment), "local", "stop"], env=environment, capture_output=True
            )
        printed.seek(0)
        text = printed.read()
    assert code == 0, f"exit code {code}, None being a time-out, after:\n{text}"
    assert not left, f"a process of the session was left running:\n{text}"
    assert stopped.returncode == 0, stopped.stderr
    return text


def _program(environment: dict[str, str]) -> list[str]:
    found = shutil.which("ddbrelay", path=environment["PATH"])
    assert found is not None
    return [found]


def _end_group(process: subprocess.Popen[bytes], patience: float) -> bool:
    """Kill what is left of a session; whether there was anything after `patience` seconds."""
    deadline = time.monotonic() + patience
    while True:
        try:
            os.killpg(process.pid, 0)
        except ProcessLookupError:
            return False
        if time.monotonic() >= deadline:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            return True
        time.sleep(0.02)


def help_text(command: str) -> str:
    """What `ddbrelay tail --help` prints, for `ddbrelay tail`, in a terminal of 100 columns."""
    done = subprocess.run(
        [sys.executable, "-m", *command.split(), "--help"],
        env={**os.environ, "COLUMNS": "100"},
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout


def with_help(markdown: str) -> str:
    """The document with every block of help as the code has it."""
    return _HELP.sub(lambda found: f"{found[1]}{help_text(found[2])}```", markdown)


def tables(markdown: str) -> list[list[list[str]]]:
    """Every table as rows of cells, the header first, the line of dashes left out."""
    found: list[list[list[str]]] = []
    inside = False
    for line in _without_blocks(markdown).splitlines():
        row = line.strip()
        if not row.startswith("|"):
            inside = False
            continue
        if not inside:
            found.append([])
            inside = True
        cells = [cell.strip() for cell in re.split(r"(?<!\\)\|", row.strip("|"))]
        if not all(re.fullmatch(r":?-+:?", cell) for cell in cells):
            found[-1].append(cells)
    return found


def first_column(markdown: str, heading: str) -> list[str]:
    """The first cells of every table whose first heading is `heading`, without their markup."""
    return [
        re.sub(r"[`*]|\[|\]\([^)]*\)", "", row[0])
        for header, *rows in tables(markdown)
        if header[0].lower() == heading
        for row in rows
    ]


def _without_blocks(markdown: str) -> str:
    return re.sub(r"^ *(```+|~~~+).*?^ *\1 *$", "", markdown, flags=re.M | re.S)


def links(markdown: str) -> list[str]:
    """Where links and pictures lead, those to other machines left out."""
    text = re.sub(r"`[^`\n]*`", "", _without_blocks(markdown))
    targets = re.findall(r"\]\(\s*<?([^)>\s]+)", text)
    targets += re.findall(r"^\[[^\]]+\]:\s*(\S+)", text, re.M)
    targets += re.findall(r'(?:src|srcset|href)="([^"]+)"', text)
    return [target for target in targets if not re.match(r"[a-z]+:", target)]


def anchors(markdown: str) -> set[str]:
    """The anchors that GitHub gives to the headings."""
    found: dict[str, int] = {}
    for heading in re.findall(r"^#{1,6} +(.+?) *#*$", _without_blocks(markdown), re.M):
        text = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading)
        slug = re.sub(r"[^\w\- ]", "", text.lower()).replace(" ", "-")
        found[slug] = found.get(slug, -1) + 1
    return {
        slug + (f"-{n}" if n else "") for slug, times in found.items() for n in range(times + 1)
    }


def broken_links(document: Path) -> list[str]:
    """The local links of a document that lead nowhere."""
    found = []
    for link in links(document.read_text()):
        path, _, anchor = link.partition("#")
        target = document.parent / path if path else document
        missing = anchor and target.suffix == ".md" and target.is_file()
        if not target.exists() or (missing and anchor not in anchors(target.read_text())):
            found.append(link)
    return found


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_every_block_of_commands_says_what_becomes_of_it(document: Path) -> None:
    assert faults(document.read_text()) == []


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_every_local_link_leads_somewhere(document: Path) -> None:
    assert broken_links(document) == []


@pytest.mark.slow
@pytest.mark.parametrize("section", sessions(README.read_text()))
def test_the_commands_of_a_section_run(section: str, tmp_path: Path) -> None:
    run_session(sessions(README.read_text())[section], tmp_path)


def test_the_readme_has_commands_that_run_install_and_test() -> None:
    marks = [block.mark for block in blocks(README.read_text())]
    assert "run" in marks
    assert marks.count("install") == 1
    assert marks.count("test") == 1


def test_every_block_of_help_is_what_the_command_prints() -> None:
    markdown = README.read_text()
    marked = [block for block in blocks(markdown) if block.mark.startswith("help: ")]
    assert marked, "no <!-- help: ddbrelay tail --> in the README"
    assert len(_HELP.findall(markdown)) == len(marked), "a block of help is not opened with ```text"
    difference = difflib.unified_diff(
        markdown.splitlines(), with_help(markdown).splitlines(), "README.md", "code", lineterm=""
    )
    message = "\n".join(difference)
    assert not message, f"python -m tests.test_readme writes it:\n{message}"


def test_the_command_table_has_every_command() -> None:
    found = [cell.removeprefix("ddbrelay ") for cell in first_column(README.read_text(), "command")]
    assert {cell.split()[0] for cell in found if cell} == set(COMMANDS)


def test_the_table_of_exit_codes_has_every_code() -> None:
    families = [kind for kind in vars(errors).values() if isinstance(kind, type)]
    codes = {kind.exit_code for kind in families if issubclass(kind, errors.DdbrelayError)}
    cells = first_column(README.read_text(), "exit code") + first_column(README.read_text(), "code")
    assert {int(cell) for cell in cells} == codes | {0, errors.INTERRUPTED}


def test_the_unit_of_the_readme_tries_again_for_ever_what_a_restart_can_cure() -> None:
    (unit,) = re.findall(r"^```ini\n(.*?)^```", README.read_text(), re.MULTILINE | re.DOTALL)
    said = dict(line.split("=", 1) for line in unit.splitlines() if re.match(r"\w+=", line))
    assert (said["Restart"], said["StartLimitIntervalSec"]) == ("on-failure", "0")
    assert said["RestartPreventExitStatus"] == str(errors.ConfigError.exit_code)
    assert said["RestartPreventExitStatus"] != str(errors.StateUnavailable.exit_code)


def test_every_setting_stands_in_the_readme_with_its_key_and_its_variable() -> None:
    markdown = README.read_text()
    missing = [
        f"| `{setting.metadata['toml']}` | `{config.env_name(setting.name)}` | "
        f"{setting.metadata['help']} |"
        for setting in fields(config.Settings)
        if not re.search(rf"(?<![\w.]){re.escape(setting.metadata['toml'])}(?![\w.]\w)", markdown)
        or not re.search(rf"\b{config.env_name(setting.name)}\b", markdown)
    ]
    assert not missing, "\n".join(["not in the README:", *missing])


def test_the_table_of_settings_has_no_key_that_does_not_exist() -> None:
    rows = [
        tuple(cell.strip("`") for cell in row[:2])
        for header, *rows in tables(README.read_text())
        if header[:2] == ["key", "variable"]
        for row in rows
    ]
    known = {(s.metadata["toml"], config.env_name(s.name)) for s in fields(config.Settings)}
    assert set(rows) <= known


@pytest.mark.parametrize(
    "text", [block.text for block in blocks(README.read_text()) if block.language == "toml"]
)
def test_every_configuration_file_in_the_readme_is_accepted(text: str, tmp_path: Path) -> None:
    file = tmp_path / config.FILE_NAME
    file.write_text(text)
    assert config.load({"config": str(file)}, {}).file == file


SAMPLE = """# Title
<!-- run -->
```sh
echo zero
```
## One
<!-- run -->
```sh
export NAME=value
cat <<'X'
## not a heading
X
```

<!-- no run: needs an account -->
```sh
false
```
### Below one
<!-- run -->
```sh
test "$NAME" = value
```
## Two
```sh
echo unmarked
```
```bash
echo other
```
<!-- run -->
```text
words
```
[a](#below-one) [b](#nowhere) [c](none.md) [d](https://example.com) `[e](none)`
"""


def test_blocks_are_run_by_section_in_order_and_share_a_session(tmp_path: Path) -> None:
    found = sessions(SAMPLE)
    assert list(found) == ["", "One"]
    assert found[""] == "echo zero\n"
    assert "## not a heading" in run_session(found["One"], tmp_path)


def test_a_block_that_is_not_marked_or_not_sh_is_a_fault() -> None:
    assert [fault.partition(":")[0] for fault in faults(SAMPLE)] == [
        "line 25",
        "line 28",
        "line 32",
    ]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("script", "message"),
    [
        ("echo first\nfalse\necho second\n", "exit code 1"),
        ("false | cat\n", "exit code 1"),
        ("sleep 60 &\n", "left running"),
        ("ddbrelay local status\n", "exit code 5"),
    ],
)
def test_a_command_that_fails_or_stays_is_a_fault(
    script: str, message: str, tmp_path: Path
) -> None:
    with pytest.raises(AssertionError, match=message):
        run_session(script, tmp_path)


def test_a_link_that_leads_nowhere_is_found(tmp_path: Path) -> None:
    (tmp_path / "a.md").write_text(SAMPLE)
    assert broken_links(tmp_path / "a.md") == ["#nowhere", "none.md"]


def test_help_is_written_anew() -> None:
    stale = "<!-- help: ddbrelay tail -->\n```text\nold\n```\nafter\n"
    fresh = with_help(stale)
    assert fresh.startswith(
        "<!-- help: ddbrelay tail -->\n```text\nUsage: ddbrelay tail [OPTIONS]\n"
    )
    assert fresh.endswith("print the version and exit\n```\nafter\n")
    assert with_help(fresh) == fresh


if __name__ == "__main__":
    README.write_text(with_help(README.read_text()))
