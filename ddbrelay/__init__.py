"""Relay DynamoDB stream changes to EventBridge as business events."""

__version__ = "0.1.0"
