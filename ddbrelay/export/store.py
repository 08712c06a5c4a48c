"""Writing a project: all of its files or none, and never over what somebody changed."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Mapping
from pathlib import Path

from ddbrelay.errors import ConfigError

_SHOWN = 3


def write(folder: Path, files: Mapping[str, bytes], *, force: bool = False) -> dict[str, str]:
    """Write the files below the folder; by path, whether each was written or is unchanged.

    ConfigError where one is there with another content, unless `force`, and where the folder
    cannot be written. Each file is replaced in one step.
    """
    states = {name: _state(folder / name, content) for name, content in files.items()}
    different = [name for name, state in states.items() if state == "differs"]
    if different and not force:
        more = f" and {len(different) - _SHOWN} more" if len(different) > _SHOWN else ""
        raise ConfigError(
            f"{', '.join(str(folder / name) for name in different[:_SHOWN])}{more} "
            f"{'differs' if len(different) == 1 else 'differ'} from what would be written",
            "--force replaces what is there, --dir writes elsewhere",
        )
    wanted = {name: files[name] for name, state in states.items() if state != "unchanged"}
    ready: dict[str, str] = {}
    try:
        for name, content in wanted.items():
            ready[name] = _beside(folder / name, content)
        for name in wanted:
            os.replace(ready[name], folder / name)
            del ready[name]
    except OSError as error:
        raise ConfigError(f"cannot write {folder}: {error.strerror}", "--dir elsewhere") from None
    finally:
        for left in ready.values():
            os.unlink(left)
    return {
        name: "unchanged" if state == "unchanged" else "written" for name, state in states.items()
    }


def _state(file: Path, content: bytes) -> str:
    try:
        return "unchanged" if file.read_bytes() == content else "differs"
    except FileNotFoundError:
        return "new"
    except OSError as error:
        raise ConfigError(f"cannot read {file}: {error.strerror}", "--dir elsewhere") from None


def _beside(target: Path, content: bytes) -> str:
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.NamedTemporaryFile(
        dir=target.parent, prefix=f".{target.name}.", delete=False
    ) as file:
        try:
            file.write(content)
            file.flush()
            os.chmod(file.name, 0o644)
        except OSError:
            os.unlink(file.name)
            raise
    return file.name
