"""Brings table, stream, bus, queue, rule and archive to what is wanted, and nothing else.

The order is that of need: the rule's target is the queue, whose policy names the rule; the queue
is made with its policy in one call, so that no run ever sees it without.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from ddbrelay.errors import AwsRefused
from ddbrelay.infra.archive import Archive
from ddbrelay.infra.events import Bus, Rule
from ddbrelay.infra.plan import (
    Differs,
    Found,
    OnPlan,
    OnStep,
    Place,
    Provisioned,
    State,
    Step,
    Wanted,
)
from ddbrelay.infra.queue import Queue
from ddbrelay.infra.table import Table

if TYPE_CHECKING:
    from ddbrelay.aws.session import Aws

__all__ = ["Differs", "Provisioned", "Step", "Wanted", "provision"]


class Resource(Protocol):
    """One thing: `kind` and `name` say which. Every method may raise AwsRefused."""

    kind: str
    name: str

    def planned(self) -> str:
        """What a new one gets, in a few words."""

    def inspect(self) -> Found | None:
        """The thing as it is, None where there is none; writes nothing."""

    def create(self, place: Place | None) -> bool:
        """Create it, tagged; False when another run was quicker. `place` is None for the table."""

    def change(self, found: Found, timeout: float) -> str:
        """Make away with the differences, and do what is unfinished; what was done, in words."""

    def ready(self, timeout: float) -> Found:
        """Wait until it can be used."""


def provision(
    aws: Aws,
    wanted: Wanted,
    *,
    apply_changes: bool = False,
    dry_run: bool = False,
    on_plan: OnPlan | None = None,
    on_step: OnStep | None = None,
    timeout: float = 120.0,
) -> Provisioned:
    """Create what is missing and, with `apply_changes`, correct what differs; safe to repeat.

    `on_plan` hears of the whole plan first, and `on_step` of each thing as it is done (in a dry
    run, and when the run is refused: of the plan); `timeout` is in seconds, for each thing to
    become active. Raises Differs, before anything is written, for differences that it may not or
    cannot change; AwsRefused for anything that AWS refuses.
    """
    table, queue = Table(aws, wanted), Queue(aws, wanted)
    buses = [Bus(aws, wanted), *(Bus(aws, wanted, name) for name in wanted.other_buses)]
    resources: list[Resource] = [table, *buses, queue, Rule(aws, wanted)]
    if wanted.archive_days is not None:
        resources.append(Archive(aws, wanted))
    found = [resource.inspect() for resource in resources]
    plan = [_planned(*pair, apply_changes) for pair in zip(resources, found, strict=True)]
    refusal = _refusal([*zip(resources, found, strict=True)], plan, apply_changes)
    if on_plan:
        on_plan(plan)
    if dry_run or refusal:
        for step in plan:
            if on_step:
                on_step(step)
    if refusal:
        raise refusal
    steps = plan
    if not dry_run:
        steps = []
        place: Place | None = None
        for resource, seen in zip(resources, found, strict=True):
            steps.append(step := _bring(resource, seen, place, apply_changes, timeout))
            # The bus says best where rules and queues are: an emulator may call the region of its
            # tables as it likes.
            if step.arn and (place is None or step.kind == "bus"):
                place = Place.of(step.arn)
            if on_step:
                on_step(step)
    # Of several buses the first is the one of the run.
    arns = {step.kind: step.arn or "" for step in reversed(steps)}
    return Provisioned(
        steps=tuple(steps),
        table_arn=arns["table"],
        stream_arn=table.stream_arn,
        bus_arn=arns["bus"],
        rule_arn=arns["rule"],
        queue_url=queue.url,
        queue_arn=arns["queue"],
        archive_arn=arns.get("archive", ""),
    )


def _planned(resource: Resource, found: Found | None, apply_changes: bool) -> Step:
    if found is None:
        return Step(resource.kind, resource.name, "would-create", None, resource.planned())
    differences = found.fixed + found.differences
    if not differences:
        state: State = "would-update" if found.unfinished else "exists"
        detail = "; ".join(found.unfinished) or found.detail
        return Step(resource.kind, resource.name, state, found.arn, detail, found.related)
    state = "would-update" if apply_changes and not found.fixed else "differs"
    detail = "; ".join([*differences, *([found.consequence] if found.consequence else [])])
    return Step(resource.kind, resource.name, state, found.arn, detail, found.related)


def _refusal(
    pairs: list[tuple[Resource, Found | None]],
    plan: list[Step],
    apply_changes: bool,
    *,
    written: bool = False,
) -> Differs | None:
    bad = [
        (resource, found)
        for resource, found in pairs
        if found and (found.fixed or (found.differences and not apply_changes))
    ]
    if not bad:
        return None
    message = "; ".join(
        f"{resource.kind} {resource.name} differs: {', '.join(found.fixed + found.differences)}"
        for resource, found in bad
    )
    hints = [found.advice for _, found in bad if found.fixed and found.advice]
    if not hints:
        consequences = [found.consequence for _, found in bad if found.consequence]
        change = "the same command with --apply-changes makes these changes"
        hints = [": ".join([change, *consequences])]
    return Differs(message if written else f"{message}; nothing was written", hints[0], tuple(plan))


def _bring(
    resource: Resource,
    found: Found | None,
    place: Place | None,
    apply_changes: bool,
    timeout: float,
) -> Step:
    state: State = "exists"
    done = ""
    if found is None:
        if resource.create(place):
            state = "created"
        else:
            found = resource.inspect()
            if found is None:
                raise AwsRefused(
                    f"the {resource.kind} {resource.name} came and went while this ran",
                    "another run seems to delete what this one makes; run again",
                )
            step = _planned(resource, found, apply_changes)
            if refusal := _refusal([(resource, found)], [step], apply_changes, written=True):
                raise refusal
    if found is not None and (found.differences or found.unfinished):
        done = resource.change(found, timeout)
        state = "updated"
    ready = resource.ready(timeout)
    detail = done or ready.detail
    return Step(resource.kind, resource.name, state, ready.arn, detail, ready.related)
