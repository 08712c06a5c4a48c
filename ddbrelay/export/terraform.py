"""A project for Terraform (or OpenTofu) with the AWS provider: static HCL, and its values in JSON.

https://registry.terraform.io/providers/hashicorp/aws/latest/docs
"""

from __future__ import annotations

import json

from ddbrelay.export.bundle import package_files, static
from ddbrelay.export.description import description
from ddbrelay.export.model import Project
from ddbrelay.export.texts import bundled, readme

_FILES = ("main.tf", "function.tf", "alarms.tf", "outputs.tf", "variables.tf", "versions.tf")
_VALUES = "relay.auto.tfvars.json"
"""Terraform loads every `*.auto.tfvars.json` of the folder by itself."""
_KEPT = (
    "prevent_destroy keeps the data: `terraform destroy` refuses until it is taken out, or the "
    "table is taken out of the state (terraform state rm 'aws_dynamodb_table.this[0]')."
)


def terraform_project(project: Project) -> dict[str, bytes]:
    """The files of the project, by their paths."""
    values = {"relay": description(project)}
    texts = {
        **{name: static(f"terraform/{name}") for name in _FILES},
        _VALUES: json.dumps(values, indent=2, ensure_ascii=False) + "\n",
        "README.md": _readme(project),
    }
    return {name: text.encode() for name, text in texts.items()} | package_files(project)


def _readme(project: Project) -> str:
    return readme(
        project,
        "ddbrelay on AWS Lambda, with Terraform",
        before="It takes Terraform (or OpenTofu) 1.5 or later, and Python with pip.",
        deploy=["python3 bundle.py", "terraform init", "terraform apply"],
        local=bundled(),
        also=[
            "`bundle.py` gathers the function's package in `build/`; run it again after a change "
            f"in `function/`. All that is particular to this relay is in `{_VALUES}`; the `.tf` "
            "files are the same in every project.",
            *([_KEPT] if project.stream_arn is None else []),
        ],
        remove=["terraform destroy"],
    )
