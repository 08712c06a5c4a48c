"""`--record`: the view of a run, kept as a picture (SVG) or a page (HTML) of one file.

Both ask for nothing from elsewhere: no font, script or style sheet of another machine.
"""

from __future__ import annotations

import html
import logging
import re
import tempfile
from collections import deque
from collections.abc import Callable, Iterator
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

import click

from ddbrelay.cli.files import write_whole
from ddbrelay.errors import ConfigError
from ddbrelay.text import printable

if TYPE_CHECKING:
    from rich.console import Console, ConsoleOptions, RenderableType, RenderResult
    from rich.terminal_theme import TerminalTheme
    from rich.text import Text

ENDINGS = (".svg", ".html")
WIDTH = 100
"""Columns of a recording where nothing else is asked for."""
ROWS = 200
LINES = 1000
"""Lines of all rows together, which may have several each."""
NOTES = 50
_ID = "ddbrelay"
_FONTS = "ui-monospace, SFMono-Regular, Menlo, Consolas, 'DejaVu Sans Mono', monospace"
_ASPECT = 0.6
"""Width of a character to its height in those fonts, as rich's `font_aspect_ratio`."""
_SIZE = 20
"""Height of a character in the SVG that rich writes."""
_LINE: dict[str, Any] = {"no_wrap": True, "overflow": "ellipsis", "crop": True}

SVG_FORMAT = (
    '<svg class="ddbrelay" width="{width}" height="{height}" viewBox="0 0 {width} {height}"'
    ' xmlns="http://www.w3.org/2000/svg" xml:space="preserve">\n'
    "<style>\n"
    f".{{unique_id}}-matrix {{{{ font-family: {_FONTS}; font-size: {{char_height}}px; "
    "line-height: {line_height}px; font-variant-east-asian: full-width; }}\n"
    ".{unique_id}-title {{ font: bold 18px system-ui, Arial, sans-serif; }}\n"
    "{styles}\n"
    "</style>\n"
    "<defs>\n"
    '<clipPath id="{unique_id}-clip-terminal">'
    '<rect x="0" y="0" width="{terminal_width}" height="{terminal_height}"/></clipPath>\n'
    "{lines}\n"
    "</defs>\n"
    "{chrome}\n"
    '<g transform="translate({terminal_x}, {terminal_y})"'
    ' clip-path="url(#{unique_id}-clip-terminal)">\n'
    "{backgrounds}\n"
    '<g class="{unique_id}-matrix">\n{matrix}\n</g>\n'
    "</g>\n"
    "</svg>\n"
)
"""What rich's `export_svg` fills: its own form fetches a font, and has no size to scroll in."""

_PAGE = """<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8"/>
<meta name="viewport" content="width=device-width, initial-scale=1"/>
<meta name="color-scheme" content="dark"/>
<meta http-equiv="Content-Security-Policy"
 content="default-src 'none'; style-src 'unsafe-inline'"/>
<title>{title}</title>
<style>
body {{ margin: 0; background: {background}; color: {foreground}; }}
main {{ padding: 1rem; font: 14px/1.45 {fonts}; }}
main > div, pre {{ margin: 0; font: inherit; white-space: pre; overflow-x: auto; }}
main > div {{ min-height: 1.45em; overflow-x: visible; }}
@media (max-width: 64rem) {{
  main {{ padding: .6rem; font-size: 12px; }}
  main > div {{ white-space: pre-wrap; overflow-wrap: anywhere; }}
  .row {{ padding-left: 3ch; text-indent: -3ch; }}
}}
</style>
</head>
<body>
<main>
{body}
</main>
</body>
</html>
"""

_log = logging.getLogger(__name__)


def theme() -> TerminalTheme:
    """The sixteen colours of a terminal as a picture shows them, on a dark ground."""
    from rich.terminal_theme import TerminalTheme

    # Half of it, which is what dim words have, still has a contrast of 4.5 to the ground.
    ground, words = (24, 26, 31), (234, 236, 241)
    red, green, yellow = (232, 93, 93), (104, 194, 112), (226, 184, 86)
    blue, magenta, cyan = (97, 160, 230), (190, 130, 220), (86, 190, 190)
    bright = [(120, 126, 138), (245, 125, 125), (135, 215, 142), (240, 205, 120)]
    bright += [(140, 190, 250), (212, 165, 238), (125, 215, 215), (255, 255, 255)]
    return TerminalTheme(
        ground, words, [ground, red, green, yellow, blue, magenta, cyan, words], bright
    )


def picture(console: Console, title: str) -> str:
    """What a recording console was told, as an SVG document of a terminal's window."""
    # rich clips each line to a path, which it leaves out for the last one; and each line break is a
    # text of its own.
    console.print()
    svg = console.export_svg(
        title=printable(title),
        theme=theme(),
        code_format=SVG_FORMAT,
        font_aspect_ratio=_ASPECT,
        unique_id=_ID,
    )
    svg = re.sub(r"<text [^>]*>\n</text>", "", svg)
    # The three buttons of a window have the colours that mean published, waiting and lost here.
    svg = re.sub(r'<g transform="translate\(26,22\)">.*?</g>', "", svg, flags=re.S)
    return re.sub(r'textLength="[^"]*"([^>]*)>([^<]*)<', _in_cells, svg)


def _in_cells(found: re.Match[str]) -> str:
    # rich counts characters here, so that those of two cells would be squeezed into one.
    from rich.cells import cell_len

    long = cell_len(html.unescape(found[2])) * _SIZE * _ASPECT
    return f'textLength="{long:g}"{found[1]}>{found[2]}<'


class Recording:
    """The header, the last 200 rows, the last 50 notes, the status and the summary of a run.

    As a context manager it is written when the block ends, however it ends; what cannot be written
    is a ConfigError, or a warning where another error is under way. A row may be given as a
    function, which is called only if the row is among the last ones at the end. Control characters
    of any text are replaced. Nothing in the file depends on when or where it was written.
    """

    def __init__(self, path: Path, *, title: str, width: int | None = None) -> None:
        self.check(path)
        self.path = path
        self.width = width or WIDTH
        self._title = printable(title)
        self._header: Text | None = None
        self._rows: deque[tuple[int, Text | Callable[[], Text]]] = deque(maxlen=ROWS)
        self._notes: deque[tuple[int, Text]] = deque(maxlen=NOTES)
        self._rows_given = self._notes_given = 0
        self._status: Text | None = None
        self._summary: RenderableType | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        try:
            self.write()
        except ConfigError as failure:
            if error is None:
                raise
            _log.warning("%s", failure.message)

    @staticmethod
    def check(path: Path) -> None:
        """ConfigError where a recording could not be written: ending, folder, permission."""
        shown = printable(str(path))
        if path.suffix.lower() not in ENDINGS:
            raise ConfigError(
                f'"--record {shown}" is neither .svg nor .html', "give a file of that ending"
            )
        if path.is_dir():
            raise ConfigError(f"cannot write {shown}: it is a folder")
        if not path.parent.is_dir():
            raise ConfigError(
                f"cannot write {shown}: there is no folder {printable(str(path.parent))}"
            )
        try:
            # Permission bits alone do not tell: of a read-only or a full disk, of root.
            with tempfile.TemporaryFile(dir=path.parent):
                pass
        except OSError as error:
            raise ConfigError(f"cannot write {shown}: {error.strerror}") from None

    def header(self, text: Text) -> None:
        """The first line."""
        self._header = text

    def row(self, text: Text | Callable[[], Text]) -> None:
        """A line for an event, or of its detail, as rendered for `width` columns."""
        self._rows.append((self._rows_given + self._notes_given, text))
        self._rows_given += 1

    def note(self, text: Text) -> None:
        """A line that stays when the rows around it have been left out."""
        self._notes.append((self._rows_given + self._notes_given, text))
        self._notes_given += 1

    def status(self, text: Text) -> None:
        """The status lines; the last ones given count."""
        self._status = text

    def summary(self, renderable: RenderableType) -> None:
        """What sums the run up, such as a table."""
        self._summary = renderable

    def write(self) -> None:
        """Write the file in one step; ConfigError where that fails."""
        draw = self._svg if self.path.suffix.lower() == ".svg" else self._html
        write_whole(self.path, draw())

    def _body(self) -> Iterator[tuple[Text, dict[str, Any]]]:
        """Rows and notes in the order in which they came, and how they are printed."""
        from rich.text import Text

        rows = self._last_rows()
        for given, kept, what in (
            (self._rows_given, len(rows), "rows"),
            (self._notes_given, len(self._notes), "notes"),
        ):
            if given > kept:
                yield Text(f"… {given - kept:,} earlier {what} are left out", style="dim"), _LINE
        body = [(number, row, _LINE) for number, row in rows]
        body += [(number, note, {}) for number, note in self._notes]
        for _, text, options in sorted(body, key=lambda one: one[0]):
            yield text, options

    def _last_rows(self) -> list[tuple[int, Text]]:
        """As many of the last rows as LINES has room for, and one in any case."""
        rows: list[tuple[int, Text]] = []
        left = LINES
        for number, row in reversed(self._rows):
            text = row() if callable(row) else row
            left -= text.plain.count("\n") + 1
            if rows and left < 0:
                break
            rows.append((number, text))
        return rows

    def _console(self) -> Console:
        import io

        from rich.console import Console

        return Console(
            record=True,
            file=io.StringIO(),
            width=self.width,
            force_terminal=True,
            color_system="truecolor",
            no_color=False,
            legacy_windows=False,
            markup=False,
            emoji=False,
            highlight=False,
            _environ={},
        )

    def _svg(self) -> str:
        from rich.text import Text

        console = self._console()
        if self._header is not None:
            console.print(_Clean(self._header), **_LINE)
            console.print(Text())
        for text, options in self._body():
            console.print(_Clean(text), **options)
        if self._status is not None:
            console.print(_Clean(self._status), **_LINE)
        if self._summary is not None:
            console.print(Text())
            console.print(_Clean(self._summary))
        return picture(console, self._title)

    def _html(self) -> str:
        from rich.text import Text

        def block(tag: str, renderable: RenderableType, **options: Any) -> str:
            # A block of its own for each: a phone wraps the rows and scrolls the table.
            console = self._console()
            console.print(_Clean(renderable), **options)
            code = console.export_html(theme=colours, code_format="{code}", inline_styles=True)
            return f"<{tag}>{code.rstrip()}</{tag.partition(' ')[0]}>"

        colours = theme()
        parts: list[str] = []
        if self._header is not None:
            parts += [block("div", self._header, **_LINE), block("div", Text())]
        parts += [block('div class="row"', text, **options) for text, options in self._body()]
        if self._status is not None:
            parts.append(block("div", self._status, **_LINE))
        if self._summary is not None:
            parts += [block("div", Text()), block("pre", self._summary)]
        return _PAGE.format(
            title=html.escape(self._title),
            background=colours.background_color.hex,
            foreground=colours.foreground_color.hex,
            fonts=_FONTS,
            body="\n".join(parts),
        )


class _Clean:
    """The same, without control characters, and without links to elsewhere."""

    def __init__(self, renderable: RenderableType) -> None:
        from rich.text import Text

        if isinstance(renderable, Text):
            # Before it is measured: a character that has no width becomes one that has.
            renderable = renderable.copy()
            renderable.plain = _lines_printable(renderable.plain)
        self._renderable = renderable

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        from rich.segment import Segment

        for segment in Segment.filter_control(console.render(self._renderable, options)):
            style = segment.style
            if style is not None and style.link:
                style = style.update_link(None)
            yield Segment(_lines_printable(segment.text), style)


def _lines_printable(text: str) -> str:
    return "\n".join(map(printable, text.split("\n")))


def _checked(ctx: click.Context, param: click.Parameter, value: Path | None) -> Path | None:
    if value is not None and not ctx.resilient_parsing:
        Recording.check(value)
    return value


def record_option(function: Any) -> Any:
    """Decorator: the command takes `--record FILE`, as `record: Path | None`, checked."""
    option = click.option(
        "--record",
        type=click.Path(path_type=Path),
        metavar="FILE.svg|.html",
        callback=_checked,
        help="keep the view of the run in this file, as a picture or a page",
    )
    return option(function)
