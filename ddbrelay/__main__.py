"""`python -m ddbrelay` is the same command as `ddbrelay`."""

from ddbrelay.cli.main import main

if __name__ == "__main__":
    main()
