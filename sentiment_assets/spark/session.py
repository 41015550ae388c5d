"""How a Spark session is configured: one place for every setting, each with its reason.

Belongs here: the configuration and the start of the JVM with its output kept off the console.
Does not belong here: what is done with the session.
"""

import contextlib
import os
import re
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import pyspark

from sentiment_assets.failures import SetupError
from sentiment_assets.runtime.class_archive import OPTIONS_OF_JAVA, class_path, sharing_options
from sentiment_assets.runtime.jars import jar_paths
from sentiment_assets.runtime.java import find_java
from sentiment_assets.schemas import PREDICTIONS
from sentiment_assets.settings import Settings, is_local, memory_bytes, on_this_machine

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

Role = Literal["training", "stream"]

RELEASE_LINE = "4.2"
"""Of Spark; pyproject.toml and runtime/ivy.xml pin the release."""

KERNEL_CACHE = "spark.sentiment.kernelCache"
"""Property that tells workers where numba keeps compiled functions."""

CHECKSUM_FILES = "spark.databricks.delta.writeChecksumFile.enabled"
"""Property: whether Delta writes a checksum of the table's state beside each commit."""

_YOUNG_BYTES_A_CORE = 400 * 2**20
_YOUNG_BYTES = 2 * 2**30
"""More is not lent to the old generation, which the features of training need."""

# Spark's `lower` follows the language of whoever starts the JVM: in a Turkish one "I" becomes a letter of its own.
_LANGUAGE = ("-Duser.language=en", "-Duser.country=US")
_OTHER_LOWER_CASE = ("tr", "az", "lt")
"""Languages whose lower case is another than Unicode's own (its SpecialCasing.txt)."""

# The JVM optimises, on the cores that should score, what runs eight times less often than what is worth it: Spark's
# parser, planner and compiler. Measured on two cores: start and drain of 1,000,000 messages 31 instead of 36 s.
_LATE_OPTIMISATION = (
    "-XX:Tier4InvocationThreshold=40000",
    "-XX:Tier4MinInvocationThreshold=5000",
    "-XX:Tier4CompileThreshold=120000",
    "-XX:Tier4BackEdgeThreshold=320000",
)

_COLLECTOR = re.compile(r"-XX:\+Use\w+GC\b")

_LOG4J = """\
rootLogger.level = warn
rootLogger.appenderRef.file.ref = file
appender.file.type = RollingFile
appender.file.name = file
appender.file.fileName = {log}
appender.file.filePattern = {log}.%i
appender.file.layout.type = PatternLayout
appender.file.layout.pattern = %d{{yyyy-MM-dd HH:mm:ss,SSS}} %p %c{{1}}: %m%n%ex
appender.file.policies.type = Policies
appender.file.policies.size.type = SizeBasedTriggeringPolicy
appender.file.policies.size.size = 20MB
appender.file.strategy.type = DefaultRolloverStrategy
appender.file.strategy.max = 3
"""


def spark_conf(settings: Settings, *, role: Role, app_name: str) -> dict[str, str]:
    """Spark settings for one role, on this machine or on a cluster.

    Parameters
    ----------
    settings
        Installation settings; name the master, the memory and the folders.
    role
        ``training`` gets the large heap; ``stream`` the small one and the fast local checkpoint manager.
    app_name
        Shown in Spark's own UI and logs.

    Returns
    -------
    dict
        Spark property -> value. The numbers come from measurements on two cores (sources named beside them).
        Sizes of a cluster's executors are not among them: they belong into its ``spark-defaults.conf``.

    Raises
    ------
    SetupError
        When Java or the jars are missing, the log folder cannot be written, or a cluster has another Spark.
    """
    conf = {
        "spark.app.name": app_name,
        "spark.sql.extensions": "io.delta.sql.DeltaSparkSessionExtension",
        "spark.sql.catalog.spark_catalog": "org.apache.spark.sql.delta.catalog.DeltaCatalog",
        "spark.sql.session.timeZone": "UTC",
        KERNEL_CACHE: str(settings.kernel_cache),
        # One snapshot partition: 0.28 s an append instead of 0.39 s with Delta's defaults.
        "spark.databricks.delta.snapshotPartitions": "1",
        # Its default turns VACUUM into a job of 10,000 tasks: 50 s on an almost empty table.
        "spark.sql.sources.parallelPartitionDiscovery.parallelism": "32",
        # Delta's checksum file of each commit costs 0.04 s, and an entry in a folder that it lists at each commit.
        CHECKSUM_FILES: "false",
        # VACUUM would note itself in the table's log, twice, also when there is nothing to delete.
        "spark.databricks.delta.vacuum.logging.enabled": "false",
        # Spark's default, 12 bytes of the 1990s, is slower to write and has no smallest and largest value to skip by.
        "spark.sql.parquet.outputTimestampType": "TIMESTAMP_MICROS",
        # Of file: URIs only; an object store has a log store of its own.
        "spark.delta.logStore.file.impl": "io.delta.storage.LocalLogStore",
    }
    if role == "stream":
        # The writer would fill a dictionary with the values and give it up.
        unlike = set(PREDICTIONS.column_names) - set(PREDICTIONS.repeated)
        conf |= {f"spark.hadoop.parquet.enable.dictionary#{name}": "false" for name in sorted(unlike)}
    if role == "stream" and is_local(settings.checkpoints):
        # The default forks chmod and readlink for every file: 150 ms a batch instead of 55 ms.
        conf["spark.sql.streaming.checkpointFileManagerClass"] = (
            "org.apache.spark.sql.execution.streaming.checkpointing.FileSystemBasedCheckpointFileManager"
        )
    if submitted():
        _require_release_line(pyspark.__version__)
        # The JVM runs already: master, jars, heap and Python are what was given to spark-submit.
        return conf
    conf |= _own_jvm(settings, role)
    master = settings.spark_master
    if master.startswith("local"):
        conf |= {
            "spark.sql.shuffle.partitions": "2",
            "spark.sql.sources.parallelPartitionDiscovery.parallelism": "2",
        }
    if on_this_machine(master):
        # Else Spark asks the resolver for this machine's name and warns about what it finds.
        os.environ["SPARK_LOCAL_IP"] = "127.0.0.1"
        os.environ["PYSPARK_PYTHON"] = sys.executable
        conf |= {"spark.driver.host": "127.0.0.1", "spark.driver.bindAddress": "127.0.0.1"}
    else:
        # Executors elsewhere may have their Python at another place; then the variable names it.
        os.environ.setdefault("PYSPARK_PYTHON", sys.executable)
    return conf


def submitted() -> bool:
    """Whether ``spark-submit`` has started this process, and the JVM before it."""
    return "PYSPARK_GATEWAY_PORT" in os.environ


def _require_release_line(version: str) -> None:
    """A cluster brings its own Spark, and Delta's jar fits one release line only.

    Raises
    ------
    SetupError
        When it is another one.
    """
    if not version.startswith(f"{RELEASE_LINE}."):
        raise SetupError(
            f"This cluster runs Spark {version}; the jars and models here are made for Spark {RELEASE_LINE}.",
            "Use a cluster with that version, or point SPARK_HOME at one (docs/dataproc.md).",
        )


def _own_jvm(settings: Settings, role: Role) -> dict[str, str]:
    """What a JVM of our own is started with."""
    java = find_java()
    os.environ["JAVA_HOME"] = str(java.home)
    os.environ["PYSPARK_DRIVER_PYTHON"] = sys.executable
    log4j = _write_log4j(settings, role)
    temporary = settings.root / "tmp"
    memory = settings.training_memory if role == "training" else settings.stream_memory
    options = [f"-Dlog4j2.configurationFile={log4j.as_uri()}", *_LANGUAGE, *_collector(memory)]
    if is_all_here(settings):
        # On the class path, so that their classes are archived too.
        jars = {"spark.driver.extraClassPath": os.pathsep.join(map(str, class_path(settings)))}
        options += sharing_options(settings)
    else:
        # A cluster's executors fetch them from the driver, and the class path is left to a person's connectors.
        jars = {"spark.jars": ",".join(map(str, jar_paths("spark", settings)))}
    if role == "stream":
        options += _LATE_OPTIMISATION
    return {
        "spark.master": settings.spark_master,
        "spark.driver.memory": memory,
        "spark.driver.extraJavaOptions": " ".join(options),
        # Local files, not spark.jars.packages: that resolves at each start, checks nothing, fails offline.
        **jars,
        "spark.sql.warehouse.dir": str(temporary / "warehouse"),
        "spark.local.dir": str(temporary),
        "spark.ui.enabled": "false",
        "spark.ui.showConsoleProgress": "false",
    }


def has_usual_lower_case(spark: "SparkSession") -> bool:
    """Whether Spark's ``lower`` is Unicode's own: in Turkish, Azeri and Lithuanian some letters have another."""
    jvm = spark.sparkContext._jvm
    assert jvm is not None  # noqa: S101  a session that runs has its gateway
    return jvm.java.util.Locale.getDefault().getLanguage() not in _OTHER_LOWER_CASE


def is_all_here(settings: Settings) -> bool:
    """Whether driver and executors are one JVM, and all its data on this machine."""
    master = settings.spark_master
    return (master == "local" or master.startswith("local[")) and is_local(settings.storage_root)


def _collector(memory: str) -> list[str]:
    """Options of the JVM for throughput.

    Java's default lets new objects take most of the heap, and touching gigabytes of memory for the first time cost 6 of
    the 16 s of a logistic regression on 124,150 rows (9 s with these options, measured on two cores). The stream's
    drain is a tenth faster with it.
    """
    if any(_COLLECTOR.search(os.environ.get(name, "")) for name in OPTIONS_OF_JAVA):
        # A person's choice; a JVM that is given two does not start.
        return []
    young = min(memory_bytes(memory) // 3, _YOUNG_BYTES_A_CORE * (os.cpu_count() or 1), _YOUNG_BYTES)
    return ["-XX:+UseParallelGC", f"-XX:MaxNewSize={young >> 20}m"]


def build_session(
    settings: Settings, *, role: Role, app_name: str, extra: Mapping[str, str] | None = None
) -> "SparkSession":
    """Start a Spark session (and its JVM), or return the one this process already has.

    Parameters
    ----------
    settings, role, app_name
        See :func:`spark_conf`.
    extra
        Further Spark properties, which win over ours.

    Raises
    ------
    SetupError
        When Java, the jars or the memory for the JVM are missing.
    """
    from pyspark.sql import SparkSession

    builder = SparkSession.builder
    for name, value in (spark_conf(settings, role=role, app_name=app_name) | dict(extra or {})).items():
        builder = builder.config(name, value)
    log = settings.logs / f"spark-{role}-console.log"
    try:
        with output_to(log):
            session: SparkSession = builder.getOrCreate()
    except Exception as error:
        raise SetupError(
            f"The Spark JVM did not start ({_cause(error)}).",
            f"Read {log}; run `sentiment-assets doctor`. Too little memory? Lower SENTIMENT_TRAINING_MEMORY.",
        ) from error
    return session


def write_no_checksum_files(session: "SparkSession") -> None:
    """Let Hadoop write no ``.crc`` beside each local file: half of all files of a stream that commits twice a second.

    Parquet files, the log and checkpoints say by themselves when they are cut off.
    """
    jvm, context = session.sparkContext._jvm, session.sparkContext._jsc
    assert jvm is not None  # noqa: S101  a session that runs has its gateway
    jvm.org.apache.hadoop.fs.FileSystem.getLocal(context.hadoopConfiguration()).setWriteChecksum(False)


def _cause(error: Exception) -> str:
    """Java's innermost reason; py4j puts only the call that failed on the first line."""
    reasons = re.findall(r"^(?:Caused by)?: ([\w.$]+(?:Exception|Error).*)", str(error), re.MULTILINE)
    return str(
        reasons[-1] if reasons else f"{type(error).__name__}: {next(iter(str(error).splitlines()), '')}"
    )


@contextlib.contextmanager
def output_to(log: Path) -> Iterator[None]:
    """Send file descriptors 1 and 2 to ``log`` meanwhile, so that a JVM started inside inherits the file.

    Both: VACUUM, for one, reports on the JVM's standard output, which is where ``--json`` promises JSON alone.
    """
    log.parent.mkdir(parents=True, exist_ok=True)
    sys.stdout.flush()
    sys.stderr.flush()
    saved = {number: os.dup(number) for number in (1, 2)}
    try:
        with log.open("ab") as file:
            for number in saved:
                os.dup2(file.fileno(), number)
        yield
    finally:
        for number, copy in saved.items():
            os.dup2(copy, number)
            os.close(copy)


def _write_log4j(settings: Settings, role: Role) -> Path:
    """Write the log4j2 configuration that sends Spark's log to a file of SENTIMENT_HOME/logs."""
    path = settings.run / f"log4j2-{role}.properties"
    try:
        settings.prepare()
        path.write_text(_LOG4J.format(log=settings.logs / f"spark-{role}.log"))
    except OSError as error:
        raise SetupError(
            f"The state folder {settings.root} cannot be written ({error.strerror}).",
            "Make it writable, free some disk, or point SENTIMENT_HOME at another folder.",
        ) from error
    return path
