"""The definitions as a whole: what exists and what depends on what, reviewed as text."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from dagster import AssetKey, Definitions, validate_run_config

from sentiment_assets import keys
from sentiment_assets.build import build_definitions
from sentiment_assets.settings import Settings

SNAPSHOT = Path(__file__).with_name("lineage.txt")


@pytest.fixture(scope="module")
def definitions(tmp_path_factory: pytest.TempPathFactory) -> Definitions:
    return build_definitions(Settings(home=tmp_path_factory.mktemp("home")))


def lineage(definitions: Definitions) -> str:
    """One line per asset, job and sensor, sorted."""
    graph = definitions.resolve_asset_graph()
    lines = []
    for key in sorted(graph.get_all_asset_keys()):
        node = graph.get(key)
        parents = ", ".join(sorted(parent.to_user_string() for parent in node.parent_keys)) or "-"
        checks = ", ".join(sorted(check.name for check in node.check_keys)) or "-"
        kinds = ", ".join(sorted(node.kinds))
        lines.append(
            f"asset {key.to_user_string()}\n  group {node.group_name} | kinds {kinds} | "
            f"{'executable' if node.is_executable else 'external'}\n  from {parents}\n  checks {checks}"
        )
    for job in sorted(definitions.resolve_all_job_defs(), key=lambda j: j.name):
        if not job.name.startswith("__"):
            steps = ", ".join(sorted(k.to_user_string() for k in job.asset_layer.selected_asset_keys)) or "-"
            lines.append(f"job {job.name}\n  materializes {steps}")
    lines += [f"sensor {s.name} | {s.default_status.value}" for s in definitions.sensors or []]
    lines += [f"schedule {s.name}" for s in definitions.schedules or []]
    return "\n".join(lines) + "\n"


def test_lineage_is_as_reviewed(definitions: Definitions) -> None:
    found = lineage(definitions)
    if os.environ.get("UPDATE_SNAPSHOTS"):
        SNAPSHOT.write_text(found, encoding="utf-8")
    assert found == SNAPSHOT.read_text(encoding="utf-8"), "run `make snapshot` and review the difference"


def test_every_asset_has_an_owner_a_description_kinds_and_a_group(definitions: Definitions) -> None:
    graph = definitions.resolve_asset_graph()
    for key in graph.get_all_asset_keys():
        node = graph.get(key)
        assert node.owners, key
        assert node.description, key
        assert node.kinds, key
        assert node.group_name not in (None, "default"), key


def test_every_table_asset_shows_its_columns(definitions: Definitions) -> None:
    graph = definitions.resolve_asset_graph()
    for name in (
        "raw_tweets",
        "cleaned_tweets",
        "train_tweets",
        "test_tweets",
        "predictions",
        "dead_letters",
    ):
        assert "dagster/column_schema" in graph.get(AssetKey(name)).metadata, name


def test_definitions_load_in_a_fresh_interpreter(tmp_path: Path) -> None:
    result = subprocess.run(
        [sys.executable, "-m", "dagster", "definitions", "validate", "-w", "workspace.yaml"],
        cwd=Path(__file__).parents[2],
        env={
            "PATH": os.environ["PATH"],
            "SENTIMENT_HOME": str(tmp_path / "home"),
            "DAGSTER_HOME": str(tmp_path),
            "DAGSTER_DISABLE_TELEMETRY": "yes",
        },
        capture_output=True,
        text=True,
        timeout=180,
        check=False,
    )
    assert result.returncode == 0, result.stderr


def test_the_run_configuration_that_the_documents_show_is_valid(definitions: Definitions) -> None:
    text = (Path(__file__).parents[2] / "docs" / "training.md").read_text(encoding="utf-8")
    (shown,) = re.findall(r"```yaml\n(.*?)```", text, re.DOTALL)
    config = yaml.safe_load(shown)
    assert len(config["ops"]) == 3
    validate_run_config(definitions.resolve_job_def(keys.JOB_RETRAIN), config)
