"""The main job: broker, Dagster with its UI, training if needed, the supervised stream, replay.

The story, top to bottom, is :func:`up`. Everything it starts it also ends; what ran before stays.
"""

import contextlib
import logging
import os
import signal
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from types import FrameType

from dagster import DagsterInstance
from rich.console import Console
from sqlalchemy.exc import OperationalError

from sentiment_assets.failures import BrokerError, SetupError, StreamError, TableError, disk_is_full
from sentiment_assets.kafka.broker import EmbeddedBroker
from sentiment_assets.kafka.client import ensure_topic
from sentiment_assets.kafka.cluster import BROKER, Cluster, find_cluster
from sentiment_assets.kafka.replay import ReplayResult, replay_file
from sentiment_assets.local import class_archive
from sentiment_assets.local.artefacts import Tweets
from sentiment_assets.local.figures import Figures, read_figures
from sentiment_assets.local.first_training import train_through_dagster
from sentiment_assets.local.instance import migrate_instance, open_instance
from sentiment_assets.local.live import LiveIngest, live_source
from sentiment_assets.local.services import DAEMON, NAMES, Services
from sentiment_assets.local.stopping import end_stream, reason_to_stay_down
from sentiment_assets.local.training import describe_model, plan, training_config
from sentiment_assets.models.store import ModelStore
from sentiment_assets.resources.orphans import fail_orphaned_runs
from sentiment_assets.runtime.instance import only_one
from sentiment_assets.runtime.jars import jar_paths
from sentiment_assets.runtime.java import find_java
from sentiment_assets.runtime.ports import reachable
from sentiment_assets.runtime.processes import reap_recorded
from sentiment_assets.settings import Settings, location, variable
from sentiment_assets.sources import TrainingSource, resolve
from sentiment_assets.sources.choice import SAMPLE
from sentiment_assets.sources.sentiment140 import inspect
from sentiment_assets.sources.sentiment140.rows import common_name
from sentiment_assets.streaming.metrics import serve_metrics
from sentiment_assets.streaming.serving import reason_not_to_serve

log = logging.getLogger(__name__)
_STREAM_STOP_SECONDS = 15
_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


@dataclass(frozen=True)
class UpOptions:
    """What a person asked of ``up``; see the command line for the meaning of each."""

    data: str | None = None
    rows: int | None = 200_000
    profile: str = "quick"
    messages: int | None = 20_000
    rate: float = 200.0
    port: int = 3000
    exit_when_drained: bool = False
    encoding: str | None = None
    source: str = "file"


@dataclass
class _Stop:
    """Set by Ctrl-C, SIGTERM or the end of the job; until :attr:`orderly`, a signal interrupts what is done.

    Parameters
    ----------
    started
        Names of the processes that are ours to end.
    terminals
        Those of standard output and error that were a terminal at first; one that is gone does not say that it was.
    """

    event: threading.Event = field(default_factory=threading.Event)
    orderly: bool = False
    hurried: bool = False
    asked: bool = False
    started: list[str] = field(default_factory=list)
    terminals: list[int] = field(default_factory=list)

    def handler(self, signum: int, _frame: FrameType | None) -> None:
        self.event.set()
        if signum == signal.SIGHUP:
            # The terminal is gone: what is printed on the way to the end must not fail.
            _print_nowhere(self.terminals)
            if self.asked:
                return
        again, self.asked = self.asked, True
        if again:
            # A second Ctrl-C ends at once; a third must not interrupt that.
            self.hurried = True
            for number in _SIGNALS:
                signal.signal(number, signal.SIG_IGN)
            raise KeyboardInterrupt
        if not self.orderly:
            # A download or the start of a process takes minutes at worst and can be dropped at any point.
            raise KeyboardInterrupt

    def wait(self, seconds: float) -> bool:
        return self.event.wait(seconds)

    def unless_hurried(self, orderly_end: Callable[[], object]) -> None:
        """End something in order, unless a second Ctrl-C asks for the end at once."""
        if not self.hurried:
            orderly_end()


def up(settings: Settings, options: UpOptions, console: Console) -> None:
    """Run the main job until it is interrupted, or drained with ``exit_when_drained``.

    Raises
    ------
    SentimentError
        With the cause and the next step, when a part cannot start or the training fails.
    """
    stop = _Stop()
    with (
        _signals(stop),
        only_one(settings, "up"),
        _all_ended(settings, stop),
        contextlib.ExitStack() as cleanup,
    ):
        settings.prepare()
        console.print(f"[bold]sentiment-assets[/] with its state in {settings.root}", highlight=False)
        source = resolve(settings, options.data, lambda text: console.print(f"  {text}", markup=False))
        console.print(f"data       {source.note}", markup=False, highlight=False)
        if source.kind == "file":
            # Seconds now instead of a failed run in a minute, or of messages that cannot be taken back.
            learns = reason_not_to_serve(ModelStore(settings.models)) is not None
            inspect(source.path, options.encoding or source.encoding, both_labels=learns)
        # A missing token is known before minutes go into a training.
        if options.source != "file":
            live_source(settings, options.source)
        java = find_java()
        for configuration in ("spark", "broker"):
            jar_paths(configuration, settings, lambda text: console.print(f"  {text}", markup=False))
        console.print(f"java       {java.version} and the verified jars")

        if settings.metrics_port is not None:
            serve_metrics(settings, settings.metrics_port)
            console.print(f"metrics    http://127.0.0.1:{settings.metrics_port}/metrics")
        services = Services(settings, options.port, env=_asked_for(options))
        services.claim_port()
        cluster, broker = _start_broker(settings, console, cleanup, stop)
        instance = cleanup.enter_context(open_instance(settings))
        migrate_instance(settings, instance)
        for run in fail_orphaned_runs(instance):
            console.print(
                f"           run {run.run_id[:8]} ({run.job_name}) of an earlier crash marked failed"
            )
        stop.started += [*NAMES, class_archive.NAME]
        cleanup.callback(stop.unless_hurried, lambda: _stop_services(settings, services, console))
        services.start(lambda text: console.print(f"dagster    {text}"))
        console.print(f"[bold]ui         {services.url}[/]  (lineage: {services.url}/asset-groups)")

        stop.orderly = True
        store = ModelStore(settings.models)
        if (reason := reason_not_to_serve(store)) is not None:
            console.print(f"training   {reason}", markup=False, highlight=False)
            _train(settings, options, source, services, instance, console, stop)
        if stop.event.is_set():
            return
        console.print(describe_model(settings), markup=False, highlight=False)
        producer = (
            _Replay(settings, options, source, cluster, stop.event)
            if options.source == "file"
            else LiveIngest(settings, options.source, options.messages, stop.event)
        )
        _stream(settings, options, producer, cluster, broker, services, instance, console, stop)


def _asked_for(options: UpOptions) -> dict[str, str]:
    """The options as settings: who retrains from the UI later means the same tweets."""
    asked = {"train_rows": "all" if options.rows is None else str(options.rows)}
    if options.encoding is not None:
        asked["encoding"] = common_name(options.encoding)
    if options.data is not None:
        asked["data"] = options.data if options.data == SAMPLE else str(location(options.data))
    return {variable(field): value for field, value in asked.items()}


def _start_broker(
    settings: Settings, console: Console, cleanup: contextlib.ExitStack, stop: _Stop
) -> tuple[Cluster, EmbeddedBroker | None]:
    """Use the configured cluster or a running broker, else start the embedded one.

    Returns
    -------
    tuple
        The cluster, and the embedded broker if that is used.
    """
    found = find_cluster(settings)
    if found is not None and settings.kafka_bootstrap:
        ensure_topic(found, settings.topic, settings.topic_partitions)
        console.print(f"kafka      {found} (yours, {found.security()}), topic {settings.topic}", markup=False)
        return found, None
    broker = EmbeddedBroker(settings)
    if not broker.status().running:
        stop.started.append(BROKER)
        cleanup.callback(stop.unless_hurried, broker.stop)
    status = broker.start()
    if status.bootstrap is None:
        raise BrokerError(
            "The embedded broker ended as soon as it was ready.", "Run `sentiment-assets doctor`."
        )
    console.print(f"kafka      {status.bootstrap} (embedded), topic {settings.topic}")
    return Cluster(status.bootstrap), broker


def _train(
    settings: Settings,
    options: UpOptions,
    source: TrainingSource,
    services: Services,
    instance: DagsterInstance,
    console: Console,
    stop: _Stop,
) -> None:
    """Train through Dagster, as a person would from the UI, and show each step."""
    if options.rows is not None:
        console.print(
            f"training   on a seeded sample of at most {options.rows:,} rows (--rows all for every row), "
            f"profile {options.profile}"
        )
    decided = plan(
        settings,
        instance,
        Tweets(SAMPLE if source.generated else options.data, options.rows, options.encoding),
        profile=options.profile,
        console=console,
    )
    train_through_dagster(
        instance,
        ModelStore(settings.models),
        host=reachable(settings.ui_host),
        port=services.port,
        profile=options.profile,
        run_config=training_config(source, options.data, options.rows, options.encoding),
        assets=list(decided.train),
        console=console,
        wait=stop.wait,
        meanwhile=services.restart_dead,
    )


def _stream(
    settings: Settings,
    options: UpOptions,
    producer: "_Replay | LiveIngest",
    cluster: Cluster,
    broker: EmbeddedBroker | None,
    services: Services,
    instance: DagsterInstance,
    console: Console,
    stop: _Stop,
) -> None:
    """Bring posts into the topic and show live figures while the sensor keeps the stream alive."""
    console.print(
        "stream     the sensor starts it by itself; the first scored rows follow in about half a minute"
    )
    producer.start()
    shown = 0.0
    figures: Figures | None = None
    archiving = class_archive.Aside(settings)
    try:
        while not stop.wait(1.0):
            try:
                looked = time.monotonic()
                producer.check()
                _start_again(services, broker, console)
                try:
                    fail_orphaned_runs(instance)
                except OperationalError as error:
                    # A full disk, for one: the next look may succeed, and what runs is better left running.
                    console.print(
                        f"dagster    its database does not answer ({error.orig}); tried again", style="yellow"
                    )
                try:
                    figures = read_figures(settings, cluster)
                except TableError as error:
                    # The stream may well go on: what cannot be shown is no reason to end it.
                    if time.monotonic() - shown >= 5:
                        shown = time.monotonic()
                        console.print(
                            f"figures    {error.what} They are looked for again.",
                            style="yellow",
                            markup=False,
                        )
                    continue
                if looked - shown >= 5 or (figures.drained and options.exit_when_drained):
                    shown = looked
                    console.print(
                        f"live       {producer.text} · {figures.text}", markup=False, highlight=False
                    )
                if figures.scored:
                    archiving.begin()
                if options.exit_when_drained and producer.finished and figures.drained:
                    console.print("drained    every message is scored or a dead letter", style="bold green")
                    return
                if shown == looked and (reason := _reason_to_stay_down(settings, instance)) is not None:
                    console.print(f"stream     {reason}", style="yellow", markup=False, highlight=False)
                    if options.exit_when_drained:
                        raise StreamError(reason, "Nothing is drained before that.")
            except (OSError, SetupError, BrokerError) as error:
                if not disk_is_full(error):
                    raise
                # The console may be a file on the same disk.
                with contextlib.suppress(OSError):
                    console.print("disk       full; what died is started when there is room", style="yellow")
    finally:
        stop.event.set()
        archiving.end()
        producer.join(timeout=15)


def _reason_to_stay_down(settings: Settings, instance: DagsterInstance) -> str | None:
    with contextlib.suppress(OperationalError):
        return reason_to_stay_down(settings, instance)
    return None


def _start_again(services: Services, broker: EmbeddedBroker | None, console: Console) -> None:
    for name in services.restart_dead():
        console.print(f"dagster    {name} had died; started again", style="yellow")
    if broker is not None and not broker.status().running:
        # It keeps its port and its data; producers and the stream ride out the seconds in between.
        broker.start()
        console.print("kafka      the broker had died; started again", style="yellow")


class _Replay(threading.Thread):
    """Produces the messages in the background; its failure is raised by :meth:`check`."""

    def __init__(
        self,
        settings: Settings,
        options: UpOptions,
        source: TrainingSource,
        cluster: Cluster,
        stop: threading.Event,
    ) -> None:
        super().__init__(name="replay", daemon=True)
        self._settings, self._options, self._source = settings, options, source
        self._cluster, self._stop_event = cluster, stop
        self._messages = options.messages or 0
        self._sent = 0
        self._error: Exception | None = None
        self._result: ReplayResult | None = None

    @property
    def text(self) -> str:
        """How far the replay is."""
        return f"replayed {self._sent:,} of {self._messages:,}"

    @property
    def finished(self) -> bool:
        """Whether every message was delivered."""
        return self._messages == 0 or self._result is not None

    def check(self) -> None:
        """Raise what went wrong in the thread, if anything did."""
        if self._error is not None:
            raise self._error

    def run(self) -> None:
        """Deliver ``messages`` tweets of the source file, shuffled."""
        if self._messages == 0:
            return
        try:
            self._result = replay_file(
                self._source.path,
                self._cluster,
                self._settings.topic,
                encoding=self._options.encoding or self._source.encoding,
                rate=self._options.rate,
                limit=self._messages,
                seed=self._settings.seed,
                on_progress=self._on_progress,
                stop=self._stop_event,
                # `up` starts a broker of its own again, and one of a person's may be away for an hour.
                delivery_seconds=None,
            )
        except Exception as error:
            self._error = error

    def _on_progress(self, sent: int) -> None:
        self._sent = sent


def _stop_services(settings: Settings, services: Services, console: Console) -> None:
    """End the daemon, let the stream finish its batch, then end the rest."""
    console.print("stopping   … (Ctrl-C again ends at once, without waiting for the batch)")
    # The daemon first, so that its sensor launches nothing new; while it ends the stream finishes its batch.
    services.ask_to_end(DAEMON)
    end_stream(settings, "the main job ends", _STREAM_STOP_SECONDS)
    services.stop()
    console.print("stopped")


def _print_nowhere(descriptors: Iterable[int]) -> None:
    """Send what is printed there to nowhere."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    for descriptor in descriptors:
        os.dup2(nowhere, descriptor)
    os.close(nowhere)


@contextlib.contextmanager
def _all_ended(settings: Settings, stop: _Stop) -> Iterator[None]:
    """After a second Ctrl-C kill what was started: an interrupted orderly stop leaves nothing running either."""
    try:
        yield
    finally:
        if stop.hurried:
            reap_recorded(settings, stop.started, grace_seconds=0)


@contextlib.contextmanager
def _signals(stop: _Stop) -> Iterator[None]:
    """Ctrl-C, SIGTERM and the end of the terminal ask for an orderly stop; ``nohup`` keeps the last one off."""
    stop.terminals += [descriptor for descriptor in (1, 2) if os.isatty(descriptor)]
    heeded = [number for number in _SIGNALS if signal.getsignal(number) is not signal.SIG_IGN]
    before = {number: signal.signal(number, stop.handler) for number in heeded}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
