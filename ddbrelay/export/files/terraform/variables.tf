# Everything that is particular to this relay: names, rule pattern, settings and permissions.
# relay.auto.tfvars.json holds it, and Terraform loads that file by itself. `ddbrelay export
# terraform` writes it anew from ddbrelay.toml; the .tf files are the same for every relay.
variable "relay" {
  description = "The relay, as ddbrelay describes it."
  nullable    = false

  type = object({
    description = string

    # The table: with a streamArn it exists already, otherwise it is created with these keys.
    table     = string
    streamArn = string
    keys      = list(object({ name = string, type = string }))
    expiry    = string # the Time to Live attribute of a new table, or null

    # Where events go. otherBuses are created; buses that exist are named in `statements` only.
    bus        = object({ name = string, create = bool })
    otherBuses = set(string)
    rule       = object({ name = string, pattern = any })
    queues     = object({ consumer = string, dead = string, failed = string })

    function = object({
      name            = string
      handler         = string
      runtime         = string
      architecture    = string
      memory          = number # MB
      timeout         = number # seconds
      variables       = map(string)
      deadLetterQueue = string # name or URL of a queue that exists, or null for queues.failed
    })

    mapping = object({
      batchSize       = number
      window          = number # seconds
      parallelization = number
      retries         = number       # -1: until the records expire
      maxAge          = number       # seconds; -1: as long as the stream keeps a record
      filters         = list(string) # event patterns as JSON; none: every record
    })

    # What the function may do. Names in ${…} stand for what only Terraform knows: see function.tf.
    statements = any

    alarms = object({
      age     = number # seconds
      ageText = string # the same in words
      topic   = string # an SNS topic that alarms notify, or null
    })
  })
}
