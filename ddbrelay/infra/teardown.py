"""Removes what provision made, known by its tags; everything else is left and said so.

What is removed first is what the rest does not need for being recognised, so a run that fails
half-way can simply be repeated.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from ddbrelay.infra.archive import archive_mark
from ddbrelay.infra.calls import NOT_FOUND, attempt, listing, wait_for
from ddbrelay.infra.events import refuse_failed_entries, tags_of, targets_of
from ddbrelay.infra.names import archive_name, queue_name, rule_name
from ddbrelay.infra.plan import (
    DEFAULT_BUS,
    FOR_TABLE,
    MANAGED_BY,
    OnPlan,
    OnStep,
    State,
    Step,
    Wanted,
    tag_map,
)

if TYPE_CHECKING:
    from ddbrelay.aws.session import Aws

Confirm = Callable[[tuple[Step, ...]], None]
"""Hears of everything that would be deleted or left, before anything is; it stops by raising."""


@dataclass(frozen=True)
class _Removal:
    step: Step
    remove: Callable[[], None]


def teardown(
    aws: Aws,
    wanted: Wanted,
    *,
    dry_run: bool = False,
    confirm: Confirm | None = None,
    on_plan: OnPlan | None = None,
    on_step: OnStep | None = None,
    timeout: float = 120.0,
) -> tuple[Step, ...]:
    """Delete what is tagged as made for the wanted table; steps are `deleted` or `left`.

    Every bus of the account and region is looked at, so that a rule or a bus made under another
    name is found too. Nothing is asked when there is nothing to delete. `timeout` is in seconds,
    for the table to be gone. Raises AwsRefused for anything that AWS refuses.
    """
    removals = _Search(aws, wanted, timeout).everything()
    plan = tuple(removal.step for removal in removals)
    doomed = any(step.state == "would-delete" for step in plan)
    if on_plan:
        on_plan(plan)
    if doomed and confirm and not dry_run:
        confirm(plan)
    steps = []
    for removal in removals:
        step = removal.step
        if step.state == "would-delete" and not dry_run:
            removal.remove()
            step = replace(step, state="deleted")
        steps.append(step)
        if on_step:
            on_step(step)
    return tuple(steps)


class _Search:
    def __init__(self, aws: Aws, wanted: Wanted, timeout: float) -> None:
        self._wanted = wanted
        self._timeout = timeout
        self._dynamodb = aws.client("dynamodb")
        self._events = aws.client("events")
        self._sqs = aws.client("sqs")

    def everything(self) -> list[_Removal]:
        """In the order of removal."""
        archives = [*self._archive()]
        archived = {removal.step.name for removal in archives if _doomed(removal)}
        rules: list[_Removal] = []
        buses: list[_Removal] = []
        for bus in listing(self._events, "list_event_buses", "list the buses", "EventBuses"):
            rule = [*self._rule(bus["Name"])]
            rules += rule
            buses += self._bus(bus, rule, archived)
        return [*archives, *rules, *self._queue(), *buses, *self._table()]

    def _archive(self) -> Iterator[_Removal]:
        name = archive_name(self._wanted.table)
        found = attempt(
            self._events,
            "describe_archive",
            f"describe the archive {name}",
            NOT_FOUND,
            ArchiveName=name,
        )
        if found is None:
            return
        ours = found.get("Description") == archive_mark(self._wanted.table)
        step = Step(
            "archive",
            name,
            "would-delete" if ours else "left",
            str(found["ArchiveArn"]),
            "with the events in it" if ours else "not made by ddbrelay",
        )
        yield _Removal(step, lambda: self._delete_archive(name))

    def _delete_archive(self, name: str) -> None:
        doing = f"delete the archive {name}"
        attempt(self._events, "delete_archive", doing, NOT_FOUND, ArchiveName=name)

    def _rule(self, bus: str) -> Iterator[_Removal]:
        name = rule_name(self._wanted.table)
        rule = attempt(
            self._events,
            "describe_rule",
            f"describe the rule {name}",
            NOT_FOUND,
            Name=name,
            EventBusName=bus,
        )
        if rule is None:
            return
        arn = str(rule["Arn"])
        state, detail = self._verdict(tags_of(self._events, arn))
        if state == "would-delete":
            targets = [t["Arn"].rpartition(":")[2] for t in targets_of(self._events, bus, name)]
            detail = f"targets: {', '.join(targets)}" if targets else "no targets"
        step = Step("rule", f"{bus}/{name}", state, arn, detail)
        yield _Removal(step, lambda: self._delete_rule(bus, name))

    def _delete_rule(self, bus: str, name: str) -> None:
        targets = [target["Id"] for target in targets_of(self._events, bus, name)]
        if targets:
            doing = f"remove the targets of the rule {name}"
            answer = attempt(
                self._events,
                "remove_targets",
                doing,
                NOT_FOUND,
                Rule=name,
                EventBusName=bus,
                Ids=targets,
            )
            refuse_failed_entries(answer or {}, f"{doing} (events:RemoveTargets)")
        attempt(
            self._events,
            "delete_rule",
            f"delete the rule {name}",
            NOT_FOUND,
            Name=name,
            EventBusName=bus,
        )

    def _bus(
        self, bus: dict[str, Any], rules: list[_Removal], archives: set[str]
    ) -> Iterator[_Removal]:
        name, arn = str(bus["Name"]), str(bus["Arn"])
        concerned = bool(rules) or name in {self._wanted.bus, *self._wanted.other_buses}
        if name == DEFAULT_BUS:
            if concerned:
                step = Step("bus", name, "left", arn, "every account has it")
                yield _Removal(step, lambda: None)
            return
        state, detail = self._verdict(tags_of(self._events, arn))
        if state == "would-delete":
            gone = {removal.step.arn for removal in rules if _doomed(removal)}
            others = self._used_by(name, arn, gone, archives)
            if others:
                state, detail = "left", f"still in use: {', '.join(others)}"
        elif not concerned:
            return
        yield _Removal(Step("bus", name, state, arn, detail), lambda: self._delete_bus(name))

    def _used_by(self, name: str, arn: str, gone: set[str | None], archives: set[str]) -> list[str]:
        rules = listing(
            self._events, "list_rules", f"list the rules of {name}", "Rules", EventBusName=name
        )
        used = [
            f"rule {rule['Name']}"
            for rule in rules
            if rule["Arn"] not in gone and not _of_archive(rule)
        ]
        kept = listing(
            self._events, "list_archives", "list the archives", "Archives", EventSourceArn=arn
        )
        return used + [
            f"archive {a['ArchiveName']}" for a in kept if a["ArchiveName"] not in archives
        ]

    def _delete_bus(self, name: str) -> None:
        wait_for(
            lambda: None if self._archive_rules(name) else True,
            f"the archive's own rule on {name} to be gone",
            self._timeout,
        )
        attempt(self._events, "delete_event_bus", f"delete the bus {name}", NOT_FOUND, Name=name)

    def _archive_rules(self, bus: str) -> list[str]:
        rules = listing(
            self._events, "list_rules", f"list the rules of {bus}", "Rules", EventBusName=bus
        )
        return [rule["Name"] for rule in rules if _of_archive(rule)]

    def _queue(self) -> Iterator[_Removal]:
        name = queue_name(self._wanted.table)
        found = attempt(
            self._sqs, "get_queue_url", f"find the queue {name}", NOT_FOUND, QueueName=name
        )
        if found is None:
            return
        url = found["QueueUrl"]
        described = attempt(
            self._sqs,
            "get_queue_attributes",
            f"describe the queue {name}",
            NOT_FOUND,
            QueueUrl=url,
            AttributeNames=["QueueArn", "ApproximateNumberOfMessages"],
        )
        tagged = attempt(
            self._sqs, "list_queue_tags", f"read the tags of {name}", NOT_FOUND, QueueUrl=url
        )
        if described is None or tagged is None:
            return
        state, detail = self._verdict(tagged.get("Tags", {}))
        waiting = described["Attributes"].get("ApproximateNumberOfMessages", "0")
        if state == "would-delete" and waiting != "0":
            detail = f"with about {waiting} messages in it"
        step = Step("queue", name, state, described["Attributes"]["QueueArn"], detail)
        yield _Removal(step, lambda: self._delete_queue(name, url))

    def _delete_queue(self, name: str, url: str) -> None:
        attempt(self._sqs, "delete_queue", f"delete the queue {name}", NOT_FOUND, QueueUrl=url)

    def _table(self) -> Iterator[_Removal]:
        name = self._wanted.table
        described = self._describe_table()
        if described is None:
            return
        arn = str(described["TableArn"])
        tags = tag_map(
            [
                *listing(
                    self._dynamodb,
                    "list_tags_of_resource",
                    f"read the tags of the table {name}",
                    "Tags",
                    ResourceArn=arn,
                )
            ]
        )
        state, detail = self._verdict(tags)
        if state == "would-delete":
            detail = "with all its items and its stream"
        yield _Removal(Step("table", name, state, arn, detail), self._delete_table)

    def _describe_table(self) -> dict[str, Any] | None:
        name = self._wanted.table
        answer = attempt(
            self._dynamodb,
            "describe_table",
            f"describe the table {name}",
            NOT_FOUND,
            TableName=name,
        )
        return answer["Table"] if answer else None

    def _delete_table(self) -> None:
        name = self._wanted.table
        described = self._describe_table()
        if described and described.get("TableStatus") != "DELETING":
            attempt(
                self._dynamodb,
                "delete_table",
                f"delete the table {name}",
                NOT_FOUND,
                TableName=name,
            )
        wait_for(
            lambda: True if self._describe_table() is None else None,
            f"the table {name} to be gone",
            self._timeout,
        )

    def _verdict(self, tags: dict[str, str]) -> tuple[State, str]:
        if tags.get(MANAGED_BY) != self._wanted.tags[MANAGED_BY]:
            return "left", "not made by ddbrelay"
        if tags.get(FOR_TABLE) != self._wanted.table:
            return "left", f"made for table {tags.get(FOR_TABLE)}"
        return "would-delete", ""


def _doomed(removal: _Removal) -> bool:
    return removal.step.state == "would-delete"


def _of_archive(rule: dict[str, Any]) -> bool:
    """Whether it is the managed rule that each archive has on its bus; it goes with the archive."""
    return bool(rule.get("ManagedBy")) and str(rule["Name"]).startswith("Events-Archive-")
