"""What the projects without a build step of their own share: the script that makes one."""

from __future__ import annotations

import json
from importlib.resources import files

from ddbrelay.export.choices import OLD_LINUX
from ddbrelay.export.model import Project

_MACHINES = {"arm64": "aarch64", "x86_64": "x86_64"}


def static(name: str) -> str:
    """The text of a file that is the same in every project."""
    return (files("ddbrelay.export") / "files" / name).read_text(encoding="utf-8")


def bundle_script(project: Project) -> str:
    """`bundle.py`: pip with the wheels for this function's machine."""
    machine = _MACHINES[project.choices.architecture]
    platforms = [f"manylinux2014_{machine}"]
    if project.choices.runtime != OLD_LINUX:
        platforms += [f"manylinux_2_28_{machine}", f"manylinux_2_34_{machine}"]
    version = project.choices.runtime.removeprefix("python")
    return (
        static("bundle.txt")
        .replace("@PYTHON@", json.dumps(version))
        .replace("@PLATFORMS@", json.dumps(platforms))
    )


def package_files(project: Project) -> dict[str, bytes]:
    """The script and the folder that it packs."""
    folder = {f"function/{name}": content for name, content in project.files.items()}
    return {"bundle.py": bundle_script(project).encode(), **folder}
