"""Figures of the stream and the ingest for Prometheus, read from files at each scrape. No JVM.

Served on 127.0.0.1 alone, and only where SENTIMENT_METRICS_PORT is set; `up` and `sentiment-assets metrics` serve it.
Does not belong here: the figures themselves (``status``, ``shares``).
"""

import json
import time
from collections.abc import Iterator
from pathlib import Path

from prometheus_client import CollectorRegistry, start_http_server
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from sentiment_assets.failures import SetupError
from sentiment_assets.settings import Settings
from sentiment_assets.streaming.heartbeat import read_heartbeat
from sentiment_assets.streaming.status import read_status

LOOPBACK = "127.0.0.1"


class StreamCollector(Collector):
    """What is known of the stream at the moment of the scrape; unknown figures are left out."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings

    def collect(self) -> Iterator[Metric]:
        """Gauges, each with what it means."""
        status = read_status(self._settings, audit=False)
        beat, stream = read_heartbeat(self._settings), status["stream"]
        running = beat is not None and beat.running
        gauges: list[tuple[str, str, float | int | None]] = [
            ("up", "1 while a stream runs.", int(running)),
            ("ready", "1 while it scores, not while it starts.", int(bool(stream["ready"]))),
            ("heartbeat_age_seconds", "Since the last sign of life.", stream["heartbeat_age_seconds"]),
            ("lag_messages", "Messages of the topic that are not scored yet.", status["lag"]),
            ("predictions_rows", "Rows of the table predictions.", status["predictions"]),
            ("dead_letters_rows", "Rows of the table dead_letters.", status["dead_letters"]),
            ("share_positive", "Positive predictions of the running lease.", status["share_positive"]),
            ("batch_rows_per_second", "Of the last batch.", stream["rows_per_second"]),
            (
                "visible_latency_seconds",
                "Age of the last batch's median message when it could be read.",
                stream["visible_latency_seconds"],
            ),
            ("lease_rows", "Rows of the running lease.", stream["rows"]),
            ("broker_up", "1 while the broker answers.", int(status["broker"] == "running")),
        ]
        for name, meaning, value in gauges:
            if value is not None:
                yield GaugeMetricFamily(f"sentiment_{name}", meaning, value=float(value))
        behind = GaugeMetricFamily(
            "sentiment_partition_lag_messages", "Messages not scored yet.", labels=["partition"]
        )
        for part in status["partitions"]:
            behind.add_metric([str(part["partition"])], float(part["lag"]))
        yield behind
        if status["model"] is not None:
            model = GaugeMetricFamily("sentiment_model_info", "The chosen model.", labels=["version"])
            model.add_metric([status["model"]], 1.0)
            yield model
        yield from _ingest_figures(self._settings.run)


_INGEST_TOTALS = {
    "received": "Posts that the source gave.",
    "delivered": "Messages that Kafka acknowledged.",
    "duplicates": "Posts left out because their id had come before.",
    "skipped": "Messages of the service that are no post to score.",
    "malformed": "Frames that could not be read.",
    "refused": "Messages that Kafka can never take.",
    "reconnects": "Connections that were tried again.",
}
"""Figures of ``ingest``, counted since its start."""


def _ingest_figures(folder: Path) -> Iterator[Metric]:
    """What each source's ingest last said of itself, every ten seconds while it runs."""
    waiting = GaugeMetricFamily(
        "sentiment_ingest_spooled_messages",
        "Posts on disk that Kafka has not acknowledged yet.",
        labels=["source"],
    )
    age = GaugeMetricFamily(
        "sentiment_ingest_age_seconds", "Since these figures were written.", labels=["source"]
    )
    totals = {
        name: CounterMetricFamily(f"sentiment_ingest_{name}", meaning, labels=["source"])
        for name, meaning in _INGEST_TOTALS.items()
    }
    for file in sorted(folder.glob("ingest-*.json")):
        source = [file.stem.removeprefix("ingest-")]
        try:
            figures = json.loads(file.read_text(encoding="utf-8"))
            waiting.add_metric(source, float(figures["spooled"]))
            age.add_metric(source, max(0.0, time.time() - figures["at"]))
            for name, total in totals.items():
                total.add_metric(source, float(figures[name]))
        except (OSError, ValueError, KeyError, TypeError):
            continue
    yield from (waiting, age, *totals.values())


def serve_metrics(settings: Settings, port: int) -> None:
    """Serve ``http://127.0.0.1:port/metrics`` from a thread until the process ends.

    Raises
    ------
    SetupError
        When the port is taken.
    """
    registry = CollectorRegistry()
    registry.register(StreamCollector(settings))
    try:
        start_http_server(port, addr=LOOPBACK, registry=registry)
    except OSError as error:
        raise SetupError(
            f"The metrics cannot be served at {LOOPBACK}:{port} ({error.strerror}).",
            "Set SENTIMENT_METRICS_PORT to a free port, or unset it.",
        ) from error
