"""``submit dataproc`` and ``submit spark``: a command of the product on a Spark cluster."""

import os
import re
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated

import typer

from sentiment_assets.settings import Settings

if TYPE_CHECKING:
    from sentiment_assets.submit.calls import Call, Job
    from sentiment_assets.submit.package import Package

app = typer.Typer(no_args_is_help=True, help="Run a command on a Spark cluster that exists.")

Command = Annotated[
    list[str],
    typer.Argument(help="What to run there, after `--`: train, stream, evaluate, models or status."),
]
Storage = Annotated[
    str | None, typer.Option(help="Where tables, models and checkpoints live; default: SENTIMENT_STORAGE.")
]
Set = Annotated[
    list[str] | None, typer.Option("--set", help="NAME=VALUE: a setting of the product there; repeatable.")
]
Property = Annotated[
    list[str] | None, typer.Option("--property", help="NAME=VALUE: a Spark property; repeatable.")
]
_NAMES = {"--set": "[A-Z][A-Z0-9_]*", "--property": r"[A-Za-z][\w.-]*"}
"""Of settings as the driver program tells them from a command, and of Spark properties."""
DryRun = Annotated[bool, typer.Option("--dry-run", help="Print the exact calls; build and run nothing.")]


@app.command("dataproc")
def submit_dataproc(
    command: Command,
    cluster: Annotated[str, typer.Option(help="Name of the Dataproc cluster.")],
    region: Annotated[str, typer.Option(help="Its region.")],
    bucket: Annotated[str, typer.Option(help="gs://NAME or a folder in it, for the uploaded files.")],
    project: Annotated[str | None, typer.Option(help="Project; default: gcloud's own.")] = None,
    storage: Storage = None,
    setting: Set = None,
    spark_property: Property = None,
    dry_run: DryRun = False,
) -> None:
    """Build the wheel, upload it with the jars, and submit the command to Dataproc with gcloud."""
    from sentiment_assets.submit.calls import dataproc_calls

    settings = Settings.from_env()
    where = storage or settings.storage or f"{bucket.rstrip('/')}/sentiment"
    _submit(
        settings,
        (command, where, setting, spark_property),
        lambda job, package: dataproc_calls(
            job, package, cluster=cluster, region=region, bucket=bucket, project=project
        ),
        dry_run=dry_run,
    )


@app.command("spark")
def submit_spark(
    command: Command,
    master: Annotated[str, typer.Option(help="spark://host:port, yarn, k8s://…")],
    storage: Storage = None,
    setting: Set = None,
    spark_property: Property = None,
    dry_run: DryRun = False,
) -> None:
    """Build the wheel and submit the command with spark-submit; the driver runs on this machine."""
    from sentiment_assets.submit.calls import spark_submit_calls
    from sentiment_assets.submit.run import find_spark_submit

    settings = Settings.from_env()
    program = find_spark_submit()
    _submit(
        settings,
        (command, storage or settings.storage, setting, spark_property),
        lambda job, package: spark_submit_calls(
            job,
            package,
            spark_submit=program,
            master=master,
            python=sys.executable,
            executor_python=os.environ.get("PYSPARK_PYTHON", sys.executable),
        ),
        dry_run=dry_run,
        relayed=True,
    )


def _submit(
    settings: Settings,
    asked: tuple[list[str], str | None, list[str] | None, list[str] | None],
    calls: "Callable[[Job, Package], list[Call]]",
    *,
    dry_run: bool,
    relayed: bool = False,
) -> None:
    from sentiment_assets.submit.calls import job_for
    from sentiment_assets.submit.package import build_package, package_of
    from sentiment_assets.submit.run import as_text, execute

    command, storage, overrides, properties = asked
    job = job_for(
        settings,
        command,
        storage=storage,
        overrides=_assignments(overrides, "--set"),
        properties=_assignments(properties, "--property"),
    )
    if dry_run:
        sys.stdout.write(as_text(calls(job, package_of(settings))) + "\n")
    else:
        execute(calls(job, build_package(settings)), relayed=relayed)


def _assignments(stated: list[str] | None, option: str) -> dict[str, str]:
    """``NAME=VALUE`` texts as a dictionary; anything else is bad usage, and no value is in what is said of it."""
    for text in stated or []:
        if not re.fullmatch(f"{_NAMES[option]}=.*", text, re.DOTALL):
            name = text.partition("=")[0]
            raise typer.BadParameter(
                f"{name!r} is no NAME=VALUE with a NAME like {_NAMES[option]}", param_hint=option
            )
    return dict(text.split("=", 1) for text in stated or [])
