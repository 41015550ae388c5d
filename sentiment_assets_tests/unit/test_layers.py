"""The structure that ARCHITECTURE promises: imports point downwards, and importing costs nothing."""

import ast
import gc
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path

import pytest

import sentiment_assets

PACKAGE = Path(sentiment_assets.__file__).parent
LEAVES = {"settings", "keys", "schemas", "failures", "terminal"}
# Each layer may import itself, the leaves, and what is named here.
ALLOWED: dict[str, set[str]] = {
    **{leaf: set() for leaf in LEAVES},
    "runtime": {"spark", "kafka"},  # the doctor looks at both
    "sources": set(),
    "kafka": {"runtime", "sources"},
    "ingest": {"runtime", "kafka", "sources"},
    "lake": set(),
    "spark": {"runtime", "sources", "lake"},
    "models": set(),
    "sinks": {"lake"},
    "reports": {"runtime", "spark", "models"},
    "streaming": {"runtime", "kafka", "lake", "spark", "models"},
    "submit": {"runtime"},
    "resources": {"runtime", "sources", "kafka", "lake", "spark", "models", "reports", "streaming"},
    "defs": {
        "runtime",
        "sources",
        "kafka",
        "lake",
        "spark",
        "models",
        "reports",
        "streaming",
        "resources",
        "sinks",
    },
}
NO_DAGSTER = set(ALLOWED) - {"resources", "defs"}


@pytest.fixture(autouse=True, scope="module")
def no_collection() -> Iterator[None]:
    """CPython 3.11 fails to build a syntax tree when a finalizer of an earlier test's JVM runs in it (SystemError)."""
    gc.collect()
    gc.disable()
    yield
    gc.enable()


def modules() -> Iterator[tuple[str, Path]]:
    """Layer and file of each module below the command line."""
    for path in sorted(PACKAGE.rglob("*.py")):
        layer = path.relative_to(PACKAGE).parts[0].removesuffix(".py")
        if layer in ALLOWED:
            yield layer, path


def imported(path: Path) -> set[str]:
    """Full names of all modules that a file imports, inside functions too."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names |= {f"{node.module}.{alias.name}" for alias in node.names}
    return names


@pytest.mark.parametrize(
    ("layer", "path"), list(modules()), ids=lambda v: v.name if isinstance(v, Path) else v
)
def test_imports_point_downwards(layer: str, path: Path) -> None:
    ours = {name.split(".")[1] for name in imported(path) if name.startswith("sentiment_assets.")}
    assert ours <= ALLOWED[layer] | LEAVES | {layer, "__version__"}


@pytest.mark.parametrize(
    ("layer", "path"), list(modules()), ids=lambda v: v.name if isinstance(v, Path) else v
)
def test_domain_code_knows_no_dagster(layer: str, path: Path) -> None:
    if layer in NO_DAGSTER:
        assert not {name for name in imported(path) if name.split(".")[0].startswith("dagster")}


@pytest.mark.parametrize("path", sorted((PACKAGE / "defs").glob("*.py")), ids=lambda p: p.name)
def test_definition_modules_keep_their_annotations(path: Path) -> None:
    assert "__future__.annotations" not in imported(path)


IMPORT_BUDGET = """
import sys
touched = []

def watch(event, args):
    if event in ("socket.bind", "socket.connect", "subprocess.Popen", "os.posix_spawn"):
        touched.append((event, str(args)))
    elif event == "open" and isinstance(args[0], str) and str(args[0]).startswith(sys.argv[1]):
        touched.append((event, args[0]))

import dagster, pyspark.sql, delta, confluent_kafka, deltalake, pandas, dagster_pyspark, typer, rich, psutil, pooch
sys.addaudithook(watch)
import importlib, pkgutil
import sentiment_assets.definitions
import sentiment_assets.cli
for module in pkgutil.walk_packages(sentiment_assets.__path__, "sentiment_assets."):
    if not module.name.endswith("__main__"):
        importlib.import_module(module.name)
from pyspark import SparkContext
assert SparkContext._active_spark_context is None, "a Spark session was started"
assert not touched, touched
"""


def test_importing_the_definitions_starts_no_jvm_opens_no_socket_and_reads_no_file_of_the_home(
    tmp_path: Path,
) -> None:
    home = tmp_path / "home"
    result = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(IMPORT_BUDGET), str(home)],
        env={"PATH": "/usr/bin:/bin", "SENTIMENT_HOME": str(home), "HOME": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert result.returncode == 0, result.stderr
    assert not home.exists()
