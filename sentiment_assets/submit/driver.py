"""The driver program that ``spark-submit`` starts: settings as ``env`` takes them, then a command of the product.

    spark-submit --py-files sentiment_assets-0.1.0.zip driver.py SENTIMENT_STORAGE=gs://bucket/path train --rows all

A managed cluster gives no other way to set environment variables of a driver in client mode.
"""

import os
import re
import runpy
import sys

import sentiment_assets

_SETTING = re.compile(r"([A-Z][A-Z0-9_]*)=(.*)", re.DOTALL)


def settings_before(arguments: list[str]) -> tuple[dict[str, str], list[str]]:
    """Split arguments into the leading ``NAME=VALUE`` settings and the command that follows them."""
    settings: dict[str, str] = {}
    for place, argument in enumerate(arguments):
        found = _SETTING.fullmatch(argument)
        if found is None:
            return settings, arguments[place:]
        settings[found[1]] = found[2]
    return settings, []


def main() -> None:
    """Set the environment and run the command line of the package that was shipped along."""
    settings, command = settings_before(sys.argv[1:])
    os.environ.update(settings)
    sys.argv = ["sentiment-assets", *command]
    # In the job's log: which of the packages that a node may have is the one that runs.
    sys.stderr.write(f"sentiment-assets {sentiment_assets.__version__} from {sentiment_assets.__file__}\n")
    runpy.run_module("sentiment_assets", run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main()
