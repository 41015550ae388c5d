"""Fixtures that several folders share: settings of a throw-away home, one Spark session, one real broker."""

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

# pytest rewrites its modules, and its plugin imports them at the very end: there, beside threads that import too,
# CPython 3.11 fails now and then ("AST constructor recursion depth mismatch").
import hypothesis  # noqa: F401
import pytest

from sentiment_assets.settings import Settings

if TYPE_CHECKING:
    from pyspark.sql import SparkSession


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    """Settings with a fresh SENTIMENT_HOME."""
    return Settings(home=tmp_path / "home").prepare()


@pytest.fixture(scope="session")
def session_settings(tmp_path_factory: pytest.TempPathFactory) -> Settings:
    """Settings whose home lives as long as the test session (Spark session, broker)."""
    return Settings(home=tmp_path_factory.mktemp("session") / "home", training_memory="2g").prepare()


@pytest.fixture(scope="session")
def spark(session_settings: Settings) -> Iterator["SparkSession"]:
    """The one Spark session of the test process, configured as the product's stream is."""
    from sentiment_assets.spark.session import build_session

    session = build_session(session_settings, role="stream", app_name="tests")
    yield session
    session.stop()


@pytest.fixture(scope="session")
def broker(session_settings: Settings) -> Iterator[str]:
    """Bootstrap address of a real embedded broker."""
    from sentiment_assets.kafka.broker import EmbeddedBroker

    embedded = EmbeddedBroker(session_settings)
    embedded.start()
    bootstrap = embedded.status().bootstrap
    assert bootstrap is not None
    yield bootstrap
    embedded.stop()
