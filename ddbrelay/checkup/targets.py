"""What stands behind the rules that our events match: whether it is there, and lets them in.

Queues as targets: https://docs.aws.amazon.com/eventbridge/latest/userguide/
eb-use-resource-based.html#eb-sqs-permissions; encrypted ones: key policies of the AWS managed key
of SQS name no service, https://docs.aws.amazon.com/AWSSimpleQueueService/latest/SQSDeveloperGuide/
sqs-key-management.html
"""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from ddbrelay.checkup.asking import Answer, asked, refused
from ddbrelay.checkup.bus import Rule, is_own, on
from ddbrelay.checkup.findings import Area, Finding, Subject
from ddbrelay.infra.calls import NOT_FOUND, attempt, call
from ddbrelay.infra.events import targets_of
from ddbrelay.infra.names import queue_name, rule_name
from ddbrelay.infra.queue import SERVICE, allows

if TYPE_CHECKING:
    from ddbrelay.aws.session import Aws

AREA = Area("targets")
_MANAGED_KEY = "alias/aws/sqs"
_MOST_RULES = 30
_ATTRIBUTES = ["QueueArn", "Policy", "KmsMasterKeyId", "FifoQueue"]


@dataclass(frozen=True)
class Target:
    """A target of a rule; `queue` are the attributes of an SQS queue, None within for none.

    `queue` itself is None for a target of another kind, and for a queue elsewhere. `undelivered` is
    the same of the dead-letter queue that the target has.
    """

    rule: Rule
    arn: str
    said: Mapping[str, Any]
    queue: Answer[dict[str, str] | None] | None = None
    undelivered: Answer[dict[str, str] | None] | None = None

    @property
    def name(self) -> str:
        return self.arn.rpartition(":")[2]

    @property
    def dead_letters(self) -> str | None:
        """The ARN of the queue for what cannot be delivered."""
        return (self.said.get("DeadLetterConfig") or {}).get("Arn")

    @property
    def fate(self) -> str:
        """What becomes of an event that the target refuses, or that has none."""
        if self.dead_letters:
            return f"what cannot be delivered goes to {self.dead_letters.rpartition(':')[2]}"
        return "EventBridge drops what it cannot deliver, and tells nobody"


@dataclass(frozen=True)
class Behind:
    """What stands behind the rules, and how many of these were not looked at."""

    targets: Mapping[str, Answer[list[Target]]]
    left_out: int = 0


def look(aws: Aws, bus: str, rules: Sequence[Rule], pool: Executor) -> Behind:
    """The targets of these rules, and the queues among them."""
    chosen = rules[:_MOST_RULES]
    answers = pool.map(
        lambda rule: asked(lambda: _targets(aws, bus, rule), f"list the targets of {rule.name}"),
        chosen,
    )
    by_name = {rule.name: answer for rule, answer in zip(chosen, answers, strict=True)}
    return Behind(by_name, len(rules) - len(chosen))


def _targets(aws: Aws, bus: str, rule: Rule) -> list[Target]:
    found = []
    for said in targets_of(aws.client("events"), bus, rule.name):
        target = Target(rule, str(said["Arn"]), said)
        queues = [_queue(aws, arn) for arn in (target.arn, target.dead_letters)]
        found.append(replace(target, queue=queues[0], undelivered=queues[1]))
    return found


def _queue(aws: Aws, arn: str | None) -> Answer[dict[str, str] | None] | None:
    """A queue of this region; None for anything else."""
    if arn is None or arn.split(":")[2:4] != ["sqs", aws.region]:
        return None
    return asked(lambda: attributes(aws, arn), f"look at the queue {arn}")


def attributes(aws: Aws, arn: str) -> dict[str, str] | None:
    """What a queue of this region says of itself, None where there is none."""
    account, name = arn.split(":")[4:6]
    sqs, doing = aws.client("sqs"), f"look at the queue {name}"
    named = {"QueueName": name, "QueueOwnerAWSAccountId": account}
    address = attempt(sqs, "get_queue_url", doing, NOT_FOUND, **named)
    if address is None:
        return None
    url = address["QueueUrl"]
    said = call(sqs, "get_queue_attributes", doing, QueueUrl=url, AttributeNames=_ATTRIBUTES)
    return {**said.get("Attributes", {}), "QueueUrl": str(url)}


def judge(subject: Subject, bus: str, behind: Behind) -> list[Finding]:
    """Whether what a rule matches can be delivered."""
    found = []
    for name, targets in behind.targets.items():
        if targets.value is None:
            found.append(refused(AREA, "targets", targets, emulated=subject.emulated))
        elif not targets.value:
            words = f'rule "{name}" has no target'
            why = "what it matches goes nowhere"
            found.append(AREA.warning("targets", words, why, _give_target(subject, bus, name)))
        else:
            for target in targets.value:
                found += judge_target(subject, target)
    if behind.left_out:
        words = f"{behind.left_out:,} further rules that match our events were not looked at"
        found.append(AREA.note("targets", words))
    return found


def judge_target(subject: Subject, target: Target) -> list[Finding]:
    """Whether one target takes what its rule sends; of targets only queues are looked at."""
    rule, queue = target.rule.name, target.queue
    lost = _dead_letters(subject, target)
    service = target.arn.split(":")[2] if target.arn.count(":") > 2 else "unknown"
    if queue is None:
        where = "another region" if service == "sqs" else f"a target of kind {service}"
        return lost or [
            AREA.ok("targets", f'rule "{rule}" → {target.name} ({where}, not looked at)')
        ]
    if queue.refusal is not None:
        return [refused(AREA, "queue", queue, emulated=subject.emulated), *lost]
    if queue.value is None:
        words = f'the queue {target.name} behind rule "{rule}" does not exist'
        return [AREA.error("queue", words, target.fate, _make_queue(subject, target)), *lost]
    found = [
        *_policy(subject, target, queue.value),
        *_encryption(subject, target, queue.value),
        *_fifo(subject, target),
        *lost,
    ]
    return found or [
        AREA.ok("queue", f'rule "{rule}" → queue {target.name}, whose policy allows it')
    ]


def _policy(subject: Subject, target: Target, queue: Mapping[str, str]) -> list[Finding]:
    arn, rule_arn = queue.get("QueueArn", target.arn), target.rule.arn
    statements = statements_of(queue.get("Policy"))
    # A role that the rule takes needs no policy of the queue.
    if target.said.get("RoleArn") or any(allows(one, arn, rule_arn) for one in statements):
        return []
    if any(allows({**one, "Condition": {}}, arn, rule_arn) for one in statements):
        words = f"whether {target.name} lets {SERVICE} send depends on conditions of its policy"
        return [AREA.note("queue-policy", words, f'they name none of rule "{target.rule.name}"')]
    words = f'the policy of queue {target.name} does not let rule "{target.rule.name}" send'
    if _is_ours(subject, target):
        mend = subject.provision(apply=True)
    else:
        mend = f"allow {SERVICE} sqs:SendMessage where aws:SourceArn is {rule_arn}"
    return [AREA.error("queue-policy", words, target.fate, mend)]


def statements_of(policy: str | None) -> list[dict[str, Any]]:
    """The statements of a policy; none where it is no policy."""
    try:
        document = json.loads(policy or "{}")
    except ValueError:
        return []
    said = document.get("Statement", []) if isinstance(document, dict) else []
    every: Iterable[Any] = said if isinstance(said, list) else [said]
    return [one for one in every if isinstance(one, dict)]


def _encryption(subject: Subject, target: Target, queue: Mapping[str, str]) -> list[Finding]:
    key = queue.get("KmsMasterKeyId")
    if not key:
        return []
    if key.endswith(_MANAGED_KEY):
        words = f"queue {target.name} is encrypted with the AWS managed key"
        why = f"its key policy does not let {SERVICE} use it, and cannot be changed"
        managed = '{"KmsMasterKeyId": "", "SqsManagedSseEnabled": "true"}'
        url = shlex.quote(queue.get("QueueUrl", ""))
        mend = subject.aws_cli(
            f"sqs set-queue-attributes --queue-url {url} --attributes '{managed}'"
        )
        return [AREA.warning("encryption", words, why, mend)]
    words = f"queue {target.name} is encrypted with the key {key.rpartition('/')[2]}"
    why = f"its key policy must give {SERVICE} kms:Decrypt and kms:GenerateDataKey*"
    return [AREA.note("encryption", words, why)]


def _fifo(subject: Subject, target: Target) -> list[Finding]:
    grouped = (target.said.get("SqsParameters") or {}).get("MessageGroupId")
    if not target.name.endswith(".fifo") or grouped:
        return []
    words = f"queue {target.name} is a FIFO queue, and the target has no message group"
    why = "SQS refuses messages without one"
    # PutTargets replaces the target: what is not repeated is gone.
    grouping = {**target.said, "SqsParameters": {"MessageGroupId": target.rule.name}}
    targets = shlex.quote(json.dumps([{"Id": "1", "Arn": target.arn, **grouping}]))
    rule = target.rule
    mend = subject.aws_cli(
        f"events put-targets --rule {rule.name}{on(rule.bus)} --targets {targets}"
    )
    return [AREA.error("fifo", words, why, mend)]


def _dead_letters(subject: Subject, target: Target) -> list[Finding]:
    """Whether the target's own queue for what cannot be delivered is there."""
    arn, queue = target.dead_letters, target.undelivered
    if arn is None or queue is None or queue.refusal is not None or queue.value is not None:
        return []
    name = arn.rpartition(":")[2]
    words = f'the dead-letter queue {name} of a target of rule "{target.rule.name}" does not exist'
    why = "what cannot be delivered is dropped"
    mend = subject.create_queue(name)
    return [AREA.warning("undelivered", words, why, mend)]


def _is_ours(subject: Subject, target: Target) -> bool:
    table, rule = subject.table, target.rule
    named = rule.name == rule_name(table) and target.name == queue_name(table)
    return named and is_own(subject, rule.bus)


def _give_target(subject: Subject, bus: str, rule: str) -> str:
    if rule == rule_name(subject.table) and is_own(subject, bus):
        return subject.provision(apply=True)
    return subject.aws_cli(f"events put-targets --rule {rule}{on(bus)} --targets 'Id=1,Arn=<arn>'")


def _make_queue(subject: Subject, target: Target) -> str:
    if _is_ours(subject, target):
        return subject.provision()
    return subject.create_queue(target.name)
