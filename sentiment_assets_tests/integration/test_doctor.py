"""The doctor's Delta round trip with the real jars, in JVMs of its own."""

import pytest

from sentiment_assets.runtime.doctor import run_checks
from sentiment_assets.settings import Settings

pytestmark = pytest.mark.spark


def test_a_healthy_machine_passes_every_check_and_the_round_trip_leaves_nothing(settings: Settings) -> None:
    checks = {check.name: check for check in run_checks(settings)}
    # The port belongs to whatever else this machine runs.
    assert [check for name, check in checks.items() if not check.ok and name != "port of the UI"] == []
    assert "time travel" in checks["delta"].detail
    assert list(settings.root.glob("doctor-*")) == []
