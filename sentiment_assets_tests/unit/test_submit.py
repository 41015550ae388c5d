"""The calls that bring a command to a cluster, and the driver that receives it."""

import os
import shlex
import signal
import subprocess
import sys
import zipfile
from pathlib import Path

import psutil
import pytest
from pydantic import SecretStr
from typer.testing import CliRunner

import sentiment_assets
from sentiment_assets.cli import app
from sentiment_assets.failures import SetupError
from sentiment_assets.settings import Settings, variable
from sentiment_assets.spark.compiled.worker import _sources
from sentiment_assets.submit.calls import Job, dataproc_calls, job_for, spark_submit_calls
from sentiment_assets.submit.driver import settings_before
from sentiment_assets.submit.package import Package, package_of
from sentiment_assets.submit.relay import cause_in
from sentiment_assets.submit.run import as_text, execute, find_spark_submit

TRAIN = ["train", "--data", "gs://bucket/tweets.csv", "--rows", "all"]


@pytest.fixture
def package(settings: Settings) -> Package:
    return package_of(settings)


def job(settings: Settings, command: list[str] = TRAIN, **options: dict[str, str]) -> Job:
    complete = {"overrides": {}, "properties": {}} | options
    return job_for(settings, command, storage="gs://bucket/sentiment", **complete)  # type: ignore[arg-type]


def to_spark(stated: Job, package: Package, master: str = "spark://h:7077") -> list[list[str]]:
    return spark_submit_calls(
        stated,
        package,
        spark_submit="spark-submit",
        master=master,
        python="/here/python",
        executor_python="/there/python",
    )


def test_dataproc_gets_the_files_first_and_then_a_job_that_names_them_in_the_bucket(
    settings: Settings, package: Package
) -> None:
    upload, submit = dataproc_calls(
        job(settings), package, cluster="c", region="r", bucket="gs://bucket/", project="p"
    )
    target = "gs://bucket/sentiment-assets/0.1.0"
    assert upload[:3] == ["gcloud", "storage", "cp"]
    assert upload[-2:] == [f"{target}/", "--project=p"]
    uploaded = {Path(file).name for file in upload[3:-2]}
    assert submit[:6] == ["gcloud", "dataproc", "jobs", "submit", "pyspark", f"{target}/driver.py"]
    options = dict(word.split("=", 1) for word in submit[6 : submit.index("--")])
    assert (options["--cluster"], options["--region"], options["--project"]) == ("c", "r", "p")
    shipped = [options["--py-files"], *options["--jars"].split(",")]
    assert {Path(uri).name for uri in shipped} < uploaded
    assert all(uri.startswith(f"{target}/") for uri in shipped)
    assert any("delta-spark" in uri for uri in shipped)
    assert submit[submit.index("--") + 1 :] == ["SENTIMENT_STORAGE=gs://bucket/sentiment", *TRAIN]


def test_values_with_commas_survive_gclouds_list_syntax(settings: Settings, package: Package) -> None:
    stated = job(settings, properties={"spark.hadoop.x": "a,b", "spark.driver.memory": "3g"})
    _, submit = dataproc_calls(stated, package, cluster="c", region="r", bucket="gs://bucket")
    (properties,) = [word for word in submit if word.startswith("--properties=")]
    assert properties == "--properties=^#^spark.driver.memory=3g#spark.hadoop.x=a,b"


def test_a_file_of_this_machine_is_refused_before_anything_is_uploaded(
    settings: Settings, package: Package
) -> None:
    for words in (["--data", "tweets.csv"], ["--data=tweets.csv"]):
        local = job(settings, ["train", *words])
        with pytest.raises(SetupError, match=r"tweets\.csv.*gcloud storage cp"):
            dataproc_calls(local, package, cluster="c", region="r", bucket="gs://bucket")
    with pytest.raises(SetupError, match="no bucket"):
        dataproc_calls(job(settings), package, cluster="c", region="r", bucket="bucket")


def test_spark_submit_gets_local_files_and_the_heap_that_the_command_needs(
    settings: Settings, package: Package
) -> None:
    (call,) = to_spark(job(settings), package)
    assert call[:3] == ["spark-submit", "--master", "spark://h:7077"]
    assert call[call.index("--py-files") + 1].endswith(".zip")
    assert f"spark.driver.memory={settings.training_memory}" in call
    driver = call.index(str(package.driver))
    assert call[driver + 1 :] == ["SENTIMENT_STORAGE=gs://bucket/sentiment", *TRAIN]


def test_driver_and_executors_run_on_a_python_that_has_our_packages(
    settings: Settings, package: Package
) -> None:
    (call,) = to_spark(job(settings), package)
    assert "spark.pyspark.driver.python=/here/python" in call
    assert "spark.pyspark.python=/there/python" in call
    (other,) = to_spark(job(settings, properties={"spark.pyspark.python": "/odd"}), package)
    assert "spark.pyspark.python=/odd" in other
    assert "spark.pyspark.python=/there/python" not in other


@pytest.mark.parametrize(("stated", "executors"), [("", sys.executable), ("/opt/python", "/opt/python")])
def test_the_driver_runs_on_this_python_and_executors_where_they_are_told_to(
    settings: Settings, stated: str, executors: str
) -> None:
    result = CliRunner().invoke(
        app,
        ["submit", "spark", "--master", "yarn", "--storage", "gs://b", "--dry-run", "--", "models", "list"],
        env={"SENTIMENT_HOME": str(settings.root), "PYSPARK_PYTHON": stated or None},
    )
    assert result.exit_code == 0, result.output
    words = shlex.split(result.stdout.replace("\\\n", ""))
    assert f"spark.pyspark.driver.python={sys.executable}" in words
    assert f"spark.pyspark.python={executors}" in words


@pytest.mark.parametrize("storage", [None, "/mnt/folder"])
def test_executors_elsewhere_are_given_no_folder_of_this_machine(
    settings: Settings, package: Package, storage: str | None
) -> None:
    here = job_for(settings, ["models", "list"], storage=storage, overrides={}, properties={})
    for master in ("spark://head:7077", "yarn", "k8s://https://host:6443", "spark://127.0.0.1.example:7077"):
        with pytest.raises(SetupError, match=r"own disks.*file:///FOLDER"):
            to_spark(here, package, master)
    for master in ("local[*]", "spark://127.0.0.1:7077", "spark://localhost:7077"):
        assert to_spark(here, package, master)


def test_executors_elsewhere_are_given_no_file_of_this_machine(settings: Settings, package: Package) -> None:
    local = job(settings, ["train", "--data", "tweets.csv"])
    with pytest.raises(SetupError, match=r"do not have the file tweets\.csv"):
        to_spark(local, package)
    assert to_spark(local, package, "local[*]")
    shared = {"overrides": {"SENTIMENT_STORAGE": "file:///shared"}}
    assert to_spark(job(settings, ["train", "--data", "file:///shared/tweets.csv"], **shared), package)


def test_a_stream_needs_a_kafka_cluster_and_hands_over_its_address_and_topic(settings: Settings) -> None:
    with pytest.raises(SetupError, match="SENTIMENT_KAFKA_BOOTSTRAP"):
        job(settings, ["stream"])
    stated = job(settings.model_copy(update={"kafka_bootstrap": "k:9092"}), ["stream", "--until-drained"])
    assert stated.settings["SENTIMENT_KAFKA_BOOTSTRAP"] == "k:9092"
    assert stated.settings["SENTIMENT_TOPIC"] == settings.topic
    assert stated.properties["spark.driver.memory"] == settings.stream_memory
    other = job(settings, ["stream"], overrides={"SENTIMENT_KAFKA_BOOTSTRAP": "x:1"})
    assert other.settings["SENTIMENT_KAFKA_BOOTSTRAP"] == "x:1"


def test_a_status_asks_the_topic_that_a_stream_reads_and_needs_no_broker(settings: Settings) -> None:
    named = settings.model_copy(
        update={"kafka_bootstrap": "k:9092", "kafka_security_protocol": "SSL", "topic": "t"}
    )
    assert job(named, ["status"]).settings == job(named, ["stream"]).settings
    assert job(named, ["status"]).settings["SENTIMENT_TOPIC"] == "t"
    assert set(job(settings, ["status"]).settings) == {"SENTIMENT_STORAGE", "SENTIMENT_TOPIC"}
    assert set(job(named, ["models", "list"]).settings) == {"SENTIMENT_STORAGE"}


def test_a_stream_hands_over_how_to_log_in_to_kafka_but_never_a_secret(settings: Settings) -> None:
    guarded = settings.model_copy(
        update={
            "kafka_bootstrap": "k:9093",
            "kafka_security_protocol": "SASL_SSL",
            "kafka_sasl_mechanism": "PLAIN",
            "kafka_sasl_username": "alice",
            "kafka_sasl_password": SecretStr("made up"),
            "kafka_ssl_ca_location": Path("/etc/kafka/ca.pem"),
        }
    )
    stated = job(guarded, ["stream"])
    assert stated.settings["SENTIMENT_KAFKA_SASL_USERNAME"] == "alice"
    assert stated.settings["SENTIMENT_KAFKA_SSL_CA_LOCATION"] == "/etc/kafka/ca.pem"
    assert "SENTIMENT_KAFKA_SSL_KEYSTORE_LOCATION" not in stated.settings
    assert "made up" not in str(stated)


@pytest.mark.parametrize(
    "name",
    [
        *(
            variable(name)
            for name, field in Settings.model_fields.items()
            if "SecretStr" in str(field.annotation)
        ),
        *("AWS_SECRET_ACCESS_KEY", "AWS_ACCESS_KEY_ID", "AWS_SESSION_TOKEN"),
        *("spark.hadoop.fs.s3a.access.key", "spark.hadoop.fs.s3a.secret.key", "spark.ssl.keyStorePassword"),
        *("spark.executorEnv.SENTIMENT_SINK_POSTGRES_DSN", "spark.kafka.sasl.jaas.config"),
        *("spark.kubernetes.authenticate.submission.oauthToken", "spark.authenticate.secret"),
    ],
)
def test_a_secret_becomes_no_argument(settings: Settings, name: str) -> None:
    for option in ("overrides", "properties"):
        for spelt in (name, name.lower()):
            with pytest.raises(SetupError, match=f"{spelt} is a secret") as refused:
                job(settings, **{option: {spelt: "made up"}})
            assert "made up" not in str(refused.value)


@pytest.mark.parametrize(
    "name",
    [
        *(
            "spark.hadoop.fs.s3a.aws.credentials.provider",
            "spark.hadoop.hadoop.security.credential.provider.path",
        ),
        *("spark.hadoop.google.cloud.auth.service.account.json.keyfile", "spark.authenticate.secret.file"),
        *("spark.kubernetes.authenticate.driver.oauthTokenFile", "spark.security.credentials.hive.enabled"),
        "spark.kubernetes.driver.secretKeyRef.SENTIMENT_KAFKA_SASL_PASSWORD",
        *("GOOGLE_APPLICATION_CREDENTIALS", "AWS_WEB_IDENTITY_TOKEN_FILE", "SENTIMENT_SEED"),
        *("spark.executorEnv.GOOGLE_APPLICATION_CREDENTIALS", "spark.made.up.threadsNumber"),
    ],
)
def test_what_names_the_place_of_a_secret_or_a_class_is_none(settings: Settings, name: str) -> None:
    assert job(settings, overrides={name: "x"}).settings[name] == "x"
    assert job(settings, properties={name: "x"}).properties[name] == "x"


@pytest.mark.parametrize("command", [[], ["up"], ["kafka", "start"], ["nonsense"]])
def test_commands_of_this_machine_cannot_be_submitted(settings: Settings, command: list[str]) -> None:
    with pytest.raises(SetupError, match="cannot be submitted"):
        job(settings, command)


def test_the_printed_call_is_the_call(settings: Settings, package: Package) -> None:
    odd = job(settings, ["train", "--select", "a b", "--data", "gs://b/it's.csv"])
    calls = dataproc_calls(odd, package, cluster="c", region="r", bucket="gs://bucket")
    printed = as_text(calls).replace(" \\\n", " ").split("\n\n")
    assert [shlex.split(text) for text in printed] == calls


def test_a_dry_run_prints_both_calls_and_builds_nothing(settings: Settings) -> None:
    result = CliRunner().invoke(
        app,
        [
            "submit",
            "dataproc",
            "--cluster",
            "c",
            "--region",
            "r",
            "--bucket",
            "gs://b",
            "--dry-run",
            "--",
            *TRAIN,
        ],
        env={"SENTIMENT_HOME": str(settings.root)},
    )
    assert result.exit_code == 0, result.output
    assert result.stdout.startswith("gcloud storage cp ")
    assert "gcloud dataproc jobs submit pyspark" in result.stdout
    assert "SENTIMENT_STORAGE=gs://b/sentiment train --data" in result.stdout
    assert not (settings.root / "dist").exists()


PAGE = Path(__file__).parents[2] / "docs" / "dataproc.md"
SERVER = {
    "SENTIMENT_HOME": "/srv/sentiment",
    "SENTIMENT_JAR_CACHE": "/srv/jars",
    "SENTIMENT_TRAINING_MEMORY": "10g",
}


def test_the_documentation_shows_the_real_dry_run() -> None:
    """`docs/dataproc.md` has the output of the command above it; run that again when this fails."""
    data = "gs://my-bucket/training.1600000.processed.noemoticon.csv"
    result = CliRunner().invoke(
        app,
        [
            *("submit", "dataproc", "--cluster", "sentiment", "--region", "europe-west1"),
            *("--bucket", "gs://my-bucket", "--dry-run", "--", "train", "--data", data, "--profile", "full"),
        ],
        env=SERVER,
    )
    assert f"```\n{result.stdout}```" in PAGE.read_text(encoding="utf-8")


def test_the_documentation_shows_the_real_dry_run_of_spark_submit_too(tmp_path: Path) -> None:
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "spark-submit").touch()
    result = CliRunner().invoke(
        app,
        [
            *("submit", "spark", "--master", "spark://head:7077", "--storage", "s3a://bucket/sentiment"),
            *("--dry-run", "--", "train", "--data", "s3a://bucket/tweets.csv"),
        ],
        env=SERVER | {"SPARK_HOME": str(tmp_path), "PYSPARK_PYTHON": "/opt/python/bin/python3.11"},
    )
    shown = result.stdout.replace(str(tmp_path), "/opt/spark").replace(sys.executable, "/srv/venv/bin/python")
    assert f"```\n{shown}```" in PAGE.read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("option", "bad"),
    [
        *(("--property", bad) for bad in ("nonsense", "=x", "a b=made-up")),
        # The driver program would take them for the command.
        *(("--set", bad) for bad in ("sentiment_seed=made-up", "SENTIMENT.SEED=made-up", "nonsense")),
    ],
)
def test_a_property_or_a_setting_without_a_name_of_its_kind_is_bad_usage(
    settings: Settings, option: str, bad: str
) -> None:
    result = CliRunner().invoke(
        app,
        ["submit", "spark", "--master", "yarn", option, bad, "--dry-run", "--", "status"],
        env={"SENTIMENT_HOME": str(settings.root)},
    )
    assert result.exit_code == 2
    assert option in result.output
    assert "made-up" not in result.output


def test_a_missing_program_and_a_failing_one_are_named() -> None:
    with pytest.raises(SetupError, match="gcloud-of-nowhere is not installed"):
        execute([["gcloud-of-nowhere", "x"]])
    with pytest.raises(SetupError, match="ended with status 3"):
        execute([[sys.executable, "-c", "raise SystemExit(3)"]])


def test_output_is_passed_on_where_it_was_written_and_the_error_names_the_cause(
    capfdbinary: pytest.CaptureFixture[bytes],
) -> None:
    program = (
        "import sys; print('hello'); print('26/11/24 14:48:02 WARN X: y', file=sys.stderr); "
        "import package_of_nowhere"
    )
    with pytest.raises(SetupError, match=r"status 1: ModuleNotFoundError: .*'package_of_nowhere'"):
        execute([[sys.executable, "-c", program]], relayed=True)
    out, err = capfdbinary.readouterr()
    assert out == b"hello\n"
    assert b"WARN X" in err
    assert b"Traceback" in err


def test_output_is_text_to_a_terminal() -> None:
    program = [sys.executable, "-c", "print('\\x1b]0;title\\x07 caf\u00e9 \\u202e\\tend')"]
    ours, theirs = os.openpty()
    with os.fdopen(ours, "rb", buffering=0) as screen:
        subprocess.run(
            [sys.executable, "-c", f"from sentiment_assets.submit.relay import relay; relay({program!r})"],
            stdin=theirs, stdout=theirs, stderr=theirs, timeout=60, check=True,
            env=os.environ | {"PYTHONIOENCODING": "utf-8"},
        )  # fmt: skip
        os.close(theirs)
        shown = screen.read(1000).decode()
    assert shown.split() == ["\ufffd]0;title\ufffd", "caf\u00e9", "\ufffd", "end"]


def test_who_is_told_to_end_tells_the_program_and_waits_for_it_and_for_what_it_started() -> None:
    program = (
        "import signal, subprocess, sys\n"
        "def end(*_): print('asked to end', flush=True); sys.exit(7)\n"
        "signal.signal(signal.SIGTERM, end)\n"
        "driver = subprocess.Popen([sys.executable, '-c', 'import signal; signal.pause()'])\n"
        "print(driver.pid, flush=True)\n"
        "signal.pause()\n"
    )
    relayed = f"from sentiment_assets.submit.relay import relay; relay({[sys.executable, '-c', program]!r})"
    with subprocess.Popen([sys.executable, "-c", relayed], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        driver = psutil.Process(int(process.stdout.readline()))
        process.terminate()
        assert process.communicate(timeout=60)[0] == "asked to end\n"
    assert process.returncode == 128 + signal.SIGTERM
    # One whose parent is gone may wait to be reaped.
    assert not driver.is_running() or driver.status() == psutil.STATUS_ZOMBIE


@pytest.mark.parametrize(
    ("lines", "cause"),
    [
        (
            ["sentiment-assets 0.1.0 from x", "error: No rows. Name another file."],
            "No rows. Name another file.",
        ),
        (["Error: Master must be yarn", "26/11/24 14:48:02 INFO Hook: called"], "Master must be yarn"),
        (
            [
                "Traceback:",
                '  File "a.py", line 1',
                "ImportError: No module named 'x'",
                "WARNING: Using modules",
            ],
            "ImportError: No module named 'x'",
        ),
        (
            [
                'Exception in thread "main" a.b.SparkException: No master',
                "\tat a.B.c(D.scala:1)",
                "Caused by: x",
            ],
            "a.b.SparkException: No master",
        ),
        (["JAVA_HOME is not set", ""], "JAVA_HOME is not set"),
        (["26/11/24 14:48:02 WARN NativeCodeLoader: x"], None),
        ([], None),
    ],
)
def test_the_cause_is_what_a_program_states_or_raises_or_else_says_last(
    lines: list[str], cause: str | None
) -> None:
    assert cause_in(lines) == cause


def test_spark_submit_is_that_of_spark_home_or_pysparks_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("SPARK_HOME", raising=False)
    assert find_spark_submit().endswith("pyspark/bin/spark-submit")
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "spark-submit").touch()
    monkeypatch.setenv("SPARK_HOME", str(tmp_path))
    assert find_spark_submit() == str(tmp_path / "bin" / "spark-submit")


def test_the_driver_takes_settings_up_to_the_command_and_no_further() -> None:
    settings, command = settings_before(
        ["SENTIMENT_STORAGE=gs://b/a=b", "JAVA_HOME=", "train", "--select", "X=1"]
    )
    assert settings == {"SENTIMENT_STORAGE": "gs://b/a=b", "JAVA_HOME": ""}
    assert command == ["train", "--select", "X=1"]
    assert settings_before(["A=1"]) == ({"A": "1"}, [])


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The package as a cluster imports it: from a zip."""
    path = tmp_path_factory.mktemp("zip") / "package.zip"
    root = Path(sentiment_assets.__file__).parents[1]
    with zipfile.ZipFile(path, "w") as file:
        for source in sorted(Path(root, "sentiment_assets").rglob("*")):
            if source.is_file() and "__pycache__" not in source.parts:
                file.write(source, source.relative_to(root))
    return path


def from_zip(archive: Path, program: str) -> str:
    """What a program prints whose package is the zip."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("NUMBA_")}
    result = subprocess.run(
        [sys.executable, "-P", "-c", program],
        env=environment | {"PYTHONPATH": str(archive)},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert result.returncode == 0, result.stderr
    return result.stdout


def test_the_report_finds_its_templates_in_a_zip_too(archive: Path) -> None:
    program = (
        "from sentiment_assets.reports import pages\n"
        "print(pages.__file__, pages._environment().get_template('training.html.jinja').name)\n"
    )
    module, template = from_zip(archive, program).split()
    assert module.startswith(str(archive))
    assert template == "training.html.jinja"


def test_what_numba_compiles_of_a_zip_is_kept_where_all_applications_find_it(
    archive: Path, tmp_path: Path
) -> None:
    program = (
        "from sentiment_assets.spark.compiled import worker\n"
        f"worker.use_cache({str(tmp_path)!r})\n"
        "from sentiment_assets.spark.compiled import kernel, terms\n"
        "print(kernel.__file__, kernel.score_texts._cache.cache_path, terms.grow._cache.cache_path, sep='\\n')\n"
    )
    kernel, *caches = from_zip(archive, program).splitlines()
    assert kernel.startswith(str(archive))
    assert set(caches) == {str(tmp_path / _sources() / "compiled")}


def test_the_driver_runs_a_command_with_its_settings_and_says_which_package_it_is(tmp_path: Path) -> None:
    driver = Path(sys.modules[settings_before.__module__].__file__ or "")
    result = subprocess.run(
        [sys.executable, str(driver), f"SENTIMENT_HOME={tmp_path / 'home'}", "models", "list", "--json"],
        env={name: value for name, value in os.environ.items() if name != "SENTIMENT_HOME"},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert result.returncode == 0, result.stderr
    assert result.stdout == '{"chosen": null, "models": []}\n'
    assert result.stderr.startswith("sentiment-assets 0.1.0 from ")
