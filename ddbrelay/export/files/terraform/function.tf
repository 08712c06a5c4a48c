# The function, its package and permissions, and the event source mapping that feeds it.

# bundle.py puts the package together in build/.
data "archive_file" "function" {
  type        = "zip"
  source_dir  = "${path.module}/build"
  output_path = "${path.module}/function.zip"
}

locals {
  # What whole resources of var.relay.statements stand for.
  places = merge(
    {
      "$${stream}"  = local.stream_arn
      "$${streams}" = "${local.table_arn}/stream/*"
      "$${table}"   = local.table_arn
      "$${failed}"  = aws_sqs_queue.failed.arn
      "$${log}"     = "${aws_cloudwatch_log_group.function.arn}:*"
    },
    { for bus in aws_cloudwatch_event_bus.this : "$${bus}" => bus.arn },
    { for name, bus in aws_cloudwatch_event_bus.other : "$${otherBus:${name}}" => bus.arn },
  )

  # All other resources are ARNs, of which partition, region and account may be left open.
  statements = [
    for statement in var.relay.statements : merge(statement, {
      Resource = [
        for resource in statement.Resource : lookup(local.places, resource, replace(replace(replace(
          resource,
          "$${partition}", data.aws_partition.current.partition),
          "$${region}", data.aws_region.current.region),
          "$${account}", data.aws_caller_identity.current.account_id
        ))
      ]
    })
  ]
}

# Created here, so that the log does not grow without end and the function needs no right to
# create one.
resource "aws_cloudwatch_log_group" "function" {
  name              = "/aws/lambda/${var.relay.function.name}"
  retention_in_days = 30
}

resource "aws_iam_role" "function" {
  name_prefix = "ddbrelay-"

  assume_role_policy = jsonencode({
    Version = "2012-10-17"
    Statement = [{
      Effect    = "Allow"
      Principal = { Service = "lambda.amazonaws.com" }
      Action    = "sts:AssumeRole"
    }]
  })
}

resource "aws_iam_role_policy" "function" {
  name = "ddbrelay"
  role = aws_iam_role.function.id

  policy = jsonencode({
    Version   = "2012-10-17"
    Statement = local.statements
  })
}

resource "aws_lambda_function" "this" {
  function_name    = var.relay.function.name
  description      = var.relay.description
  role             = aws_iam_role.function.arn
  handler          = var.relay.function.handler
  runtime          = var.relay.function.runtime
  architectures    = [var.relay.function.architecture]
  memory_size      = var.relay.function.memory
  timeout          = var.relay.function.timeout
  filename         = data.archive_file.function.output_path
  source_code_hash = data.archive_file.function.output_base64sha256

  environment {
    variables = merge(var.relay.function.variables, {
      DDBRELAY_DEAD_LETTER_QUEUE = coalesce(var.relay.function.deadLetterQueue, aws_sqs_queue.failed.url)
    })
  }

  # The first invocation writes a log and reads the stream.
  depends_on = [
    aws_cloudwatch_log_group.function,
    aws_iam_role_policy.function,
  ]
}

resource "aws_lambda_event_source_mapping" "stream" {
  event_source_arn                   = local.stream_arn
  function_name                      = aws_lambda_function.this.arn
  starting_position                  = "TRIM_HORIZON"
  batch_size                         = var.relay.mapping.batchSize
  maximum_batching_window_in_seconds = var.relay.mapping.window
  parallelization_factor             = var.relay.mapping.parallelization
  bisect_batch_on_function_error     = true
  maximum_retry_attempts             = var.relay.mapping.retries
  maximum_record_age_in_seconds      = var.relay.mapping.maxAge
  function_response_types            = ["ReportBatchItemFailures"]

  # The ranges of records that Lambda gave up on.
  destination_config {
    on_failure {
      destination_arn = aws_sqs_queue.failed.arn
    }
  }

  # An empty block would be refused: without filters there is none.
  dynamic "filter_criteria" {
    for_each = length(var.relay.mapping.filters) > 0 ? [var.relay.mapping.filters] : []

    content {
      dynamic "filter" {
        for_each = filter_criteria.value

        content {
          pattern = filter.value
        }
      }
    }
  }
}

# What could not be relayed: dead letters, unless they have a queue of their own, and the ranges
# of records that Lambda gave up on.
resource "aws_sqs_queue" "failed" {
  name                      = var.relay.queues.failed
  message_retention_seconds = local.fourteen_days
  sqs_managed_sse_enabled   = true
}
