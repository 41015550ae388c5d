"""What the doctor finds, and that each failure comes with a fix (the Delta round trip is in integration)."""

import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from sentiment_assets.runtime import doctor
from sentiment_assets.runtime.doctor import Check, run_checks
from sentiment_assets.runtime.ports import free_port
from sentiment_assets.settings import Settings


def outcomes(settings: Settings) -> dict[str, Check]:
    return {check.name: check for check in run_checks(settings, quick=True)}


@pytest.fixture
def taken() -> Iterator[int]:
    """A port on which this process listens."""
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        server.listen(1)
        yield server.getsockname()[1]


def test_checks_are_reported_as_they_run_and_only_failures_have_a_fix(settings: Settings) -> None:
    seen: list[Check] = []
    assert run_checks(settings, quick=True, on_check=seen.append) == seen
    assert [check.name for check in seen if bool(check.fix) == check.ok] == []
    assert {check.name: check.ok for check in seen if check.name in ("python", "packages", "home")} == {
        "python": True,
        "packages": True,
        "home": True,
    }


def test_missing_jars_are_named_and_nothing_is_fetched(settings: Settings, tmp_path: Path) -> None:
    found = outcomes(settings.model_copy(update={"jar_cache": tmp_path / "none"}))["jars"]
    assert not found.ok
    assert ".jar is missing" in found.detail
    assert "make setup" in found.fix
    assert not (tmp_path / "none").exists()


def test_a_home_that_cannot_be_made_fails_with_the_setting_and_the_other_checks_go_on(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    found = outcomes(Settings(home=tmp_path / "file" / "home"))
    assert not found["home"].ok
    assert "SENTIMENT_HOME" in found["home"].fix
    assert found["disk"].ok


def test_a_configured_cluster_that_does_not_answer_fails(settings: Settings) -> None:
    nowhere = f"127.0.0.1:{free_port()}"
    found = outcomes(settings.model_copy(update={"kafka_bootstrap": nowhere}))
    assert not found["kafka"].ok
    assert nowhere in found["kafka"].detail
    assert "SENTIMENT_KAFKA_BOOTSTRAP" in found["kafka"].fix


def test_an_embedded_broker_that_is_not_started_is_no_failure(settings: Settings) -> None:
    found = outcomes(settings)["kafka"]
    assert found.ok
    assert "not started" in found.detail


def test_a_taken_kafka_port_is_no_failure_since_another_is_chosen(settings: Settings, taken: int) -> None:
    found = outcomes(settings.model_copy(update={"kafka_port": taken}))["port of Kafka"]
    assert found.ok
    assert f"{taken} is in use" in found.detail


def test_a_taken_ui_port_fails_with_its_owner_and_the_option(
    settings: Settings, taken: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(doctor, "UI_PORT", taken)
    found = outcomes(settings)["port of the UI"]
    assert not found.ok
    assert "pid" in found.detail
    assert "--port" in found.fix


def test_a_heap_larger_than_the_machine_fails(settings: Settings) -> None:
    found = outcomes(settings.model_copy(update={"training_memory": "900g"}))["memory"]
    assert not found.ok
    assert "SENTIMENT_TRAINING_MEMORY" in found.detail


def test_a_full_disk_fails(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "MINIMUM_DISK_BYTES", 2**70)
    found = outcomes(settings)["disk"]
    assert not found.ok
    assert "Free at least" in found.fix
