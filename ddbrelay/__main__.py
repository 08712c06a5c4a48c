"""The `ddbrelay` command; `python -m ddbrelay` is the same."""

import signal


def run() -> None:
    """Run the command line, and exit."""
    # While it is imported, an interrupt ends it silently: nothing is there to say a word.
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, signal.SIG_DFL)

    from ddbrelay.cli.main import main

    main()


if __name__ == "__main__":
    run()
