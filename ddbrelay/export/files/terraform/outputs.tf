output "stream_arn" {
  description = "Stream that is relayed"
  value       = local.stream_arn
}

output "consumer_queue_url" {
  description = "Queue of the consumer"
  value       = aws_sqs_queue.consumer.url
}

output "failed_queue_url" {
  description = "Queue of what could not be relayed"
  value       = aws_sqs_queue.failed.url
}

output "function_name" {
  description = "Function that relays"
  value       = aws_lambda_function.this.function_name
}
