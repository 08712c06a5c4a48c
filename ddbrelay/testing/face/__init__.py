"""The simulator as AWS is met: an account behind HTTP, and a control face beside it."""
