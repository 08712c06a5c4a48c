"""`python -m ddbrelay.testing`: DynamoDB Streams and EventBridge as they can be on a bad day."""

from __future__ import annotations

import sys

import click

from ddbrelay.errors import DdbrelayError


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--port", default=0, type=click.IntRange(0, 65535), help="0, the default: a free one")
@click.option("--seed", default=0, help="what chance decides is the same for the same seed")
@click.option("--speed", default=1.0, help="seconds of its clock in a real one")
def main(port: int, seed: int, speed: float) -> None:
    """Simulate DynamoDB Streams, the writing half of DynamoDB, and EventBridge on 127.0.0.1.

    Prints one line of JSON with its url when it is ready, and runs until SIGINT or SIGTERM. What
    happens in it is told to it at URL/_simulator/ACTION.

    \b
    Examples:
      python -m ddbrelay.testing --port 4600
      curl -d '{"table": "users", "shards": 3}' http://127.0.0.1:4600/_simulator/create-table
    """
    from ddbrelay.cli.console import err, out
    from ddbrelay.cli.signals import run_until_signal
    from ddbrelay.testing.face.account import SimulatedAccount
    from ddbrelay.testing.server import run

    account = SimulatedAccount(seed=seed, speed=speed)
    try:
        run_until_signal(lambda stop: run(account, port, stop, out))
    except DdbrelayError as error:
        err(f"error: {error.message}")
        if error.hint:
            err(f"  hint: {error.hint}")
        sys.exit(error.exit_code)


if __name__ == "__main__":
    main(prog_name="python -m ddbrelay.testing")
