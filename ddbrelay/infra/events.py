"""The bus, and the rule on it with its target.

https://docs.aws.amazon.com/eventbridge/latest/APIReference/API_PutRule.html and the pages of
PutTargets and CreateEventBus beside it.
"""

from __future__ import annotations

import json
import time
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from ddbrelay.errors import AwsRefused
from ddbrelay.infra.calls import ALREADY_EXISTS, NOT_FOUND, attempt, call, listing, wait_for
from ddbrelay.infra.names import queue_name, rule_name, short_hash
from ddbrelay.infra.plan import DEFAULT_BUS, Found, Place, Wanted, tag_map

if TYPE_CHECKING:
    from ddbrelay.aws.session import Aws

_OTHER_RUN = 2.0
"""Seconds that another run gets between its PutRule and its PutTargets."""


class Bus:
    """A bus that the relay publishes to, by default the one of the run."""

    kind = "bus"

    def __init__(self, aws: Aws, wanted: Wanted, name: str | None = None) -> None:
        self.name = name or wanted.bus
        self._own = self.name == wanted.bus
        self._wanted = wanted
        self._events = aws.client("events")

    def planned(self) -> str:
        """What a new one gets."""
        return "" if self._own else "for rules of the mapping"

    def inspect(self) -> Found | None:
        """The bus as it is; the default bus is always there."""
        answer = attempt(
            self._events,
            "describe_event_bus",
            f"describe the bus {self.name}",
            NOT_FOUND,
            Name=self.name,
        )
        if answer is None:
            if self.name == DEFAULT_BUS:
                raise AwsRefused("the account has no default bus", "choose another --bus")
            return None
        return Found(arn=str(answer["Arn"]), detail=self.planned())

    def create(self, place: Place | None) -> bool:
        """Create it; False when it already exists."""
        made = attempt(
            self._events,
            "create_event_bus",
            f"create the bus {self.name}",
            ALREADY_EXISTS,
            Name=self.name,
            Tags=self._wanted.tag_list,
        )
        return made is not None

    def change(self, found: Found, timeout: float) -> str:
        """A bus never differs."""
        return ""

    def ready(self, timeout: float) -> Found:
        """Wait until it can be seen."""
        return wait_for(self.inspect, f"the bus {self.name}", timeout)


class Rule:
    """The rule that sends the relay's events to the queue."""

    kind = "rule"

    def __init__(self, aws: Aws, wanted: Wanted) -> None:
        self._rule = rule_name(wanted.table)
        self.name = f"{wanted.bus}/{self._rule}"
        self._queue = queue_name(wanted.table)
        self._wanted = wanted
        self._events = aws.client("events")

    def planned(self) -> str:
        """What a new one gets."""
        return f"source {self._wanted.source_text} → queue"

    def inspect(self) -> Found | None:
        """The rule as it is."""
        rule = self._describe()
        if rule is None:
            return None
        differences = [*self._rule_differences(rule)]
        if not self._has_target(str(rule["Arn"])):
            differences.append(f"queue {self._queue} is not among its targets")
        return Found(arn=str(rule["Arn"]), detail=self.planned(), differences=tuple(differences))

    def create(self, place: Place | None) -> bool:
        """Create it with its target. PutRule does not tell a new rule from an old one."""
        assert place is not None
        self._put(None)
        try:
            self._put_target(place.queue(self._queue))
        except BaseException:
            # A rule without its target is what the next run would refuse. Where it cannot be
            # deleted either, the first error is the one to tell.
            with suppress(AwsRefused):
                attempt(
                    self._events,
                    "delete_rule",
                    f"delete the rule {self.name}",
                    NOT_FOUND,
                    Name=self._rule,
                    EventBusName=self._wanted.bus,
                )
            raise
        return True

    def change(self, found: Found, timeout: float) -> str:
        """Correct pattern and state, and add the target to the others; what was done."""
        rule = wait_for(self._describe, f"the rule {self.name}", timeout)
        if self._rule_differences(rule):
            self._put(rule)
        arn = Place.of(found.arn).queue(self._queue)
        if arn not in self._target_arns():
            self._put_target(arn)
        return f"now {self.planned()}"

    def ready(self, timeout: float) -> Found:
        """Wait until it can be seen."""
        return wait_for(self.inspect, f"the rule {self.name}", timeout)

    def _describe(self) -> dict[str, Any] | None:
        return attempt(
            self._events,
            "describe_rule",
            f"describe the rule {self.name}",
            NOT_FOUND,
            Name=self._rule,
            EventBusName=self._wanted.bus,
        )

    def _rule_differences(self, rule: dict[str, Any]) -> list[str]:
        differences = []
        pattern = json.loads(rule.get("EventPattern") or "null")
        if pattern != self._wanted.pattern:
            differences.append(
                f"pattern {json.dumps(pattern)}, wanted {json.dumps(self._wanted.pattern)}"
            )
        if rule.get("State") == "DISABLED":
            differences.append("state DISABLED, wanted ENABLED")
        return differences

    def _has_target(self, rule_arn: str) -> bool:
        arn = Place.of(rule_arn).queue(self._queue)
        deadline = time.monotonic() + _OTHER_RUN
        while arn not in (targets := self._target_arns()):
            # A rule of ours without any target may be another run's, half a second old.
            if targets or time.monotonic() > deadline or not self._is_ours(rule_arn):
                return False
            time.sleep(0.1)
        return True

    def _is_ours(self, rule_arn: str) -> bool:
        return self._wanted.tags.items() <= tags_of(self._events, rule_arn).items()

    def _target_arns(self) -> set[str]:
        return {target["Arn"] for target in targets_of(self._events, self._wanted.bus, self._rule)}

    def _put(self, rule: dict[str, Any] | None) -> None:
        # PutRule replaces the whole rule: what is not repeated is gone. Tags are the exception,
        # they are ignored for a rule that exists.
        kept = ("Description", "RoleArn", "ScheduleExpression")
        before = {key: rule[key] for key in kept if rule.get(key)} if rule else {}
        state = rule["State"] if rule and rule["State"] != "DISABLED" else "ENABLED"
        call(
            self._events,
            "put_rule",
            f"write the rule {self.name}",
            Name=self._rule,
            EventBusName=self._wanted.bus,
            EventPattern=json.dumps(self._wanted.pattern),
            State=state,
            **before,
            **({} if rule else {"Tags": self._wanted.tag_list}),
        )

    def _put_target(self, queue_arn: str) -> None:
        answer = call(
            self._events,
            "put_targets",
            f"add the queue to the rule {self.name}",
            Rule=self._rule,
            EventBusName=self._wanted.bus,
            Targets=[{"Id": f"ddbrelay-{short_hash(queue_arn)}", "Arn": queue_arn}],
        )
        refuse_failed_entries(answer, f"add the queue to the rule {self.name} (events:PutTargets)")


def tags_of(events: Any, arn: str) -> dict[str, str]:
    """The tags of a bus or a rule; none when it is gone."""
    doing = f"read the tags of {arn}"
    answer = attempt(events, "list_tags_for_resource", doing, NOT_FOUND, ResourceARN=arn)
    return tag_map(answer["Tags"]) if answer else {}


def targets_of(events: Any, bus: str, rule: str) -> list[dict[str, Any]]:
    """The targets of a rule; none when it is gone."""
    doing = f"list the targets of the rule {rule}"
    return [*listing(events, "list_targets_by_rule", doing, "Targets", Rule=rule, EventBusName=bus)]


def refuse_failed_entries(answer: dict[str, Any], doing: str) -> None:
    """AwsRefused when PutTargets or RemoveTargets answered with entries that failed."""
    for entry in answer.get("FailedEntries", ()):
        code, message = entry.get("ErrorCode"), entry.get("ErrorMessage")
        raise AwsRefused(f"cannot {doing}: {code}: {message}", code=code)
