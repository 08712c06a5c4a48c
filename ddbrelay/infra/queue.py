"""The queue behind the rule, and the policy that lets the rule send to it.

https://docs.aws.amazon.com/eventbridge/latest/userguide/eb-use-resource-based.html#eb-sqs-permissions
"""

from __future__ import annotations

import json
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Any

from ddbrelay.errors import AwsRefused, ConfigError
from ddbrelay.infra.calls import ALREADY_EXISTS, NOT_FOUND, attempt, call, wait_for
from ddbrelay.infra.names import queue_name, rule_name, short_hash
from ddbrelay.infra.plan import Found, Place, Wanted

if TYPE_CHECKING:
    from ddbrelay.aws.session import Aws

SERVICE = "events.amazonaws.com"
_DELETED_RECENTLY = {"AWS.SimpleQueueService.QueueDeletedRecently", "QueueDeletedRecently"}
_EXACT, _LIKE = {"ArnEquals", "StringEquals"}, {"ArnEquals", "ArnLike", "StringLike"}


class Queue:
    """The queue of a relay; `url` is known once it was found."""

    kind = "queue"

    def __init__(self, aws: Aws, wanted: Wanted) -> None:
        self.name = queue_name(wanted.table)
        self.url = ""
        self._wanted = wanted
        self._sqs = aws.client("sqs")

    def planned(self) -> str:
        """What a new one gets."""
        return f"policy: {SERVICE} from this rule"

    def inspect(self) -> Found | None:
        """The queue as it is."""
        attributes = self._attributes()
        if attributes is None:
            return None
        arn = attributes["QueueArn"]
        rule_arn = self._rule_arn(Place.of(arn))
        allowed = any(
            allows(statement, arn, rule_arn)
            for statement in _statements(_policy(attributes, self.name))
        )
        missing = f"policy does not let {SERVICE} send from {rule_arn}"
        return Found(
            arn=arn,
            detail=self.planned(),
            related=(self.url,),
            differences=() if allowed else (missing,),
        )

    def create(self, place: Place | None) -> bool:
        """Create it with its policy; False when it already exists."""
        assert place is not None
        statement = sending_statement(place.queue(self.name), self._rule_arn(place))
        try:
            made = attempt(
                self._sqs,
                "create_queue",
                f"create the queue {self.name}",
                ALREADY_EXISTS,
                QueueName=self.name,
                Attributes={"Policy": json.dumps(_with(statement, {}))},
                tags=self._wanted.tags,
            )
        except AwsRefused as error:
            if error.code in _DELETED_RECENTLY:
                raise AwsRefused(
                    f"the queue {self.name} was deleted less than 60 s ago, and SQS keeps its "
                    "name for that long",
                    "run again in a minute",
                    code=error.code,
                ) from error
            raise
        return made is not None

    def change(self, found: Found, timeout: float) -> str:
        """Add the statement to the policy, whose other statements stay; what was done."""
        attributes = wait_for(self._attributes, f"the queue {self.name}", timeout)
        statement = sending_statement(found.arn, self._rule_arn(Place.of(found.arn)))
        policy = _with(statement, _policy(attributes, self.name))
        call(
            self._sqs,
            "set_queue_attributes",
            f"set the policy of the queue {self.name}",
            QueueUrl=self.url,
            Attributes={"Policy": json.dumps(policy)},
        )
        return f"policy now lets {SERVICE} send from this rule"

    def ready(self, timeout: float) -> Found:
        """Wait until it can be seen."""
        return wait_for(self.inspect, f"the queue {self.name}", timeout)

    def _attributes(self) -> dict[str, str] | None:
        doing = f"find the queue {self.name}"
        address = attempt(self._sqs, "get_queue_url", doing, NOT_FOUND, QueueName=self.name)
        if address is None:
            return None
        self.url = str(address["QueueUrl"])
        answer = attempt(
            self._sqs,
            "get_queue_attributes",
            f"describe the queue {self.name}",
            NOT_FOUND,
            QueueUrl=self.url,
            AttributeNames=["QueueArn", "Policy"],
        )
        return None if answer is None else answer["Attributes"]

    def _rule_arn(self, place: Place) -> str:
        return place.rule(self._wanted.bus, rule_name(self._wanted.table))


def sending_statement(queue_arn: str, rule_arn: str) -> dict[str, Any]:
    """The policy statement that lets one rule, and no other, send to one queue."""
    return {
        "Sid": f"DdbrelayRule{short_hash(rule_arn)}",
        "Effect": "Allow",
        "Principal": {"Service": SERVICE},
        "Action": "sqs:SendMessage",
        "Resource": queue_arn,
        "Condition": {"ArnEquals": {"aws:SourceArn": rule_arn}},
    }


def allows(statement: dict[str, Any], queue_arn: str, rule_arn: str) -> bool:
    """Whether a policy statement lets the rule send to the queue, in whichever spelling.

    A statement with a condition on anything but `aws:SourceArn` is taken not to: whether it holds
    cannot be told from here.
    """
    principal = statement.get("Principal")
    services = principal.get("Service") if isinstance(principal, dict) else principal
    actions = {action.lower() for action in _list(statement.get("Action"))}
    if (
        statement.get("Effect") != "Allow"
        or not {SERVICE, "*"} & set(_list(services))
        or not {"sqs:sendmessage", "sqs:*", "*"} & actions
        or not any(fnmatchcase(queue_arn, value) for value in _list(statement.get("Resource")))
    ):
        return False
    return all(
        key.lower() == "aws:sourcearn" and _matches(operator, rule_arn, _list(values))
        for operator, test in (statement.get("Condition") or {}).items()
        for key, values in test.items()
    )


def _matches(operator: str, arn: str, values: list[str]) -> bool:
    if operator in _LIKE:
        return any(fnmatchcase(arn, value) for value in values)
    return operator in _EXACT and arn in values


def _with(statement: dict[str, Any], policy: dict[str, Any]) -> dict[str, Any]:
    others = [s for s in _statements(policy) if s.get("Sid") != statement["Sid"]]
    return {"Version": "2012-10-17", **policy, "Statement": [*others, statement]}


def _statements(policy: dict[str, Any]) -> list[dict[str, Any]]:
    return _list(policy.get("Statement"))


def _policy(attributes: dict[str, str], name: str) -> dict[str, Any]:
    text = attributes.get("Policy")
    if not text:
        return {}
    try:
        policy = json.loads(text)
    except ValueError:
        policy = None
    if not isinstance(policy, dict):
        raise ConfigError(f"the policy of the queue {name} is not JSON", "correct or remove it")
    return policy


def _list(value: Any) -> list[Any]:
    if value is None:
        return []
    return value if isinstance(value, list) else [value]
