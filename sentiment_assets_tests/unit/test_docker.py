"""The files of docker/: they say what `make run` does, and nothing secret."""

import re
from pathlib import Path
from typing import Any

import yaml
from typer.main import get_command

from sentiment_assets.cli import app
from sentiment_assets.kafka import broker, replay
from sentiment_assets.keys import LOCATION
from sentiment_assets.local.instance import instance_config
from sentiment_assets.settings import Settings, variable

DOCKER = Path(__file__).resolve().parents[2] / "docker"
PROGRAM = "sentiment-assets"
OWN_IMAGES = {"kafka", "postgres", "mongodb"}


def compose() -> dict[str, Any]:
    return dict(yaml.safe_load((DOCKER / "docker-compose.yaml").read_text()))


def test_dagster_in_containers_differs_from_that_of_one_machine_in_its_storage_alone() -> None:
    deployed = yaml.safe_load((DOCKER / "dagster.yaml").read_text())
    assert set(deployed.pop("storage")) == {"postgres"}
    assert deployed == instance_config()


def test_the_web_server_looks_for_the_code_location_where_compose_starts_it() -> None:
    (server,) = yaml.safe_load((DOCKER / "workspace.yaml").read_text())["load_from"]
    command = compose()["services"]["code"]["command"]
    assert server["grpc_server"] == {
        "host": "code",
        "port": int(command[command.index("--port") + 1]),
        "location_name": LOCATION,
    }


def test_one_service_builds_the_image_and_none_looks_for_it_elsewhere() -> None:
    ours = {name: s for name, s in compose()["services"].items() if name not in OWN_IMAGES}
    assert [name for name, service in ours.items() if "build" in service] == ["migrate"]
    assert {service["pull_policy"] for service in ours.values()} == {"never"}


def test_every_setting_reaches_the_containers() -> None:
    # Where the containers' own places are fixed by the image, or a broker of its own is not used.
    fixed = {"home", "jar_cache", "ivy_settings", "kafka_port", "ui_host", "metrics_port"}
    given = {name for service in compose()["services"].values() for name in service.get("environment", {})}
    wanted = {f"SENTIMENT_{name.upper()}" for name in set(Settings.model_fields) - fixed}
    assert wanted <= given, wanted - given


def test_a_secret_reaches_the_services_that_use_it_alone() -> None:
    services = compose()["services"].items()
    secrets = [
        variable(n) for n, field in Settings.model_fields.items() if "SecretStr" in str(field.annotation)
    ]
    given = {
        secret: {name for name, service in services if secret in service.get("environment", {})}
        for secret in secrets
    }
    assert given.pop("SENTIMENT_KAFKA_SASL_PASSWORD") == {"code", "producer", "jetstream", "x"}
    assert given.pop("SENTIMENT_X_BEARER_TOKEN") == {"x"}
    assert given
    assert all(users == {"code"} for users in given.values()), given


def test_only_the_ui_is_published_and_only_to_this_machine() -> None:
    published = {name: s["ports"] for name, s in compose()["services"].items() if "ports" in s}
    assert published == {"webserver": ["${SENTIMENT_UI_BIND:-127.0.0.1}:${SENTIMENT_UI_PORT:-3000}:3000"]}


def test_our_services_have_no_rights_to_spare() -> None:
    for name, service in compose()["services"].items():
        if name not in OWN_IMAGES:
            assert service["cap_drop"] == ["ALL"], name
            assert service["security_opt"] == ["no-new-privileges:true"], name


def test_compose_holds_no_password_and_refuses_to_start_without_one() -> None:
    for service in compose()["services"].values():
        for name, value in service.get("environment", {}).items():
            if "POSTGRES_PASSWORD" in name:
                assert value.startswith("${POSTGRES_PASSWORD:?"), name
            elif "PASSWORD" in name:
                assert value == f"${{{name}:-}}"
    example = (DOCKER / ".env.example").read_text()
    assert "\nPOSTGRES_PASSWORD=\n" in example


def test_the_broker_in_containers_takes_the_messages_that_the_embedded_one_takes() -> None:
    stated = {
        name.removeprefix("KAFKA_").lower().replace("_", "."): value
        for name, value in compose()["services"]["kafka"]["environment"].items()
    }
    embedded = {
        name: str(value)
        for name, value in broker._server_properties(Path("data"), 1, 2, partitions=1).items()
    }
    assert stated["message.max.bytes"] == stated["replica.fetch.max.bytes"] == str(broker.MAX_MESSAGE_BYTES)
    assert int(stated["message.max.bytes"]) > replay.MAX_MESSAGE_BYTES
    # Places, and the disk: several partitions of a deployment may have more of it.
    elsewhere = {
        "listeners",
        "advertised.listeners",
        "controller.quorum.voters",
        "log.dirs",
        "log.retention.bytes",
    }
    assert {name for name in stated.keys() & embedded.keys() if stated[name] != embedded[name]} == elsewhere


def test_the_image_ends_as_a_user_without_rights() -> None:
    end = (DOCKER / "Dockerfile").read_text().rsplit("\nFROM ", 1)[1]
    assert "\nUSER sentiment\n" in end
    assert "--no-create-home" in end


def test_a_container_made_anew_knows_the_runs_of_the_one_before_by_its_name() -> None:
    assert compose()["services"]["code"]["hostname"] == "code"


def test_the_command_line_has_the_commands_and_options_that_compose_gives() -> None:
    given = [s["command"][1:] for s in compose()["services"].values() if s.get("command", [""])[0] == PROGRAM]
    assert len(given) >= 3
    for words in given:
        arguments = [re.sub(r"\$\{\w+:-([^}]*)\}", r"\1", word) for word in words]
        command: Any = get_command(app)
        while hasattr(command, "commands"):
            command = command.commands[arguments.pop(0)]
        # Parses as a call would, and calls nothing.
        with command.make_context(command.name, arguments):
            pass
