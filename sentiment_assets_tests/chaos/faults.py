"""What is done to a running product, and how one sees that it is back.

Each fault takes the world, hurts it, and returns when service began to be possible again (seconds since the epoch:
the time to recover counts from there) and the condition that says that it is back.
"""

import os
import signal
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from sentiment_assets.kafka.broker import EmbeddedBroker
from sentiment_assets.kafka.cluster import BROKER
from sentiment_assets.local.services import CODE_SERVER, DAEMON
from sentiment_assets.runtime.processes import read_record, recorded_process
from sentiment_assets_tests.chaos.world import World

PAUSE_SECONDS = 60.0
FULL_SECONDS = 20.0


@dataclass(frozen=True)
class Injected:
    """When the recovery began, and whether it is over."""

    at: float
    is_back: Callable[[], bool]
    told: str = ""


def kill_run_worker(world: World) -> Injected:
    """SIGKILL of the process that executes the streaming run."""
    victim = world.heartbeat()
    at = time.time()
    os.kill(victim.pid, signal.SIGKILL)
    return Injected(at, lambda: world.scores(not_pid=victim.pid))


def kill_code_server(world: World) -> Injected:
    """SIGKILL of Dagster's code server."""
    return _kill_service(world, CODE_SERVER)


def kill_daemon(world: World) -> Injected:
    """SIGKILL of Dagster's daemon."""
    return _kill_service(world, DAEMON)


def kill_broker(world: World) -> Injected:
    """SIGKILL of the Kafka broker."""
    killed = _kill_service(world, BROKER)
    return Injected(killed.at, lambda: killed.is_back() and _commits_after(world, killed.at + 1))


def kill_everything(world: World) -> Injected:
    """SIGKILL of every process, broker included, and `up` again."""
    world.heartbeat()
    at = time.time()
    count = world.kill_everything()
    world.start()
    return Injected(at, world.scores, f"{count} processes killed")


def pause_broker(world: World) -> Injected:
    """SIGSTOP of the broker for 60 s; recovery counts from its SIGCONT."""
    world.heartbeat()
    pid = EmbeddedBroker(world.settings).status().pid
    assert pid is not None
    os.kill(pid, signal.SIGSTOP)
    try:
        threading.Event().wait(PAUSE_SECONDS)
    finally:
        os.kill(pid, signal.SIGCONT)
    at = time.time()
    return Injected(at, lambda: _commits_after(world, at))


def fill_disk(world: World) -> Injected:
    """The file system of SENTIMENT_HOME is full for 20 s; recovery counts from the moment there is room again.

    Only for a home on a file system of its own, a small tmpfs (see ``__main__``): a whole machine is not filled.
    """
    world.heartbeat()
    ballast = world.settings.root / "ballast"
    try:
        with ballast.open("wb", buffering=0) as file:
            deadline = time.monotonic() + FULL_SECONDS
            while time.monotonic() < deadline:
                try:
                    file.write(b"\0" * 2**16)
                except OSError:
                    threading.Event().wait(0.2)
    finally:
        ballast.unlink()
    at = time.time()
    return Injected(at, lambda: _commits_after(world, at))


def corrupt_checkpoint(world: World) -> Injected:
    """SIGKILL of the run's process, and the newest file of its checkpoint is cut in half."""
    victim = world.heartbeat()
    at = time.time()
    os.kill(victim.pid, signal.SIGKILL)
    world.wait_until(
        lambda: victim.jvm_pid is None or not Path(f"/proc/{victim.jvm_pid}").exists(), 15, "it is gone"
    )
    folder = world.settings.checkpoints / "predictions"
    files = [file for name in ("offsets", "commits") for file in (folder / name).glob("[0-9]*")]
    newest = max(files, key=lambda file: file.stat().st_mtime_ns)
    content = newest.read_bytes()
    newest.write_bytes(content[: len(content) // 2])
    return Injected(
        at, lambda: world.scores(not_pid=victim.pid), f"damaged {newest.parent.name}/{newest.name}"
    )


def second_writer(world: World) -> Injected:
    """`sentiment-assets stream` in the same home while the stream runs."""
    world.heartbeat()
    at = time.time()
    answer = world.command("stream", "--lease-seconds", "20")
    refused = answer.returncode == 1 and "Another stream writes" in answer.stderr
    if not refused:
        raise AssertionError(f"A second writer was not refused: {answer.returncode} {answer.stderr}")
    return Injected(at, lambda: _commits_after(world, at), answer.stderr.strip())


def stop_stream_jvm(world: World) -> Injected:
    """SIGSTOP of the streaming run's JVM: the run is alive and does nothing."""
    victim = world.heartbeat()
    assert victim.jvm_pid is not None
    at = time.time()
    os.kill(victim.jvm_pid, signal.SIGSTOP)
    return Injected(at, lambda: world.scores(not_pid=victim.pid))


def move_home(world: World) -> Injected:
    """`up` is stopped, SENTIMENT_HOME is renamed, and `up` is started there; recovery counts from the start."""
    world.heartbeat()
    seconds = world.stop()
    here = world.settings.root
    world.move(here.with_name("home" if here.name != "home" else "moved home"))
    at = time.time()
    world.start()
    return Injected(at, world.scores, f"stopped in {seconds:.0f} s, moved to {world.settings.root.name}")


FAULTS: dict[str, Callable[[World], Injected]] = {
    "run worker": kill_run_worker,
    "code server": kill_code_server,
    "daemon": kill_daemon,
    "broker": kill_broker,
    "everything": kill_everything,
    "broker paused": pause_broker,
    "disk full": fill_disk,
    "checkpoint": corrupt_checkpoint,
    "second writer": second_writer,
    "run stuck": stop_stream_jvm,
    "home moved": move_home,
}


def _kill_service(world: World, name: str) -> Injected:
    world.heartbeat()
    process = recorded_process(read_record(world.settings, name))
    assert process is not None
    at = time.time()
    process.kill()

    def is_back() -> bool:
        record = read_record(world.settings, name)
        ready = record is not None and (name != BROKER or "ready" in record.facts)
        return (
            ready
            and record is not None
            and record.pid != process.pid
            and recorded_process(record) is not None
        )

    return Injected(at, is_back)


def _commits_after(world: World, moment: float) -> bool:
    return any(commit > moment for commit in world.commits()[-3:])
