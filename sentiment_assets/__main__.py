"""``python -m sentiment_assets``: the same command line as the console script."""

from sentiment_assets.cli import main

if __name__ == "__main__":
    main()
