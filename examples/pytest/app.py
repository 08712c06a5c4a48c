"""The code under test: it writes its users with plain boto3 and knows nothing of events."""

from __future__ import annotations

from typing import Any
from uuid import uuid4

import boto3


def register(email: str, plan: str = "free") -> str:
    """A new user; its id."""
    user_id = uuid4().hex
    _users().put_item(Item={"id": user_id, "email": email, "plan": plan, "logins": 0})
    return user_id


def change_email(user_id: str, email: str) -> None:
    _users().update_item(
        Key={"id": user_id},
        UpdateExpression="SET email = :email",
        ConditionExpression="attribute_exists(id)",
        ExpressionAttributeValues={":email": email},
    )


def log_in(user_id: str) -> None:
    _users().update_item(
        Key={"id": user_id},
        UpdateExpression="ADD logins :one",
        ConditionExpression="attribute_exists(id)",
        ExpressionAttributeValues={":one": 1},
    )


def close(user_id: str) -> None:
    _users().delete_item(Key={"id": user_id})


def _users() -> Any:
    # A client that is made when the module is imported would be made before the test's AWS is up.
    return boto3.resource("dynamodb").Table("users")
