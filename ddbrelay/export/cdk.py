"""A project for the AWS CDK in Python: constructs in code, and what they are given in JSON.

https://docs.aws.amazon.com/cdk/v2/guide/work-with-cdk-python.html
"""

from __future__ import annotations

import json

from ddbrelay.export.bundle import package_files, static
from ddbrelay.export.description import description
from ddbrelay.export.model import Project
from ddbrelay.export.texts import bundled, readme

_REQUIREMENTS = "aws-cdk-lib>=2.180,<3\nconstructs>=10,<11\n"
_CDK = {"app": "python3 app.py", "requireApproval": "broadening"}


def cdk_project(project: Project) -> dict[str, bytes]:
    """The files of the project, by their paths."""
    texts = {
        "app.py": static("app.txt"),
        "stack.py": static("stack.txt"),
        "cdk.json": json.dumps(_CDK, indent=2) + "\n",
        "relay.json": json.dumps(description(project), indent=2, ensure_ascii=False) + "\n",
        "requirements.txt": _REQUIREMENTS,
        "README.md": _readme(project),
    }
    return {
        **{name: text.encode() for name, text in texts.items()},
        **package_files(project),
    }


def _readme(project: Project) -> str:
    return readme(
        project,
        "ddbrelay on AWS Lambda, with the CDK",
        before="It takes the AWS CDK CLI (`npm install -g aws-cdk`), Node.js, and Python with pip.",
        deploy=["pip install -r requirements.txt", "python3 bundle.py", "cdk deploy"],
        local=bundled(),
        also=[
            "`bundle.py` gathers the function's package in `build/`; run it again after a change "
            "in `function/`. What the stack consists of stands in `relay.json`."
        ],
        remove=["cdk destroy"],
    )
