"""``kafka start``, ``stop`` and ``status``: the embedded broker."""

import typer

from sentiment_assets.commands.output import Json, emit, pairs
from sentiment_assets.failures import SetupError
from sentiment_assets.settings import Settings

app = typer.Typer(no_args_is_help=True, help="The embedded Kafka broker.")


@app.command("start")
def kafka_start(as_json: Json = False) -> None:
    """Start the embedded broker; it runs on until `kafka stop`."""
    from sentiment_assets.kafka.broker import EmbeddedBroker

    settings = Settings.from_env()
    if settings.kafka_bootstrap is not None:
        raise SetupError(
            f"SENTIMENT_KAFKA_BOOTSTRAP names a cluster of yours ({settings.kafka_bootstrap}): nothing would use it.",
            "Unset it to start the embedded broker.",
        )
    emit(vars(EmbeddedBroker(settings).start()), as_json, pairs)


@app.command("stop")
def kafka_stop(as_json: Json = False) -> None:
    """Stop the embedded broker."""
    from sentiment_assets.kafka.broker import EmbeddedBroker

    broker = EmbeddedBroker(Settings.from_env())
    broker.stop()
    emit(vars(broker.status()), as_json, pairs)


@app.command("status")
def kafka_status(as_json: Json = False) -> None:
    """Whether the embedded broker runs, and where."""
    from sentiment_assets.kafka.broker import EmbeddedBroker

    emit(vars(EmbeddedBroker(Settings.from_env()).status()), as_json, pairs)
