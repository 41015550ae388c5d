"""``metrics``: figures for Prometheus."""

from typing import Annotated

import typer

from sentiment_assets.commands.output import note
from sentiment_assets.commands.signals import stop_on_signals
from sentiment_assets.settings import Settings


def metrics(
    port: Annotated[
        int | None, typer.Option(min=1, max=65535, help="Port; default: SENTIMENT_METRICS_PORT.")
    ] = None,
) -> None:
    """Serve figures of the stream for Prometheus on 127.0.0.1 until Ctrl-C; `up` does so where a port is set."""
    from sentiment_assets.streaming.metrics import LOOPBACK, serve_metrics

    settings = Settings.from_env()
    chosen = port or settings.metrics_port
    if chosen is None:
        raise typer.BadParameter("give a port here or in SENTIMENT_METRICS_PORT", param_hint="--port")
    with stop_on_signals() as stop:
        serve_metrics(settings, chosen)
        note(f"Metrics at http://{LOOPBACK}:{chosen}/metrics; Ctrl-C ends.")
        stop.wait()
