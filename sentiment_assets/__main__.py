"""``python -m sentiment_assets`` and the console script: the command line, where Ctrl-C may come at any moment."""

import sys


def main() -> None:
    """Import the command line and run it."""
    try:
        from sentiment_assets.cli import main as run

        run()
    except KeyboardInterrupt:
        sys.exit(130)


if __name__ == "__main__":
    main()
