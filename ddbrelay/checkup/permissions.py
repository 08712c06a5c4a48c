"""What the identity may do, by IAM's own simulation; nothing is called for it.

https://docs.aws.amazon.com/IAM/latest/APIReference/API_SimulatePrincipalPolicy.html: of policies
on the resources themselves, and of those of a session, the simulation knows nothing.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass
from itertools import chain
from typing import TYPE_CHECKING

from ddbrelay.aws.errors import DENIED
from ddbrelay.checkup.asking import Answer, asked
from ddbrelay.checkup.findings import NO_DETAILS, Area, Finding, Subject
from ddbrelay.export.iam import Scope, Statement
from ddbrelay.export.policies import policy_for
from ddbrelay.infra.calls import call
from ddbrelay.infra.plan import Place
from ddbrelay.text import listed

if TYPE_CHECKING:
    from ddbrelay.aws.session import Aws

AREA = Area("permissions")
_ASSUMED = re.compile(r"arn:([^:]+):sts::(\d{12}):assumed-role/([^/]+)/.+")
_IAM = re.compile(r"arn:[^:]+:iam::\d{12}:(user|role)/.+")
_SOURCE = "events:source"
_DOING = "simulate the permissions"
_OF_RESOURCES = ("s3:", "sqs:")
"""Their resources may let the caller in by policies of their own, which are not seen here."""


@dataclass(frozen=True)
class Asking:
    """One question: these actions on these resources, with the values of condition keys."""

    actions: tuple[str, ...]
    resources: tuple[str, ...]
    context: Mapping[str, tuple[str, ...]]


@dataclass(frozen=True)
class Verdict:
    """IAM's word on one action on one resource: `allowed`, `implicitDeny` or `explicitDeny`.

    `missing` are condition keys that a policy asks for and nobody gave.
    """

    action: str
    resource: str
    decision: str
    missing: tuple[str, ...] = ()


def principal_of(aws: Aws, arn: str) -> str | None:
    """The ARN that can be simulated for a caller's; None for the root user and federated ones.

    That of an assumed role lacks the role's path, which only IAM knows (iam:GetRole).
    """
    if _IAM.fullmatch(arn):
        return arn
    match = _ASSUMED.fullmatch(arn)
    if match is None:
        return None
    partition, account, role = match.groups()
    doing = f"look at the role {role}"
    asking = asked(lambda: call(aws.client("iam"), "get_role", doing, RoleName=role), doing)
    if asking.value is not None:
        return str(asking.value["Role"]["Arn"])
    return f"arn:{partition}:iam::{account}:role/{role}"


def questions(subject: Subject, table_arn: str, stream_arn: str | None) -> list[Asking]:
    """What a forwarding relay would ask for, statement by statement of its policy."""
    place = Place.of(table_arn)
    scope = Scope(place.partition, place.region, place.account)
    policy = policy_for("relay", subject.config, subject.table, scope)
    return [_asking(statement, stream_arn) for statement in policy["Statement"]]


def _asking(statement: Statement, stream_arn: str | None) -> Asking:
    said = statement["Resource"]
    resources = [said] if isinstance(said, str) else list(said)
    context: dict[str, tuple[str, ...]] = {}
    for test in statement.get("Condition", {}).values():
        for key, values in test.items():
            context[key] = tuple(value.replace("*", "doctor") for value in values)
    return Asking(
        tuple(statement["Action"]),
        tuple(_plain(one, stream_arn) for one in resources),
        context,
    )


def _plain(resource: str, stream_arn: str | None) -> str:
    """A resource without its asterisk: the stream itself, or some object below a prefix."""
    if resource.endswith("/stream/*") and stream_arn is not None:
        return stream_arn
    return f"{resource[:-1]}doctor" if resource.endswith("*") else resource


def look(
    aws: Aws, principal: str, asking: Sequence[Asking], pool: Executor
) -> list[Answer[list[Verdict]]]:
    """IAM's answers, in the order of the questions."""
    return list(
        pool.map(lambda one: asked(lambda: _simulated(aws, principal, one), _DOING), asking)
    )


def _simulated(aws: Aws, principal: str, one: Asking) -> list[Verdict]:
    entries = [
        {"ContextKeyName": key, "ContextKeyValues": list(values[:1]), "ContextKeyType": "string"}
        for key, values in one.context.items()
    ]
    said = call(
        aws.client("iam"),
        "simulate_principal_policy",
        _DOING,
        PolicySourceArn=principal,
        ActionNames=list(one.actions),
        ResourceArns=list(one.resources),
        **({"ContextEntries": entries} if entries else {}),
    )
    return [
        Verdict(
            str(result["EvalActionName"]),
            str(result.get("EvalResourceName", "*")),
            str(result["EvalDecision"]),
            tuple(result.get("MissingContextValues", ())),
        )
        for result in said["EvaluationResults"]
    ]


def not_asked(subject: Subject, principal: str | None) -> Finding | None:
    """Why no simulation would tell anything; None where one does."""
    if subject.emulated:
        return AREA.note("simulation", f"{NO_DETAILS}: an emulator allows everything")
    if principal is None:
        return AREA.note("simulation", "IAM simulates users and roles only, not this identity")
    return None


def judge(
    subject: Subject,
    account: str,
    answers: Iterable[Answer[list[Verdict]]],
    *,
    proven: Collection[str],
    guarded: Collection[str] = (),
) -> list[Finding]:
    """What of the relay's calls would be refused.

    `proven` are actions that were just allowed, whatever the simulation says; `guarded` are ARNs of
    resources that have policies of their own.
    """
    answers = list(answers)
    if (refusal := next((one.refusal for one in answers if one.refusal), None)) is not None:
        if any(answer.code in DENIED for answer in answers):
            words = (
                "the permissions cannot be simulated: iam:SimulatePrincipalPolicy is not allowed"
            )
            why = "what this look did not call itself, PutEvents above all, is not known"
            return [AREA.note("simulation", words, why, _policy(subject, account))]
        return [AREA.note("simulation", f"{NO_DETAILS}: {refusal.message}")]
    verdicts = [*chain.from_iterable(answer.value or () for answer in answers)]
    refusals = [one for one in verdicts if one.decision != "allowed" and one.action not in proven]
    found = []
    for one in refusals:
        found.append(_refusal(subject, account, one, guarded))
    if not found:
        names = listed(sorted({one.action for one in verdicts}))
        found.append(AREA.ok("simulation", f"IAM allows {names}"))
    return found


def _refusal(subject: Subject, account: str, one: Verdict, guarded: Collection[str]) -> Finding:
    words = f"{one.action} on {one.resource} is not allowed"
    mend = _policy(subject, account)
    if one.decision == "explicitDeny":
        return AREA.error("simulation", words, "a policy denies it", mend)
    if keys := [key for key in one.missing if key != _SOURCE]:
        why = f"it may depend on {listed(keys)}, which only a real call has"
        return AREA.warning("simulation", words, why, mend)
    foreign = one.resource.split(":")[4:5] not in ([account], [""])
    if not foreign and (one.action.startswith(_OF_RESOURCES) or one.resource in guarded):
        why = "no policy of this identity allows it; the resource's own policy may"
        return AREA.warning("simulation", words, why, mend)
    return AREA.error("simulation", words, "no policy of this identity allows it", mend)


def _policy(subject: Subject, account: str) -> str:
    return subject.again(f"export iam-policy --for relay --account {account}")
