"""What a project has in it for whoever deploys it: code, notes, an item to try, a bundle."""

from __future__ import annotations

import errno
import json
import os
import re
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest
from exporting import RULES, STREAM_ARN, config_of, lay_out, project

from ddbrelay.errors import ConfigError
from ddbrelay.export.cdk import cdk_project
from ddbrelay.export.cloudformation import function_statements
from ddbrelay.export.description import description
from ddbrelay.export.model import Choices, project_of, stack_name
from ddbrelay.export.package import incomplete
from ddbrelay.export.pipes import deploy_command
from ddbrelay.export.sam import sam_project
from ddbrelay.export.store import write
from ddbrelay.export.terraform import terraform_project

HEAD = '[source]\ntable = "users"\n'
OUTBOX = 'preset = "outbox"\n' + HEAD
SINGLE = 'preset = "single-table"\n' + HEAD
OWN = 'mapper = "{}:to_event"\n' + HEAD


# The user's own code


def test_what_the_mapper_imports_from_its_folder_is_packaged(tmp_path: Path) -> None:
    shop = tmp_path / "of_shop"
    (shop / "deep").mkdir(parents=True)
    (shop / "__init__.py").write_text("")
    (shop / "events.py").write_text(
        "import json\nfrom ddbrelay import Skip\nfrom of_names import NAME\n"
        "def to_event(change):\n    return Skip(NAME)\n"
    )
    (shop / "deep" / "more.py").write_text("import of_names\n")
    (tmp_path / "of_names.py").write_text("NAME = 'x'\n")
    (tmp_path / "of_nobody.py").write_text("")
    (tmp_path / "ddbrelay").mkdir()
    (tmp_path / "ddbrelay" / "__init__.py").write_text("")
    made = project(tmp_path, OWN.format("of_shop.events"))
    assert set(made.files) == {
        "ddbrelay.toml",
        "requirements.txt",
        "of_names.py",
        "of_shop/__init__.py",
        "of_shop/events.py",
        "of_shop/deep/more.py",
    }
    assert made.notes == ()


def test_a_mapper_that_is_installed_elsewhere_is_said(tmp_path: Path) -> None:
    made = project(tmp_path, OWN.replace("to_event", "dumps").format("json"))
    assert set(made.files) == {"ddbrelay.toml", "requirements.txt"}
    [note] = made.notes
    assert note.startswith("the module json of the mapper does not lie beside ddbrelay.toml")
    assert note.endswith("name what it is installed from in function/requirements.txt")


def test_what_the_mapper_takes_from_elsewhere_is_said(tmp_path: Path) -> None:
    shop = tmp_path / "of_warehouse"
    shop.mkdir()
    (shop / "__init__.py").write_text(
        "import boto3, json, pydantic\nfrom shapely.geometry import box\nimport of_near\n"
        "def to_event(change):\n    return None\n"
    )
    (shop / "prices.csv").write_text("1")
    (tmp_path / "of_near.py").write_text("")
    packaged, beside = incomplete(config_of(tmp_path, OWN.format("of_warehouse")))
    assert packaged == (
        "the mapper imports pydantic, shapely, which is not packaged: name what it is installed "
        "from in function/requirements.txt"
    )
    assert beside == (
        "only the code of the mapper is packaged: copy of_warehouse/prices.csv into function/ "
        "where it reads that"
    )


# Keys


@pytest.mark.parametrize(
    ("text", "choices", "expected"),
    [
        (
            HEAD + '[[rule]]\ndetail_type = "A"\ndetail = "{id: keys.orderId, a: new.keys.b}"\n',
            Choices(),
            "rules read keys.orderId, the table's key is id (--key orderId:S)",
        ),
        (
            HEAD + '[[rule]]\nwhen = { keys = { pk = ["a"] } }\ndetail_type = "{keys.sk.x}"\n',
            Choices(),
            "rules read keys.pk and keys.sk, the table's key is id (--key pk:S --sort-key sk:S)",
        ),
        (
            HEAD + '[[rule]]\ndetail_type = "A"\ndetail = { a = ["{keys.pk}", "{keys.sk}"] }\n',
            Choices(key="pk"),
            "rules read keys.sk, the table's key is pk (--sort-key sk:S)",
        ),
        (
            HEAD + "[[rule]]\ndetail_type = 'A'\n"
            'when = { dynamodb = { Keys = { at = { N = ["1"] } } } }\n',
            Choices(),
            "rules read keys.at, the table's key is id (--key at:S)",
        ),
        (
            HEAD + "[[rule]]\ndetail_type = 'A'\n"
            'when = { "$or" = [{ keys = { at = ["1"] } }, { ttl = [true] }] }\n',
            Choices(),
            "rules read keys.at, the table's key is id (--key at:S)",
        ),
        (
            SINGLE + '[single_table]\nkey = "SK"\n[single_table.entities]\nUSER = "User"\n',
            Choices(),
            "the preset single-table reads keys.SK, the table's key is id (--key SK:S)",
        ),
        (SINGLE, Choices(), None),
        (RULES, Choices(), None),
        (
            RULES,
            Choices(key="pk", stream_arn=STREAM_ARN),
            "rules read keys.id, the table's key is pk",
        ),
        (RULES.replace("keys.id", "keys.pk"), Choices(stream_arn=STREAM_ARN), None),
    ],
)
def test_rules_that_read_another_key_than_the_tables_are_said(
    tmp_path: Path, text: str, choices: Choices, expected: str | None
) -> None:
    made = project(tmp_path, text, choices=choices)
    assert made.notes == (() if expected is None else (expected,))


# Order


def test_an_outbox_keeps_its_order_by_one_batch_of_a_shard_at_a_time(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="2 batches of a shard at a time would swap") as refused:
        project(tmp_path, OUTBOX, choices=Choices(parallelization=2))
    assert refused.value.hint == "--parallelization 1"
    assert project(tmp_path, OUTBOX).choices.parallelization == 1


# An item to try


def tried(folder: Path, text: str, choices: Choices | None = None) -> tuple[str, dict[str, object]]:
    sample = project(folder, text, choices=choices or Choices()).sample
    return sample.words, json.loads(sample.item or "{}")


@pytest.mark.parametrize(
    ("when", "item"),
    [
        ('{ eventName = ["INSERT"] }', {}),
        ('{ new = { kind = ["a", "b"] } }', {"kind": {"S": "a"}}),
        ('{ new = { kind = [{ prefix = "order#" }] } }', {"kind": {"S": "order#1"}}),
        ('{ new = { kind = [{ suffix = ".x" }] } }', {"kind": {"S": "1.x"}}),
        ("{ new = { a = { b = [true] } } }", {"a": {"M": {"b": {"BOOL": True}}}}),
        ('{ new = { n = [{ numeric = [">", 5, "<=", 7] }] } }', {"n": {"N": "6"}}),
        ('{ new = { n = [{ numeric = ["<", 0.5] }] } }', {"n": {"N": "-0.5"}}),
        (
            "{ new = { n = [{ exists = true }], m = [{ exists = false }] } }",
            {"n": {"S": "example"}},
        ),
        ('{ new = { n = [{ anything-but = ["a"] }] } }', {"n": {"S": "example"}}),
        ('{ new = { n = [{ wildcard = "a*c" }] } }', {"n": {"S": "a1c"}}),
        ('{ keys = { id = [{ prefix = "u#" }] } }', {"id": {"S": "u#1"}}),
        (
            '{ changed = ["mail"], new = { mail = [{ suffix = "@a.b" }] } }',
            {"mail": {"S": "1@a.b"}},
        ),
        ('{ dynamodb = { NewImage = { n = { N = ["3"] } } } }', {"n": {"N": "3"}}),
    ],
)
def test_the_item_to_try_is_one_that_a_rule_is_for(
    tmp_path: Path, when: str, item: dict[str, object]
) -> None:
    text = f'{HEAD}[[rule]]\ndetail_type = "Made"\nwhen = {when}\n'
    words, found = tried(tmp_path, text)
    assert words == "Write an item that becomes the event `Made`, and receive it:"
    assert found == {"id": {"S": "1"}} | item


def test_the_item_to_try_has_what_the_event_is_made_of(tmp_path: Path) -> None:
    text = (
        HEAD + '[[rule]]\nbus = "else"\nwhen = { eventName = ["INSERT"], new = { a = ["1"] } }\n'
        'detail_type = "Elsewhere"\n[[rule]]\nwhen = { eventName = ["INSERT"] }\n'
        "detail_type = '{new.kind}Made'\ndetail = \"{m: new.email, p: new.p || 'x', q: new.q.r}\"\n"
    )
    words, found = tried(tmp_path, text)
    assert "`exampleMade`" in words
    assert found == {
        "id": {"S": "1"},
        "kind": {"S": "example"},
        "email": {"S": "user@example.com"},
        "q": {"M": {"r": {"S": "example"}}},
    }


def test_presets_have_an_item_to_try(tmp_path: Path) -> None:
    words, found = tried(tmp_path, OUTBOX + '[outbox]\nevent_type = "kind"\n')
    assert "`Tried`" in words
    assert found["kind"] == {"S": "Tried"}
    entities = SINGLE + '[single_table]\nkey = "SK"\n[single_table.entities]\nUSER = "User"\n'
    words, found = tried(tmp_path, entities, Choices(key="PK", sort_key="SK:S"))
    assert "`UserCreated`" in words
    assert found == {"PK": {"S": "1"}, "SK": {"S": "USER#1"}}
    assert tried(tmp_path, HEAD, Choices(key="at:N"))[1] == {"at": {"N": "1"}}


def test_where_no_item_will_do_the_pattern_of_a_rule_is_named(tmp_path: Path) -> None:
    rule = '[[rule]]\nname = "gone"\nwhen = { eventName = ["REMOVE"] }\ndetail_type = "Gone"\n'
    words, found = tried(tmp_path, HEAD + rule)
    assert found == {}
    assert words == (
        'Make a change that the rule `gone` is for (`{"eventName":["REMOVE"]}`), and receive its '
        "event:"
    )
    readme = sam_project(project(tmp_path, HEAD + rule))["README.md"].decode()
    assert words in readme
    assert "put-item" not in readme
    words, _ = tried(tmp_path, HEAD + rule + 'bus = "else"\n')
    assert words.startswith("The rules send to other buses than users-bus")


def test_the_key_of_an_existing_table_is_for_the_person_to_name(tmp_path: Path) -> None:
    words, _ = tried(tmp_path, HEAD, Choices(stream_arn=STREAM_ARN))
    assert words.endswith("(Put the key of your table in the place of `id`.)")


# The bundle


def wheel(folder: Path, name: str = "ddbrelay", version: str = "9.9") -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / f"{name}-{version}-py3-none-any.whl"
    info = f"{name}-{version}.dist-info"
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr(f"{name}/__init__.py", "")
        archive.writestr(f"{info}/METADATA", f"Metadata-Version: 2.1\nName: {name}\nVersion: 9.9\n")
        archive.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nTag: py3-none-any\n")
        archive.writestr(f"{info}/RECORD", "")
    return file


BACKEND = """
import shutil
def build_wheel(folder, settings=None, metadata=None):
    return shutil.copy("WHEEL", folder).rpartition("/")[2]
"""


def checkout(folder: Path) -> Path:
    """A project that builds itself without anything from elsewhere."""
    made = wheel(folder)
    (folder / "backend.py").write_text(BACKEND.replace("WHEEL", made.name))
    (folder / "pyproject.toml").write_text(
        '[build-system]\nrequires = []\nbuild-backend = "backend"\nbackend-path = ["."]\n'
    )
    return folder


def bundle(folder: Path, *words: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Without an index: pip sees only what it is given."""
    return subprocess.run(
        [sys.executable, "bundle.py", *words],
        cwd=folder,
        env=os.environ | {"PIP_NO_INDEX": "1", "PIP_CONFIG_FILE": os.devnull} | environment,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    config_of(tmp_path)
    return lay_out(tmp_path / "out", terraform_project(project(tmp_path)))


@pytest.mark.slow
def test_a_wheel_or_a_checkout_goes_into_the_package(folder: Path, tmp_path: Path) -> None:
    (folder / "function" / "requirements.txt").write_text("ddbrelay==0.0.1\nmore\n")
    links = {"PIP_FIND_LINKS": str(tmp_path / "links")}
    wheel(tmp_path / "links", "more")
    made = bundle(folder, "--from", str(wheel(tmp_path / "dist")), **links)
    assert made.returncode == 0, made.stderr
    assert (folder / "build" / "ddbrelay" / "__init__.py").is_file()
    assert (folder / "build" / "more").is_dir()
    assert (folder / "build" / "ddbrelay.toml").is_file()
    place = str(checkout(tmp_path / "checkout"))
    made = bundle(folder, **links, DDBRELAY_PACKAGE=place)
    assert made.returncode == 0, made.stderr
    assert (folder / "build" / "ddbrelay-9.9.dist-info").is_dir()


@pytest.mark.slow
def test_a_ddbrelay_that_pip_does_not_find_is_one_line_and_leaves_no_package(
    folder: Path, tmp_path: Path
) -> None:
    (folder / "function" / "requirements.txt").write_text("ddbrelay==0.0.1\n")
    failed = bundle(folder)
    assert failed.returncode == 1
    assert failed.stderr == (
        "error: pip finds no ddbrelay==0.0.1 for Python 3.13 on Lambda\n"
        "  hint: --from a wheel or a checkout of it, or DDBRELAY_PACKAGE\n"
    )
    assert not (folder / "build").exists()
    failed = bundle(folder, "--from", str(tmp_path / "nowhere"))
    assert failed.stderr.startswith(f"error: there is no {tmp_path / 'nowhere'}\n  hint: --from ")
    (folder / "function" / "requirements.txt").write_text("=\n")
    failed = bundle(folder)
    assert failed.returncode == 1
    assert failed.stderr.endswith("error: pip failed, and there is no build/\n")


@pytest.mark.slow
def test_the_same_content_gives_the_same_package(folder: Path, tmp_path: Path) -> None:
    (folder / "function" / "requirements.txt").write_text("ddbrelay==9.9\n")
    given = str(wheel(tmp_path / "dist"))
    seen = []
    for _ in range(2):
        (folder / "function" / "__pycache__").mkdir(exist_ok=True)
        (folder / "function" / "__pycache__" / "x.pyc").write_text(str(len(seen)))
        made = bundle(folder, "--from", given)
        assert made.returncode == 0, made.stderr
        files = [file for file in sorted((folder / "build").rglob("*")) if file.is_file()]
        seen.append([(str(file), file.read_bytes(), file.stat().st_mtime) for file in files])
        assert not [file for file in files if file.suffix == ".pyc"]
    assert seen[0] == seen[1]


def test_the_readme_says_how_a_ddbrelay_that_is_not_on_pypi_goes_in(tmp_path: Path) -> None:
    made = project(tmp_path)
    assert "python3 bundle.py --from ../ddbrelay" in terraform_project(made)["README.md"].decode()
    assert 'PIP_FIND_LINKS="$PWD/wheels" sam build' in sam_project(made)["README.md"].decode()


def test_the_readme_says_which_python_sam_build_takes(tmp_path: Path) -> None:
    readme = sam_project(project(tmp_path, choices=Choices(runtime="python3.12")))["README.md"]
    assert b"and for `sam build` Python 3.12 with pip" in readme
    assert b"`sam build --use-container` takes it from Docker" in readme


# What is written


def test_a_full_disk_leaves_nothing_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(descriptor: object, mode: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("os.chmod", full)
    with pytest.raises(ConfigError, match="No space left on device"):
        write(tmp_path / "out", {"one": b"1", "two": b"2"})
    assert list((tmp_path / "out").iterdir()) == []


def test_what_looks_like_a_template_in_a_prefix_is_a_text(tmp_path: Path) -> None:
    made = project(tmp_path, claim_check="s3://bucket-x/${a}%{b}*")
    statements = function_statements(made)
    [sam] = [one["Resource"] for one in statements if one["Sid"] == "WriteClaimChecks"]
    plain = ":s3:::bucket-x/${!$}{a}%{b}${!*}/*"
    assert sam == {"Fn::Sub": "arn:${AWS::Partition}" + plain}
    [described] = [
        one["Resource"]
        for one in description(made)["statements"]
        if one["Sid"] == "WriteClaimChecks"
    ]
    assert described == ["arn:${partition}:s3:::bucket-x/${$}{a}%{b}${*}/*"]


def test_what_looks_like_a_placeholder_in_a_prefix_is_a_text(tmp_path: Path) -> None:
    made = project(tmp_path, claim_check="s3://bucket-x/{region}/${account}")
    [described] = [
        one["Resource"]
        for one in description(made)["statements"]
        if one["Sid"] == "WriteClaimChecks"
    ]
    assert described == ["arn:${partition}:s3:::bucket-x/{region}/${$}{account}/*"]


# The stack


@pytest.mark.parametrize("table", ["users", "user_events", "1.of_them", "_" * 240, "a" * 240])
def test_every_table_has_a_stack_name_that_cloudformation_takes(tmp_path: Path, table: str) -> None:
    rule = '[[rule]]\nwhen = { eventName = ["REMOVE"] }\ndetail_type = "Gone"\n'
    text = f'[source]\ntable = "{table}"\n{rule}detail = "{{id: eventID}}"\n'
    config = config_of(tmp_path, text, bus="b")
    made = project_of(config, Choices())
    settings = tomllib.loads(sam_project(made)["samconfig.toml"].decode())
    names = [
        settings["default"]["deploy"]["parameters"]["stack_name"],
        json.loads(cdk_project(made)["relay.json"])["name"],
        deploy_command(made).partition("--stack-name ")[2].partition(" ")[0],
    ]
    assert names[0] == names[1] != names[2]
    assert all(re.fullmatch("[A-Za-z][A-Za-z0-9-]{0,127}", name) for name in names)


def test_tables_that_differ_in_a_dash_only_have_stacks_of_their_own() -> None:
    assert stack_name("user-events") == "ddbrelay-user-events"
    assert len({stack_name(one) for one in ("user-events", "user_events", "user.events")}) == 3
    assert stack_name("user_events", "-pipes").endswith("-pipes")
