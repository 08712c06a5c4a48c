"""What the relay needs around it in AWS: provision, teardown, fake data, a receiver."""
