# A DynamoDB stream relayed to EventBridge by AWS Lambda: table, buses, queues, and the rule for
# the consumer. The function is in function.tf.

data "aws_caller_identity" "current" {}

data "aws_partition" "current" {}

data "aws_region" "current" {}

locals {
  create_table = var.relay.streamArn == null
  table_arn    = local.create_table ? aws_dynamodb_table.this[0].arn : split("/stream/", var.relay.streamArn)[0]
  stream_arn   = local.create_table ? aws_dynamodb_table.this[0].stream_arn : var.relay.streamArn
  bus_name     = var.relay.bus.create ? aws_cloudwatch_event_bus.this[0].name : var.relay.bus.name

  fourteen_days = 14 * 24 * 60 * 60 # the longest that SQS keeps a message
}

resource "aws_dynamodb_table" "this" {
  count = local.create_table ? 1 : 0

  name             = var.relay.table
  billing_mode     = "PAY_PER_REQUEST"
  hash_key         = var.relay.keys[0].name
  range_key        = length(var.relay.keys) > 1 ? var.relay.keys[1].name : null
  stream_enabled   = true
  stream_view_type = "NEW_AND_OLD_IMAGES"

  dynamic "attribute" {
    for_each = var.relay.keys

    content {
      name = attribute.value.name
      type = attribute.value.type
    }
  }

  # Only an outbox whose relayed items expire has such an attribute.
  dynamic "ttl" {
    for_each = var.relay.expiry == null ? [] : [var.relay.expiry]

    content {
      attribute_name = ttl.value
      enabled        = true
    }
  }

  point_in_time_recovery {
    enabled = true
  }

  # Keeps the data: `terraform destroy` refuses until this is removed, or until the table is
  # taken out of the state (terraform state rm 'aws_dynamodb_table.this[0]').
  lifecycle {
    prevent_destroy = true
  }
}

resource "aws_cloudwatch_event_bus" "this" {
  count = var.relay.bus.create ? 1 : 0

  name = var.relay.bus.name
}

# Buses that single rules of ddbrelay.toml send to.
resource "aws_cloudwatch_event_bus" "other" {
  for_each = var.relay.otherBuses

  name = each.value
}

# The consumer reads this queue. What it fails on five times goes to consumer_dead.
resource "aws_sqs_queue" "consumer" {
  name                      = var.relay.queues.consumer
  message_retention_seconds = local.fourteen_days
  sqs_managed_sse_enabled   = true

  redrive_policy = jsonencode({
    deadLetterTargetArn = aws_sqs_queue.consumer_dead.arn
    maxReceiveCount     = 5
  })
}

resource "aws_sqs_queue" "consumer_dead" {
  name                      = var.relay.queues.dead
  message_retention_seconds = local.fourteen_days
  sqs_managed_sse_enabled   = true
}

resource "aws_cloudwatch_event_rule" "consumer" {
  name           = var.relay.rule.name
  description    = "Events of the table ${var.relay.table}, for its consumer"
  event_bus_name = local.bus_name
  event_pattern  = jsonencode(var.relay.rule.pattern)
}

resource "aws_cloudwatch_event_target" "consumer" {
  rule           = aws_cloudwatch_event_rule.consumer.name
  event_bus_name = local.bus_name
  target_id      = "consumer"
  arn            = aws_sqs_queue.consumer.arn

  # Events that EventBridge could not deliver to the queue.
  dead_letter_config {
    arn = aws_sqs_queue.consumer_dead.arn
  }
}

resource "aws_sqs_queue_policy" "consumer" {
  queue_url = aws_sqs_queue.consumer.id

  policy = jsonencode({
    Version = "2012-10-17"
    Statement = [{
      Sid       = "FromTheRule"
      Effect    = "Allow"
      Principal = { Service = "events.amazonaws.com" }
      Action    = "sqs:SendMessage"
      Resource  = aws_sqs_queue.consumer.arn
      Condition = { ArnEquals = { "aws:SourceArn" = aws_cloudwatch_event_rule.consumer.arn } }
    }]
  })
}

resource "aws_sqs_queue_policy" "consumer_dead" {
  queue_url = aws_sqs_queue.consumer_dead.id

  policy = jsonencode({
    Version = "2012-10-17"
    Statement = [{
      Sid       = "FromTheRule"
      Effect    = "Allow"
      Principal = { Service = "events.amazonaws.com" }
      Action    = "sqs:SendMessage"
      Resource  = aws_sqs_queue.consumer_dead.arn
      Condition = { ArnEquals = { "aws:SourceArn" = aws_cloudwatch_event_rule.consumer.arn } }
    }]
  })
}
