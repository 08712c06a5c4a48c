"""The alarms of a Terraform project."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ddbrelay.export.hcl import Block, Expression
from ddbrelay.export.model import Project
from ddbrelay.export.texts import duration


def alarms(project: Project) -> list[Block]:
    """On the age of records, on errors, and on the queues of what failed."""
    table, age = project.table, project.choices.alarm_age
    function = {"FunctionName": Expression("aws_lambda_function.this.function_name")}
    return [
        _alarm(
            project,
            "iterator_age",
            f"Records of {table} wait for more than {duration(age)}",
            ("AWS/Lambda", "IteratorAge", function),
            threshold=age * 1000,
            periods=3,
        ),
        _alarm(
            project,
            "errors",
            f"The function that relays {table} fails",
            ("AWS/Lambda", "Errors", function),
            statistic="Sum",
        ),
        _depth(project, "failed", f"Changes of {table} could not be relayed"),
        _depth(project, "consumer_dead", f"The consumer of {table} failed on an event"),
    ]


def _depth(project: Project, queue: str, description: str) -> Block:
    dimensions = {"QueueName": Expression(f"aws_sqs_queue.{queue}.name")}
    metric = ("AWS/SQS", "ApproximateNumberOfMessagesVisible", dimensions)
    return _alarm(project, queue, description, metric)


def _alarm(
    project: Project,
    name: str,
    description: str,
    metric: tuple[str, str, Mapping[str, Any]],
    *,
    statistic: str = "Maximum",
    threshold: int = 0,
    periods: int = 1,
) -> Block:
    namespace, metric_name, dimensions = metric
    topic = project.choices.alarm_topic
    return Block(
        "resource",
        ("aws_cloudwatch_metric_alarm", name),
        {
            "alarm_name": f"{project.function}-{name.replace('_', '-')}",
            "alarm_description": description,
            "namespace": namespace,
            "metric_name": metric_name,
            "dimensions": dimensions,
            "statistic": statistic,
            "period": 60,
            "evaluation_periods": periods,
            "threshold": threshold,
            "comparison_operator": "GreaterThanThreshold",
            "treat_missing_data": "notBreaching",
            **({"alarm_actions": [topic], "ok_actions": [topic]} if topic else {}),
        },
    )
