"""Each mistake in a mapping is one line with file, line and column, and a hint where one helps."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from ddbrelay.config import load
from ddbrelay.errors import ConfigError
from ddbrelay.mappings import mapper_of


@pytest.fixture
def refusal(tmp_path: Path) -> Any:
    """What is said of a file with this text, without the folder, and the hint."""

    def said(text: str) -> tuple[str, str | None]:
        (tmp_path / "ddbrelay.toml").write_text(text)
        with pytest.raises(ConfigError) as found:
            mapper_of(load({}, {}, tmp_path), "users")
        return found.value.message.replace(f"{tmp_path}/", ""), found.value.hint

    return said


@pytest.mark.parametrize(
    "when",
    [
        '{ table = ["orders"] }',
        '{ dynamodb = { NewImage = { n = { N = ["0", { numeric = [">", 0] }] } } } }',
        '{ eventVersion = ["1.1"], dynamodb = { Keys = { id = { S = ["a"] } } } }',
        '{ ttl = [false], eventName = ["REMOVE"], old = { a = [1] } }',
        '{ eventName = ["INSERT"], old = { a = [{ exists = false }] } }',
        '{ eventName = ["INSERT"], "$or" = [{ old = { a = ["x"] } }, { new = { a = ["x"] } }] }',
        '{ eventName = ["REMOVE"], diff = { a = { before = [1], after = [{ exists = false }] } } }',
        '{ eventName = ["INSERT"], old = { "$or" = [{ a = [1] }, { b = [{ exists = false }] }] } }',
        '{ changed = ["a", 5], time = [{ anything-but = 5 }], keys = { id = [1, true] } }',
        "{ sequenceNumber = [{ exists = true }], shardId = [{ exists = false }] }",
        '{ new = { "address.city" = ["Oslo"], address = { zip = [1] } } }',
        '{ eventName = ["INSERT"], "$or" = [{ eventName = ["INSERT"] }, { new = { a = [1] } }] }',
        '{ "$or" = [{ new = { a = [1] } }, { new = { a = [2], b = [3] } }] }',
        '{ dynamodb = { NewImage = { a = { BOOL = [{ anything-but = "x" }], S = ["5", 5] } } } }',
        "{ dynamodb = { NewImage = { a = { BOOL = [{ exists = false }], NULL = [true] } } } }",
        '{ eventName = ["REMOVE"], dynamodb = { NewImage = { a = { S = [{ exists = false }]} } } }',
        '{ userIdentity = { type = ["Service"], principalId = ["dynamodb.amazonaws.com"] } }',
    ],
)
def test_what_may_match_somewhere_is_not_refused(tmp_path: Path, when: str) -> None:
    (tmp_path / "ddbrelay.toml").write_text(f"[[rule]]\nwhen = {when}\nskip = true\n")
    assert mapper_of(load({}, {}, tmp_path), "users")


@pytest.mark.parametrize(
    ("text", "message", "hint"),
    [
        (
            '[[rule]]\nskip = true\n[rule.when]\nttl = [false]\n"$or" = [\n'
            '  { new = { plan = ["a"] } }, { ttl = [true] },\n]\n',
            "ddbrelay.toml:6:33: ttl is asked for twice, and EventBridge takes what fulfils either",
            "one list, or one in each branch of $or and none beside it",
        ),
        (
            '[[rule]]\nskip = true\nwhen = { new = { a = { b = ["x"] }, "a.b" = ["y"] } }\n',
            "ddbrelay.toml:3:37: new.a.b is asked for twice, and EventBridge takes what fulfils "
            "either",
            "one list, or one in each branch of $or and none beside it",
        ),
        (
            '[[rule]]\nskip = true\nwhen = { new = { n = [5, { numeric = [">", 5, "<", 0] }] } }\n',
            "ddbrelay.toml:3:28: new.n[1].numeric: no number is > 5 and < 0",
            None,
        ),
        (
            "[[rule]]\nskip = true\nwhen = { eventID = [{ exists = false }] }\n",
            "ddbrelay.toml:3:10: can never match: every change has eventID",
            None,
        ),
        (
            '[[rule]]\nskip = true\nwhen = { "new.plan" = ["free"] }\n',
            'ddbrelay.toml:3:10: a change has no field "new.plan"',
            "new = { plan = […] }",
        ),
        (
            '[[rule]]\ndetail_type = "T"\ndetail = "{at: new.visits[?k == new.country]}"\n',
            'ddbrelay.toml:3:33: "new" is a field of the element here, not of the change',
            "@.new where the element's own is meant; JMESPath reaches nothing else in here, a "
            "mapper does",
        ),
        (
            '[[rule]]\nskip = true\nwehn = { a = ["x"] }\n',
            'ddbrelay.toml:3:1: unknown key "wehn"',
            'did you mean "when"?',
        ),
        (
            '[[rule]]\nwhen = { eventname = ["INSERT"] }\n',
            'ddbrelay.toml:2:10: a change has no field "eventname"',
            'did you mean "eventName"?',
        ),
        (
            '[[rule]]\ndetail = "{a: new.}"\n',
            "ddbrelay.toml:2:19: not JMESPath",
            None,
        ),
        (
            '[[rule]]\ndetail_type = "User{nwe.kind}"\n',
            'ddbrelay.toml:2:21: a change has no field "nwe"',
            'did you mean "new"?',
        ),
        (
            '[[rule]]\nwhen = { eventName = ["UPDATE"] }\n',
            "ddbrelay.toml:2:10: ",
            None,
        ),
        (
            '[[rule]]\nwhen = { new = { n = [{ numeric = [">", 5, "<", 3] }] } }\n',
            "ddbrelay.toml:2:",
            None,
        ),
        (
            '[[rule]]\nwhen = { eventName = ["INSERT"], old = { n = [1] } }\n',
            "ddbrelay.toml:2:34: can never match: INSERT has no old image",
            None,
        ),
        (
            '[[rule]]\nname = "a"\nwhen = { eventName = ["INSERT"] }\n'
            '[[rule]]\nname = "b"\nwhen = { eventName = ["INSERT"], new = { n = [1] } }\n',
            'ddbrelay.toml:4:1: rule "b" is never reached: rule "a" (number 1) matches all',
            "move it up, or give the earlier one continue = true",
        ),
        (
            f'[[rule]]\ndetail_type = "{"x" * 129}"\n',
            "ddbrelay.toml:2:1: the detail type is longer than 128 characters",
            None,
        ),
        (
            f'[[rule]]\ndetail_type = "{{new.a}}{"x" * 129}"\n',
            "ddbrelay.toml:2:1: the detail type is longer than 128 characters",
            None,
        ),
        (
            '[[rule]]\nsource = "aws.{new.a}"\n',
            "ddbrelay.toml:2:1: a source must not begin with aws.",
            None,
        ),
        ('[[rule]]\ndetail = "[new]"\n', "ddbrelay.toml:2:1: the detail is an array", None),
        ("[[rule]]\nskip = 3\n", "ddbrelay.toml:2:1: skip must be true, or a text", None),
        (
            '[[rule]]\nskip = true\nsource = "a"\n',
            "ddbrelay.toml:3:1: a rule that skips has no source",
            None,
        ),
        (
            '[[rule]]\nname = "a"\ncontinue = true\n[[rule]]\nname = "a"\n',
            'ddbrelay.toml:5:1: there is an earlier rule "a"',
            None,
        ),
        ('[[rule]]\nwhen = "{"\n', "ddbrelay.toml:2:1: when is no JSON", None),
        ('[[rule]]\nresources = "a"\n', "ddbrelay.toml:2:1: resources must be an array", None),
        (
            '[[rule]]\nresources = [\n  "a",\n  "{b",\n]\n',
            "ddbrelay.toml:4:4: a { that is never closed",
            None,
        ),
        ('[[rule]]\nenvelope = "soap"\n', "ddbrelay.toml:2:1: envelope must be one of", None),
        ('[[rule]]\nredact = ["a..b"]\n', "ddbrelay.toml:2:", None),
        ('redact = ["lines[].note"]\n', "ddbrelay.toml:1:", None),
        (
            'redact = ["new.card"]\n',
            "ddbrelay.toml:1:11: 'new.card': redact names attributes",
            '"card"; an attribute that is itself called new stands in quotes',
        ),
        ("[[rule]]\n", "ddbrelay.toml:1:1: an empty rule", None),
        ('[[rule]]\nname = "no rule"\nskip = true', "ddbrelay.toml:2:1: ", None),
        ('[[rule]]\nbus = "my bus"\n', "ddbrelay.toml:2:1: 'my bus' is neither", None),
        ("[[rule]]\ndetail = [1]\n", "ddbrelay.toml:2:1: detail must be a JMESPath or", None),
        (
            '[[rule]]\nwhen = { eventName = ["INSERT"], ttl = [true] }\n',
            "ddbrelay.toml:2:34: can never match: Time to Live only makes REMOVE",
            None,
        ),
        (
            "[[rule]]\nwhen = { ttl = [true], new = { a = [1] } }\n",
            "ddbrelay.toml:2:24: can never match: REMOVE has no new image",
            None,
        ),
        (
            '[[rule]]\nwhen = { eventName = ["REMOVE"], dynamodb = { NewImage = { a = { S = ["x"] '
            "} } } }\n",
            "ddbrelay.toml:2:47: can never match: REMOVE has no new image",
            None,
        ),
        (
            '[[rule]]\nwhen = { eventName = ["INSERT"], dynamodb = { OldImage = { a = { S = ["x"] '
            "} } } }\n",
            "ddbrelay.toml:2:47: can never match: INSERT has no old image",
            None,
        ),
        (
            "[[rule]]\nwhen = { dynamodb = { NewImage = { a = { S = [5] } } } }\n",
            "ddbrelay.toml:2:42: can never match: S is a text",
            None,
        ),
        (
            '[[rule]]\nwhen = { dynamodb = { NewImage = { a = { BOOL = ["true"] } } } }\n',
            "ddbrelay.toml:2:42: can never match: BOOL is true or false",
            None,
        ),
        (
            '[[rule]]\nwhen = { eventName = ["INSERT"], '
            '"$or" = [{ old = { a = [1] } }, { old = { b = [1] } }] }\n',
            "ddbrelay.toml:2:45: can never match: INSERT has no old image",
            None,
        ),
        (
            '[[rule]]\nwhen = { eventName = ["INSERT"], '
            'old = { "$or" = [{ a = [1] }, { b = [1] }] } }\n',
            "ddbrelay.toml:2:34: can never match: INSERT has no old image",
            None,
        ),
        (
            '[[rule]]\nwhen = { eventName = ["INSERT"], diff = { a = { before = [1] } } }\n',
            "ddbrelay.toml:2:49: can never match: INSERT has no old image",
            None,
        ),
        (
            '[[rule]]\nwhen = { eventName = ["REMOVE"], diff = { a = { after = [1] } } }\n',
            "ddbrelay.toml:2:49: can never match: REMOVE has no new image",
            None,
        ),
        (
            "[[rule]]\nwhen = { changed = [5] }\n",
            "ddbrelay.toml:2:10: can never match: changed is an array of names",
            None,
        ),
        (
            "[[rule]]\nwhen = { sequenceNumber = [5] }\n",
            "ddbrelay.toml:2:10: can never match: sequenceNumber is a text",
            None,
        ),
        (
            '[[rule]]\nwhen = { time = [{ numeric = [">", 5] }] }\n',
            "ddbrelay.toml:2:10: can never match: time is a text",
            None,
        ),
        (
            "[[rule]]\nwhen = { keys = { id = [true] } }\n",
            "ddbrelay.toml:2:19: can never match: a key attribute is a text or a number",
            None,
        ),
        (
            '[[rule]]\nname = "a"\nwhen = { eventName = ["REMOVE"] }\n'
            '[[rule]]\nname = "b"\nwhen = { ttl = [true] }\n',
            'ddbrelay.toml:4:1: rule "b" is never reached: rule "a" (number 1) matches all',
            None,
        ),
        (
            '[[rule]]\nname = "a"\nwhen = { eventName = ["MODIFY", "INSERT"] }\n'
            '[[rule]]\nname = "b"\nwhen = { new = { a = [1] } }\n',
            'ddbrelay.toml:4:1: rule "b" is never reached: rule "a" (number 1) matches all',
            None,
        ),
        (
            '[[rule]]\nname = "a"\nwhen = { eventName = ["REMOVE", "MODIFY", "INSERT"] }\n'
            '[[rule]]\nname = "b"\ndetail_type = "B"\n',
            'ddbrelay.toml:4:1: rule "b" is never reached: rule "a" (number 1) matches all',
            None,
        ),
        (
            f'[source]\nentity = "{"x" * 130}"\n',
            "ddbrelay.toml:2:1: the detail type is longer than 128 characters",
            None,
        ),
        (
            f'preset = "single-table"\n[single_table.entities]\nUSER = "{"x" * 130}"\n',
            "ddbrelay.toml:3:1: the detail type is longer than 128 characters",
            None,
        ),
        (
            "[[rule]]\ndetail = { a = inf }\n",
            "ddbrelay.toml:2:12: JSON has no number inf",
            None,
        ),
        (
            '[[rule]]\n"a\\nb" = 1\n',
            'ddbrelay.toml:2:1: unknown key "a\N{REPLACEMENT CHARACTER}b"',
            None,
        ),
        (
            '[[rule]]\nwhen = { "x\\u001b[31my" = ["a"] }\n',
            'ddbrelay.toml:2:10: a change has no field "x\N{REPLACEMENT CHARACTER}[31my"',
            None,
        ),
        (
            "[[rule]]\ndetail = '\"a\\nb\"'\n",
            'ddbrelay.toml:2:11: a change has no field "a\N{REPLACEMENT CHARACTER}b"',
            None,
        ),
        (
            '[[rule]]\ndetail_type = "A\\nB"\n[[rule]]\ndetail_type = "C\\nD"\n',
            'ddbrelay.toml:3:1: rule "C\N{REPLACEMENT CHARACTER}D" is never reached: '
            'rule "A\N{REPLACEMENT CHARACTER}B" (number 1) matches',
            None,
        ),
        (
            '[[rule]]\nschema = "x\\ny"\n',
            "ddbrelay.toml:2:1: cannot read the schema",
            None,
        ),
        (
            '[[rule]]\nredact = ["new.\\n"]\n',
            "ddbrelay.toml:2:11: 'new.\\n': redact names attributes",
            '"\N{REPLACEMENT CHARACTER}"; an attribute that is itself called new stands in quotes',
        ),
        (
            "[[rule]]\nwhen = { diff = { status = { befor = [1] } } }\n",
            'ddbrelay.toml:2:30: a difference has no field "befor"',
            'did you mean "before"?',
        ),
        (
            "[[rule]]\nwhen = { changed = { status = [1] } }\n",
            "ddbrelay.toml:2:10: can never match: changed is an array of names",
            None,
        ),
        (
            "[[rule]]\nwhen = { new = [{ exists = true }] }\n",
            "ddbrelay.toml:2:10: new is an object, and a pattern must name its attributes",
            None,
        ),
        (
            '[[rule]]\nwhen = { dynamodb = { NewImag = { a = { S = ["x"] } } } }\n',
            'ddbrelay.toml:2:23: the "dynamodb" of a record has no field "NewImag"',
            'did you mean "NewImage"?',
        ),
        (
            "[[rule]]\nwhen = { dynamodb = { NewImage = { a = { N = [5] } } } }\n",
            "ddbrelay.toml:2:42: can never match: in this form a number is a text",
            '"5"',
        ),
        (
            '[[rule]]\nwhen = { dynamodb = { NewImage = { a = { s = ["x"] } } } }\n',
            'ddbrelay.toml:2:42: an attribute value has no field "s"',
            None,
        ),
        ('[[rule]]\nschema = "none.json"\n', "ddbrelay.toml:2:1: cannot read the schema", None),
        (
            '[[rule]]\ndetail = { a = "{b" }\n',
            "ddbrelay.toml:2:17: a { that is never closed",
            None,
        ),
        (
            "[[rule]]\ndetail = { a = 2026-01-01 }\n",
            "ddbrelay.toml:2:12: a detail has no date",
            None,
        ),
        (
            'preset = "outbox"\n[outbox]\npaylod = "x"\n',
            'ddbrelay.toml:3:1: unknown key "paylod"',
            'did you mean "payload"?',
        ),
        (
            '[outbox]\npayload = "x"\n',
            "ddbrelay.toml:1:2: the section [outbox] has no effect",
            'preset = "outbox"',
        ),
        (
            'preset = "outbox"\n[outbox]\nttl = "1h"\n',
            "ddbrelay.toml:3:1: ttl has no effect without after",
            None,
        ),
        (
            'preset = "outbox"\n[outbox]\nafter = "expire"\nttl = "soon"\n',
            "ddbrelay.toml:4:1: ttl: 'soon' is not a duration",
            None,
        ),
        (
            'mapper = "a:b"\n[[rule]]\nskip = true\n',
            "ddbrelay.toml:1:1: a function of your own (a:b) takes the place of rules",
            None,
        ),
        (
            'mapper = "nowhere.at.all:b"\n',
            'ddbrelay.toml:1:1: mapper "nowhere.at.all:b": there is no module "nowhere"',
            None,
        ),
        ('mapper = "json"\n', 'ddbrelay.toml:1:1: mapper "json" is not module:function', None),
        (
            'mapper = "json:nope"\n',
            'ddbrelay.toml:1:1: mapper "json:nope": json has no function "nope"',
            None,
        ),
        (
            "rule = 3\n",
            "ddbrelay.toml:1:1: rule must be an array of tables, written [[rule]]",
            None,
        ),
        ('preset = "inbox"\n', "ddbrelay.toml:1:1: preset: 'inbox' is none of", None),
    ],
)
def test_a_mistake_is_one_line_with_file_line_and_column(
    refusal: Any, text: str, message: str, hint: str | None
) -> None:
    said, hinted = refusal(text)
    assert said.startswith(message)
    assert "\n" not in said
    assert said.isprintable()
    assert (hinted or "").isprintable()
    if hint is not None:
        assert hinted == hint
