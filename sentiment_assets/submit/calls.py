"""The calls that bring a command of the product to a cluster: pure functions from a job to argument lists.

Belongs here: which option of ``gcloud`` or ``spark-submit`` gets what. Does not belong here: running them (``run``).
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import pairwise

from sentiment_assets import __version__
from sentiment_assets.failures import SetupError
from sentiment_assets.settings import Settings, on_this_machine, variable
from sentiment_assets.submit.package import Package

COMMANDS = ("train", "stream", "evaluate", "models", "status")
"""What makes sense on a cluster: the other commands start processes of this machine."""

_ASK_KAFKA = ("stream", "status")

_OF_KAFKA = (
    "kafka_bootstrap",
    "topic",
    "kafka_security_protocol",
    "kafka_sasl_mechanism",
    "kafka_sasl_username",
    "kafka_ssl_ca_location",
    "kafka_ssl_keystore_location",
)
"""What it takes to reach the topic. The password is not among them: arguments are public."""

_SECRET = re.compile(
    r"password|secret|token|credential|access.?key|(?:\b|_)dsn|webhook|mongodb_uri|jaas", re.IGNORECASE
)
"""In the names of secrets: of our settings, of other programs' variables, of properties of Spark and Hadoop."""

_NO_SECRET = re.compile(
    r".*(?:provider|impl|file|path|enabled?|mechanism|google_application_credentials)"
    r"|spark\.kubernetes\.(?:driver|executor)\.(?:secrets|secretKeyRef)\..+",
    re.IGNORECASE,
)
"""Names like them whose value is a class, a place, a switch, or where Kubernetes keeps the secret."""

Call = list[str]


@dataclass(frozen=True)
class Job:
    """A command for a cluster.

    Parameters
    ----------
    command
        ``["train", "--rows", "all"]``.
    settings
        Environment variables of the driver.
    properties
        Spark properties.
    """

    command: list[str]
    settings: Mapping[str, str] = field(default_factory=dict)
    properties: Mapping[str, str] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """Shown by the cluster."""
        return f"sentiment-assets-{self.command[0]}"

    @property
    def arguments(self) -> list[str]:
        """Arguments of the driver program."""
        return [*(f"{name}={value}" for name, value in self.settings.items()), *self.command]


def job_for(
    settings: Settings,
    command: list[str],
    *,
    storage: str | None,
    overrides: Mapping[str, str],
    properties: Mapping[str, str],
) -> Job:
    """Complete a command by what the installation here says about topic, broker and memory.

    Parameters
    ----------
    storage
        URI of tables, models and checkpoints.
    overrides
        Environment variables that win over ours.
    properties
        Spark properties that win over ours.

    Raises
    ------
    SetupError
        When the command makes no sense on a cluster, a stream has no broker that a cluster could reach, or something
        that is named like a secret would become an argument.
    """
    for name in (*overrides, *properties):
        if _SECRET.search(name) and not _NO_SECRET.fullmatch(name):
            raise SetupError(
                f"{name} is a secret by its name, and settings of a submitted job are arguments that others can read.",
                "Set it in the environment of the driver there (docs/kafka.md), a property in its spark-defaults.conf.",
            )
    if not command or command[0] not in COMMANDS:
        raise SetupError(
            f"{command[0] if command else 'Nothing'} cannot be submitted.",
            f"Give one of these after `--`: {', '.join(COMMANDS)}.",
        )
    environment = {"SENTIMENT_STORAGE": storage} if storage else {}
    if command[0] in _ASK_KAFKA:
        given = {variable(name): getattr(settings, name) for name in _OF_KAFKA}
        environment |= {name: str(value) for name, value in given.items() if value is not None}
    environment |= overrides
    if command[0] == "stream" and "SENTIMENT_KAFKA_BOOTSTRAP" not in environment:
        raise SetupError(
            "A stream on a cluster needs a Kafka cluster that it can reach; the embedded broker serves this "
            "machine only.",
            "Set SENTIMENT_KAFKA_BOOTSTRAP=host:port.",
        )
    memory = settings.stream_memory if command[0] == "stream" else settings.training_memory
    return Job(command, environment, {"spark.driver.memory": memory} | dict(properties))


def dataproc_calls(
    job: Job, package: Package, *, cluster: str, region: str, bucket: str, project: str | None = None
) -> list[Call]:
    """Upload the package, then submit the job, both with ``gcloud``.

    Parameters
    ----------
    cluster, region, project
        Where the job runs; no project: gcloud's own default.
    bucket
        ``gs://bucket`` or a folder in it, for the uploaded files.

    Raises
    ------
    SetupError
        When the bucket is no ``gs://`` URI, or the command names a file of this machine.
    """
    if file := _local_data(job.command):
        raise SetupError(
            f"The cluster does not have the file {file}.",
            f"Upload it (gcloud storage cp {file} {bucket}/) and give --data its gs:// URI.",
        )
    if not bucket.startswith("gs://"):
        raise SetupError(f"{bucket} is no bucket that Dataproc can read.", "Give --bucket gs://NAME.")
    target = f"{bucket.rstrip('/')}/sentiment-assets/{__version__}"
    files = [package.driver, package.archive, package.wheel, *package.jars]
    where = [f"--project={project}"] if project else []
    return [
        ["gcloud", "storage", "cp", *map(str, files), f"{target}/", *where],
        [
            *("gcloud", "dataproc", "jobs", "submit", "pyspark", f"{target}/{package.driver.name}"),
            f"--cluster={cluster}",
            f"--region={region}",
            *where,
            f"--labels=app={job.name}",
            f"--py-files={target}/{package.archive.name}",
            f"--jars={','.join(f'{target}/{jar.name}' for jar in package.jars)}",
            # `gcloud topic escaping`: another separator, since values may contain commas.
            f"--properties=^#^{'#'.join(f'{name}={value}' for name, value in job.properties.items())}",
            "--",
            *job.arguments,
        ],
    ]


def spark_submit_calls(
    job: Job, package: Package, *, spark_submit: str, master: str, python: str, executor_python: str
) -> list[Call]:
    """Submit the job with ``spark-submit``, with the driver on this machine.

    Parameters
    ----------
    spark_submit
        The program, of the cluster's Spark or of pyspark's.
    master
        ``spark://host:port``, ``yarn``, ``k8s://...``.
    python, executor_python
        Of the driver, and of the executors where they are. Unless told, Spark takes the first ``python3`` of the
        PATH, which need not have our packages.

    Raises
    ------
    SetupError
        When executors of other machines would read or write folders of this one, each on a disk of its own.
    """
    if not on_this_machine(master):
        _require_shared(job, master)
    pythons = {"spark.pyspark.driver.python": python, "spark.pyspark.python": executor_python}
    properties = [
        part
        for name, value in (pythons | dict(job.properties)).items()
        for part in ("--conf", f"{name}={value}")
    ]
    return [
        [
            *(spark_submit, "--master", master, "--deploy-mode", "client", "--name", job.name),
            *("--py-files", str(package.archive)),
            *("--jars", ",".join(map(str, package.jars))),
            *properties,
            str(package.driver),
            *job.arguments,
        ]
    ]


def _require_shared(job: Job, master: str) -> None:
    """A URI is taken for what every node sees; ``file:///shared`` says so of a folder."""
    storage = job.settings.get("SENTIMENT_STORAGE", "")
    if "://" not in storage:
        raise SetupError(
            f"Executors of {master} would keep tables and models on their own disks, in {storage or 'SENTIMENT_HOME'}.",
            "Give --storage a URI that every node reads and writes: s3a://…, gs://…, file:///FOLDER of a shared disk.",
        )
    if file := _local_data(job.command):
        raise SetupError(
            f"The executors of {master} do not have the file {file}.",
            "Give --data a URI that every node reads: s3a://…, gs://…, file:///FILE of a shared disk.",
        )


def _local_data(command: list[str]) -> str | None:
    """The file of this machine that ``--data`` names, if it names one."""
    words = [
        part for word in command for part in (word.split("=", 1) if word.startswith("--data=") else [word])
    ]
    named = [value for option, value in pairwise(words) if option == "--data"]
    return next((value for value in named if value != "sample" and "://" not in value), None)
