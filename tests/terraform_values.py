"""What Terraform makes of the exported project, computed by Terraform itself without a provider.

Every resource becomes a local value with the attributes that AWS would add, so that all variables,
conditionals, loops and dynamic blocks are evaluated for real, and nothing is downloaded.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any

import pytest

needs_terraform = pytest.mark.skipif(
    shutil.which("terraform") is None, reason="there is no terraform program"
)
ENVIRONMENT = os.environ | {"TF_CLI_CONFIG_FILE": os.devnull, "CHECKPOINT_DISABLE": "1"}
DATA = {
    "aws_partition": {"partition": "aws"},
    "aws_region": {"region": "eu-west-1"},
    "aws_caller_identity": {"account_id": "123456789012"},
    "archive_file": {"output_path": "function.zip", "output_base64sha256": "sha256"},
}
ADDED_BY_AWS = ("arn", "id", "url", "stream_arn")
_NO_ATTRIBUTES = ("depends_on", "count", "for_each", "dynamic")


def evaluated(folder: Path, files: Mapping[str, bytes]) -> dict[str, Any]:
    """The attributes of every resource by `kind.name`, and the outputs by `output.name`.

    A resource with `count` is a list, one with `for_each` an object; nested blocks are lists. An
    attribute that AWS adds is `kind.name:attribute`.
    """
    folder.mkdir()
    lines = [f"data__{kind}__current = {json.dumps(value)}" for kind, value in DATA.items()]
    names: dict[str, str] = {}
    for block in _blocks(files, "locals"):
        lines += [f"{name} = {_expression(value)}" for name, value in _attributes(block)]
    for address, body in resources(files).items():
        name = address.replace(".", "__")
        names[address] = f"local.{name}"
        lines.append(f"{name} = {_instances(address, body)}")
    for block in _blocks(files, "output"):
        [(name, body)] = _labelled(block)
        names[f"output.{name}"] = _expression(body["value"])
    every = ", ".join(f'"{address}" = {value}' for address, value in names.items())
    (folder / "main.tf").write_text("\n".join(["locals {", *lines, f"every = {{ {every} }}", "}"]))
    for name in ("variables.tf", "relay.auto.tfvars.json"):
        (folder / name).write_bytes(files[name])
    done = subprocess.run(
        ["terraform", "console"],
        cwd=folder,
        input="jsonencode(local.every)",
        capture_output=True,
        text=True,
        env=ENVIRONMENT,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    # The console prints a string as HCL has it.
    text = json.loads(done.stdout.strip().replace("$${", "${").replace("%%{", "%{"))
    values: dict[str, Any] = json.loads(text)
    return values


def resources(files: Mapping[str, bytes]) -> dict[str, dict[str, Any]]:
    """The blocks of resources as python-hcl2 reads them, by `kind.name`."""
    return {
        f"{kind}.{name}": body
        for block in _blocks(files, "resource")
        for kind, named in _labelled(block)
        for name, body in _labelled(named)
    }


def _blocks(files: Mapping[str, bytes], kind: str) -> Iterator[dict[str, Any]]:
    for name, content in files.items():
        if name.endswith(".tf"):
            yield from _parsed(content).get(kind, [])


@cache
def _parsed(content: bytes) -> dict[str, Any]:
    """The blocks of a file; parsing takes most of the time, and the files are always the same."""
    import hcl2

    parsed: dict[str, Any] = hcl2.loads(content.decode())
    return parsed


def _attributes(body: Mapping[str, Any]) -> list[tuple[str, Any]]:
    """Without what python-hcl2 notes about comments and blocks."""
    return [(name, value) for name, value in body.items() if not name.startswith("__")]


def _labelled(block: Mapping[str, Any]) -> list[tuple[str, Any]]:
    return [(label.strip('"'), body) for label, body in _attributes(block)]


def _instances(address: str, body: Mapping[str, Any]) -> str:
    if "count" in body:
        each = f"range({_expression(body['count'])})"
        return f"[for index in {each} : {_resource(body, address)}]"
    if "for_each" in body:
        value = _resource(body, address + "/${each.key}")
        return f"{{ for each in {_pairs(body['for_each'])} : each.key => {value} }}"
    return _resource(body, address)


def _resource(body: Mapping[str, Any], address: str) -> str:
    added = ", ".join(f'{name} = "{address}:{name}"' for name in ADDED_BY_AWS)
    return f"merge({{ {added} }}, {_object(body)})"


def _object(body: Mapping[str, Any]) -> str:
    parts = {
        name: _expression(value) for name, value in _attributes(body) if name not in _NO_ATTRIBUTES
    }
    for block in body.get("dynamic", []):
        [(name, dynamic)] = _labelled(block)
        [content] = dynamic["content"]
        parts[name] = f"[for {name} in {_pairs(dynamic['for_each'])} : {_object(content)}]"
    return "{ " + ", ".join(f"{name} = {value}" for name, value in parts.items()) + " }"


def _pairs(each: Any) -> str:
    """What `for_each` goes over, as objects with `key` and `value`."""
    return f"[for key, value in {_expression(each)} : {{ key = key, value = value }}]"


def _expression(value: Any) -> str:
    if isinstance(value, Mapping):
        return _object(value)
    if isinstance(value, list):
        return "[" + ", ".join(map(_expression, value)) + "]"
    if not isinstance(value, str):
        return json.dumps(value)
    # python-hcl2 keeps the quotes of a string, and has any other expression in ${…}.
    text = value if value.startswith('"') else value.removeprefix("${").removesuffix("}")
    text = re.sub(r"\bdata\.(\w+)\.\w+", r"local.data__\1__current", text)
    return re.sub(r"(?<![\w.])(aws_\w+)\.(\w+)", r"local.\1__\2", text)
