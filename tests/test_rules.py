from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from ddbrelay.config import load
from ddbrelay.errors import ConfigError
from ddbrelay.flow.change import Change
from ddbrelay.flow.mapping import Event, MapFunction, Reject, Several, Skip
from ddbrelay.flow.mapping.rules import RuleMapper
from ddbrelay.mappings import (
    Tidying,
    buses_of,
    check_redaction,
    mapper_of,
    rules_of,
    sources_of,
    tidying_of,
)
from ddbrelay.testing.builders import ORIGIN, change
from ddbrelay.testing.clock import EPOCH


@pytest.fixture
def mapping(tmp_path: Path) -> Any:
    """The mapping of a file with this text."""

    def made(text: str) -> MapFunction:
        (tmp_path / "ddbrelay.toml").write_text(text)
        return mapper_of(load({}, {}, tmp_path), "users")

    return made


USER = {"id": "a", "type": "order#7", "kind": "Order", "email": "b@example.com", "age": 31}


def modified(**new: Any) -> Change:
    return change("a", event_name="MODIFY", old=USER, new=USER | new, event_id="e1")


def inserted(**new: Any) -> Change:
    return change("a", new=USER | new, event_id="e1")


DESIGN = '''
[source]
table = "users"

[[rule]]
name        = "email-changed"
when        = { eventName = ["MODIFY"], changed = ["email"] }
source      = "myapp.users"
detail_type = "UserEmailChanged"
detail      = """{metadata: {id: eventID, at: time},
                  data: {id: keys.id, before: old.email, after: new.email}}"""

[[rule]]
when        = { eventName = ["INSERT"], new = { type = [{ prefix = "order#" }] } }
detail_type = "{new.kind}Placed"

[[rule]]
when   = { eventName = ["REMOVE"] }
skip   = "deletes are not events here"
'''


def test_the_rules_of_the_design_do_what_it_says(mapping: Any) -> None:
    mapper = mapping(DESIGN)
    event = mapper(modified(email="c@example.com"))
    assert event == Event(
        "myapp.users",
        "UserEmailChanged",
        b'{"metadata":{"id":"e1","at":"2026-01-01T00:00:00Z"},'
        b'"data":{"id":"a","before":"b@example.com","after":"c@example.com"}}',
        (ORIGIN.stream_arn, "e1"),
        EPOCH,
        "email-changed",
    )
    placed = mapper(inserted())
    assert (placed.detail_type, placed.source, placed.rule) == (
        "OrderPlaced",
        "ddbrelay.users",
        "{new.kind}Placed",
    )
    assert json.loads(placed.detail) == USER
    assert mapper(change("a", event_name="REMOVE", old=USER)) == Skip("deletes are not events here")
    assert mapper(modified(age=32)) == Skip("no rule")


def test_what_no_rule_matches_is_parked_where_the_file_is_strict(mapping: Any) -> None:
    mapper = mapping("strict = true\n" + DESIGN)
    assert mapper(modified(age=32)) == Reject("no rule matches, and the mapping is strict")


def test_what_no_rule_matches_goes_to_the_preset_that_is_named(mapping: Any) -> None:
    mapper = mapping('preset = "crud"\n' + DESIGN)
    assert mapper(modified(age=32)).detail_type == "UserUpdated"


CONTINUED = """
[[rule]]
name = "any"
detail_type = "Changed"
continue = true
[[rule]]
name = "adult"
when = { new = { age = [{ numeric = [">=", 18] }] } }
detail_type = "AdultChanged"
detail = "{id: id, of: eventID}"
continue = true
[[rule]]
name = "old"
when = { new = { age = [{ numeric = [">=", 90] }] } }
skip = true
[[rule]]
name = "rest"
detail_type = "Rest"
"""


def test_rules_that_continue_raise_several_events_each_with_its_own_id(mapping: Any) -> None:
    mapper = mapping(CONTINUED)
    result = mapper(inserted())
    assert isinstance(result, Several)
    assert [(event.rule, event.resources[1]) for event in result.events] == [
        ("any", "e1"),
        ("adult", "e1.adult"),
        ("rest", "e1.rest"),
    ]
    assert json.loads(result.events[1].detail) == {"id": "e1.adult", "of": "e1"}


def test_a_rule_that_skips_ends_what_others_continued(mapping: Any) -> None:
    result = mapping(CONTINUED)(inserted(age=99))
    assert [event.rule for event in result.events] == ["any", "adult"]


def test_all_events_of_a_change_go_or_none(mapping: Any) -> None:
    mapper = mapping("""
[[rule]]
detail_type = "First"
continue = true
[[rule]]
name = "second"
detail_type = "{new.missing}Second"
""")
    assert mapper(inserted()) == Reject('rule "second": {new.missing} is missing', "second")


def test_every_part_of_an_entry_can_be_said(mapping: Any) -> None:
    event = mapping("""
[[rule]]
name = "all"
source = "shop.{new.kind}"
detail_type = "Made"
detail = { who = "{keys.id}", age = "{new.age}" }
resources = ["user/{keys.id}", "{id}"]
time = "new.made"
bus = "audit"
trace_header = "Root={new.trace}"
""")(inserted(made="2026-02-03T04:05:06+01:00", trace="1-2-3"))
    assert event == Event(
        "shop.Order",
        "Made",
        b'{"who":"a","age":31}',
        ("user/a", "e1"),
        1770087906.0,
        "all",
        "audit",
        "Root=1-2-3",
    )


@pytest.mark.parametrize(
    ("rule", "new", "reason"),
    [
        ('detail_type = "{new.nick}Made"', {}, "{new.nick} is missing"),
        ('detail = "new.email"', {}, "the detail is a text, not an object"),
        ('detail = "new.nick"', {}, "the detail is null, not an object"),
        ('detail = "new.tags"', {"tags": ["a"]}, "the detail is an array, not an object"),
        ('detail = { a = "{new.nick}" }', {}, "{new.nick} is missing"),
        ('detail_type = "{new.kind}"', {"kind": "x" * 129}, "longer than 128 characters"),
        ('detail_type = "{new.kind}"', {"kind": ""}, "the detail type is empty"),
        ('source = "{new.kind}"', {"kind": "aws.s3"}, "must not begin with aws."),
        ('time = "new.kind"', {}, "the time new.kind: it is neither an ISO time"),
        ('time = "new.made"', {}, "the time new.made is missing"),
        ('trace_header = "{new.kind}"', {"kind": "x" * 501}, "longer than 500 characters"),
        ('resources = ["{new.nick}"]', {}, "{new.nick} is missing"),
        ('detail = "{n: length(new.age)}"', {}, "length() in '{n: length(new.age)}' takes"),
    ],
)
def test_a_record_that_a_rule_cannot_handle_is_rejected_with_the_rules_name(
    mapping: Any, rule: str, new: dict[str, Any], reason: str
) -> None:
    result = mapping(f'[[rule]]\nname = "mine"\n{rule}\n')(inserted(**new))
    assert isinstance(result, Reject), result
    assert result.reason.startswith('rule "mine": ')
    assert reason in result.reason


def test_an_integer_beyond_64_bits_becomes_text_so_that_nothing_is_half_sent(mapping: Any) -> None:
    mapper = mapping("""
[[rule]]
detail_type = "A"
continue = true
[[rule]]
detail_type = "B"
detail = "{big: to_number('99999999999999999999'), sum: sum([new.age, `9223372036854775807`])}"
""")
    result = mapper(inserted())
    assert isinstance(result, Several)
    assert result.events[1].detail == b'{"big":"99999999999999999999","sum":"9223372036854775838"}'


@pytest.mark.parametrize(
    "wanted",
    [
        '[{ numeric = [">", 0] }]',
        '[{ anything-but = ["99999999999999999999"] }]',
        '[{ anything-but = { prefix = "9" } }]',
    ],
)
def test_an_integer_beyond_64_bits_is_a_number_for_patterns(mapping: Any, wanted: str) -> None:
    mapper = mapping(f'[[rule]]\nwhen = {{ new = {{ n = {wanted} }} }}\ndetail = "{{n: new.n}}"\n')
    event = mapper(inserted(n=99999999999999999999))
    assert isinstance(event, Event)
    assert event.detail == b'{"n":"99999999999999999999"}'


def test_an_integer_beyond_64_bits_is_found_exactly(mapping: Any) -> None:
    mapper = mapping("""
[[rule]]
when = '{"new": {"n": [99999999999999999999]}}'
detail = "{n: new.n, sum: sum([new.n, `1`]), small: sum([new.small, new.small])}"
""")
    event = mapper(inserted(n=99999999999999999999, small=2**63 - 1))
    assert isinstance(event, Event)
    assert json.loads(event.detail) == {
        "n": "99999999999999999999",
        "sum": "100000000000000000000",
        "small": str(2**64 - 2),
    }
    assert mapper(inserted(n=99999999999999999998)) == Skip("no rule")


def test_an_image_stays_undecoded_where_a_rule_on_name_or_keys_skips(mapping: Any) -> None:
    mapper = mapping("""
[[rule]]
when = { eventName = ["REMOVE"] }
skip = "removed"
[[rule]]
when = { new = { a = ["x"] }, keys = { id = [{ prefix = "skip" }] } }
skip = "by key"
""")
    assert mapper(change("a", event_name="REMOVE", old=b"{broken")) == Skip("removed")
    assert mapper(change("a", event_name="REMOVE", old=b"{broken", new=b"{broken")) == Skip(
        "removed"
    )
    reason = mapper(change("skip-me", new=b"{broken"))
    assert isinstance(reason, Reject)
    assert 'rule "by key": cannot be read' in reason.reason
    assert mapper(change("other", new=b"{broken")) == Skip("no rule")


def test_lambdas_form_of_a_filter_is_taken_too(mapping: Any) -> None:
    mapper = mapping("""
[[rule]]
when = '''{"eventName": ["INSERT"], "dynamodb":
            {"NewImage": {"type": {"S": [{"prefix": "order#"}]}, "age": {"N": ["31"]}}}}'''
detail_type = "OrderPlaced"
[[rule]]
when = { userIdentity = { type = ["Service"] }, dynamodb = { Keys = { id = { S = ["a"] } } } }
detail_type = "Expired"
""")
    assert mapper(inserted()).detail_type == "OrderPlaced"
    assert mapper(inserted(age=32)) == Skip("no rule")
    assert mapper(change("a", event_name="REMOVE", ttl=True)).detail_type == "Expired"
    assert mapper(change("a", event_name="REMOVE")) == Skip("no rule")


def test_lambdas_form_is_known_by_any_field_that_only_it_has(mapping: Any) -> None:
    expired = '{"userIdentity": {"type": ["Service"], "principalId": ["dynamodb.amazonaws.com"]}}'
    either = (
        '{"$or": [{"dynamodb": {"NewImage": {"age": {"N": ["31"]}}}}, '
        '{"dynamodb": {"Keys": {"id": {"S": ["b"]}}}}]}'
    )
    mapper = mapping(
        f"[[rule]]\nwhen = '{expired}'\ndetail_type = \"Expired\"\n"
        f"[[rule]]\nwhen = '{either}'\ndetail_type = \"Either\"\n"
    )
    assert mapper(change("a", event_name="REMOVE", ttl=True)).detail_type == "Expired"
    assert mapper(change("a", event_name="REMOVE")) == Skip("no rule")
    assert mapper(inserted()).detail_type == "Either"
    assert mapper(change("b")).detail_type == "Either"


def test_a_pattern_can_be_json_text_where_toml_has_no_null(mapping: Any) -> None:
    mapper = mapping(
        """[[rule]]\nwhen = '{"new": {"deletedAt": [null]}}'\ndetail_type = "Kept"\n"""
    )
    assert mapper(inserted(deletedAt=None)).detail_type == "Kept"
    assert mapper(inserted(deletedAt=1)) == Skip("no rule")


@pytest.mark.parametrize(
    ("envelope", "detail"),
    [
        (
            "metadata",
            {
                "metadata": {
                    "id": "e1",
                    "sequence": "100000000000000000000",
                    "at": "2026-01-01T00:00:00Z",
                    "table": "users",
                },
                "data": {"n": 1.50},
            },
        ),
        (
            "cloudevents",
            {
                "specversion": "1.0",
                "id": "e1",
                "source": "ddbrelay.users",
                "type": "Made",
                "subject": "a",
                "datacontenttype": "application/json",
                "sequence": "100000000000000000000",
                "time": "2026-01-01T00:00:00Z",
                "data": {"n": 1.50},
            },
        ),
        ("none", {"n": 1.50}),
    ],
)
def test_an_envelope_surrounds_the_data(mapping: Any, envelope: str, detail: Any) -> None:
    source = change("a", 10**20, new={"id": "a"}, event_id="e1")
    mapper = mapping(
        f'envelope = "{envelope}"\n[[rule]]\ndetail_type = "Made"\ndetail = {{ n = 1.5 }}'
    )
    assert json.loads(mapper(source).detail) == detail
    overridden = mapping(
        f'[[rule]]\nenvelope = "{envelope}"\ndetail_type = "Made"\ndetail = {{ n = 1.5 }}'
    )
    assert json.loads(overridden(source).detail) == detail


def test_an_envelope_surrounds_what_the_default_mapping_makes(mapping: Any) -> None:
    made = json.loads(mapping('envelope = "metadata"')(inserted()).detail)
    assert made["data"] == USER
    assert made["metadata"]["id"] == "e1"


def test_rules_see_what_is_redacted_and_nobody_else(mapping: Any) -> None:
    mapper = mapping("""
redact = ["email"]
[[rule]]
when = { new = { email = [{ suffix = "@example.com" }] } }
detail_type = "Example"
redact = ["kind"]
""")
    source = inserted()
    event = mapper(source)
    assert json.loads(event.detail) == USER | {"email": "[redacted]", "kind": "[redacted]"}
    assert source.new is not None
    assert source.new["email"] == "[redacted]"
    assert mapper(source) == event, "mapped again, it matches again"


@pytest.mark.parametrize("rule", ["", 'redact = ["id"]'])
def test_an_attribute_of_the_key_cannot_be_redacted(
    mapping: Any, tmp_path: Path, rule: str
) -> None:
    top = "" if rule else 'redact = ["id"]\n'
    mapping(f'{top}[[rule]]\ndetail_type = "X"\n{rule}\n')
    config = load({}, {}, tmp_path)
    check_redaction(config, ["pk"])
    with pytest.raises(ConfigError, match=r'ddbrelay\.toml:\d:1: "id" is a key attribute'):
        check_redaction(config, ["pk", "id"])


def test_the_first_of_two_rules_that_match_counts(mapping: Any) -> None:
    mapper = mapping(
        '[[rule]]\nwhen = { eventName = ["INSERT"] }\ndetail_type = "A"\n'
        '[[rule]]\ndetail_type = "B"\n'
    )
    event = mapper(inserted())
    assert isinstance(event, Event)
    assert event.detail_type == "A"


def test_what_is_skipped_or_rejected_is_redacted_too(mapping: Any) -> None:
    mapper = mapping("""
redact = ["email"]
[[rule]]
when = { eventName = ["INSERT"] }
detail_type = "{new.missing}"
""")
    for source, kind in ((inserted(), Reject), (modified(age=32), Skip)):
        assert isinstance(mapper(source), kind)
        assert source.new is not None
        assert source.new["email"] == "[redacted]"


def test_redaction_works_without_rules(mapping: Any) -> None:
    assert json.loads(mapping('redact = ["email"]')(inserted()).detail)["email"] == "[redacted]"


def test_explain_says_for_each_rule_why(mapping: Any) -> None:
    mapper = mapping('redact = ["email"]\n' + DESIGN)
    assert isinstance(mapper, RuleMapper)
    verdicts = mapper.explain(inserted(type="user#1"))
    assert [verdict.matched for verdict in verdicts] == [False, False, False]
    (finding,) = [one for one in verdicts[1].findings if not one.ok]
    assert (finding.path, finding.wanted, finding.found) == (
        "new.type",
        'prefix "order#"',
        '"user#1"',
    )
    matched = mapper.explain(inserted())
    assert [verdict.matched for verdict in matched] == [False, True]
    assert matched[-1].result == mapper(inserted())


BROKEN = b'{"id": {"S": "a"}, "n": {"N": 5}}'


def test_explain_ends_where_the_mapping_does_at_what_cannot_be_read(mapping: Any) -> None:
    mapper = mapping("""
[[rule]]
name = "keys"
when = { keys = { id = ["a"] } }
continue = true
[[rule]]
name = "deletes"
when = { eventName = ["REMOVE"], old = { n = [1] } }
skip = true
[[rule]]
name = "reads"
when = { new = { n = [1] } }
[[rule]]
name = "rest"
""")
    source = change("a", new=BROKEN)
    outcome = mapper(source)
    assert isinstance(outcome, Reject)
    verdicts = mapper.explain(source)
    assert [(one.rule.name, one.matched) for one in verdicts] == [
        ("keys", True),
        ("deletes", False),
        ("reads", False),
    ]
    assert verdicts[1].result is None
    assert verdicts[2].result == outcome
    assert not verdicts[2].findings[0].ok


def test_an_image_that_no_rule_reads_does_not_change_what_is_explained(mapping: Any) -> None:
    mapper = mapping('redact = ["email"]\n[[rule]]\nwhen = { new = { age = [31] } }\nskip = "old"')
    source = change("a", event_name="MODIFY", new=USER, old=b"[1]")
    assert mapper(source) == Skip("old")
    (verdict,) = mapper.explain(source)
    assert verdict.matched
    assert verdict.result == Skip("old")
    assert [(one.found, one.ok) for one in verdict.findings] == [('"[redacted]"', True)]


def test_explain_hides_what_is_redacted(mapping: Any) -> None:
    mapper = mapping(
        'redact = ["email"]\n[[rule]]\nwhen = { new = { email = ["x"] } }\nskip = true'
    )
    (verdict,) = mapper.explain(inserted())
    assert [finding.found for finding in verdict.findings] == ['"[redacted]"']
    (verdict,) = mapper.explain(change("a"))
    assert [finding.found for finding in verdict.findings] == ["absent"]


def test_a_rule_knows_where_it_stands(mapping: Any, tmp_path: Path) -> None:
    mapping(DESIGN)
    places = [rule.place for rule in rules_of(load({}, {}, tmp_path), "users")]
    assert places == [f"{tmp_path}/ddbrelay.toml:{line}:1" for line in (5, 13, 17)]


def test_the_sources_of_rules_are_known(mapping: Any, tmp_path: Path) -> None:
    rules = ("a", "a", "b.{new.x}.c", "{new.x}", "ddbrelay.users")
    mapping("\n".join(f'[[rule]]\ncontinue = true\nsource = "{one}"' for one in rules))
    config = load({"table": "users"}, {}, tmp_path)
    assert sources_of(config) == ["a", {"prefix": "b."}, {"anything-but": {"prefix": "aws."}}]


@pytest.mark.parametrize(
    ("options", "tidying"),
    [
        ("", None),
        ('after = "keep"', None),
        ('after = "delete"', Tidying()),
        ('after = "expire"', Tidying("expiresAt", 86400.0)),
        ('after = "expire"\nttl = "2h"\nttl_attribute = "gone"', Tidying("gone", 7200.0)),
    ],
)
def test_what_becomes_of_the_items_of_an_outbox(
    mapping: Any, tmp_path: Path, options: str, tidying: Tidying | None
) -> None:
    mapping(f'preset = "outbox"\n[outbox]\n{options}\n')
    assert tidying_of(load({}, {}, tmp_path)) == tidying


def test_the_other_buses_are_known(mapping: Any, tmp_path: Path) -> None:
    first = '[[rule]]\nbus = "b"\ncontinue = true\ndetail_type = "A"\n'
    mapping(f'bus.name = "b"\n{first}[[rule]]\nbus = "c"')
    config = load({}, {}, tmp_path)
    assert buses_of(config) == ["c"]
    assert [rule.name for rule in rules_of(config, "users")] == ["A", "rule 2"]


def test_one_operator_on_the_name_of_the_event_is_a_pattern_too(mapping: Any) -> None:
    mapper = mapping('[[rule]]\nwhen = { eventName = [{ anything-but = ["REMOVE"] }] }\nskip = "x"')
    assert mapper(inserted()) == Skip("x")
