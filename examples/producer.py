"""A producer: it writes its own data with plain boto3 and knows nothing of the bus.

    python examples/producer.py TABLE

Endpoint, region and credentials come from the standard AWS variables (AWS_ENDPOINT_URL,
AWS_DEFAULT_REGION, AWS_ACCESS_KEY_ID, …) or the profile.
"""

from __future__ import annotations

import argparse
from datetime import UTC, datetime
from uuid import uuid4

import boto3


def main() -> None:
    parser = argparse.ArgumentParser(description="Create, change and delete a user.")
    parser.add_argument("table", help="table with the partition key `id`, a string")
    table = boto3.resource("dynamodb").Table(parser.parse_args().table)

    user = {
        "id": str(uuid4()),
        "username": "kaylee",
        "email": "kaylee@example.com",
        "registeredAt": datetime.now(UTC).isoformat(timespec="seconds"),
        "version": 1,
    }
    key = {"id": user["id"]}

    table.put_item(Item=user, ConditionExpression="attribute_not_exists(id)")
    print(f"created {user['id']}")

    table.update_item(
        Key=key,
        UpdateExpression="SET email = :email ADD version :one",
        ConditionExpression="attribute_exists(id)",
        ExpressionAttributeValues={":email": "kaylee@example.org", ":one": 1},
    )
    print(f"updated {user['id']}")

    table.delete_item(Key=key)
    print(f"deleted {user['id']}")


if __name__ == "__main__":
    main()
