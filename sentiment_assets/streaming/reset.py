"""Start the stream over: topic position, checkpoint and tables are removed as one unit.

Does not belong here: verifying that they belong together (``pairing``).
"""

import contextlib

from sentiment_assets.failures import StreamError
from sentiment_assets.runtime.files import remove_folder, replace_file
from sentiment_assets.schemas import DEAD_LETTERS, PREDICTIONS
from sentiment_assets.settings import Settings
from sentiment_assets.spark.delta import writer_lock
from sentiment_assets.streaming.exclusive import exclude_streams

_MARKER = "stream.reset"


def reset_stream(settings: Settings) -> None:
    """Remove the stream's checkpoints, predictions and dead letters; the next lease scores the whole topic.

    A reset that was killed half-way is finished by the next lease, or by the next reset.

    Raises
    ------
    StreamError
        When a stream runs, or a file cannot be removed.
    TableError
        When another process writes a table.
    """
    with contextlib.ExitStack() as alone:
        alone.enter_context(exclude_streams(settings))
        for table in (PREDICTIONS, DEAD_LETTERS):
            # A stream whose JVM is gone may still merge files.
            alone.enter_context(writer_lock(settings.table(table.name)))
        try:
            replace_file(settings.run / _MARKER, "")
        except OSError as error:
            raise StreamError(
                f"The reset cannot begin: {settings.run} cannot be written ({error.strerror}).",
                "Make SENTIMENT_HOME writable or free some disk, then run it again; nothing was removed.",
            ) from error
        _remove(settings)


def finish_reset(settings: Settings) -> None:
    """Finish a reset that was killed half-way; only the holder of the stream lock may call it.

    Raises
    ------
    StreamError
        When a file cannot be removed.
    """
    if (settings.run / _MARKER).exists():
        _remove(settings)


def _remove(settings: Settings) -> None:
    folders = (
        settings.checkpoints,
        settings.root / "staging",
        settings.table(PREDICTIONS.name),
        settings.table(DEAD_LETTERS.name),
    )
    try:
        for folder in folders:
            remove_folder(folder)
        settings.checkpoints.mkdir(parents=True, exist_ok=True)
        (settings.run / _MARKER).unlink()
    except OSError as error:
        raise StreamError(
            f"The stream's files could not all be removed ({error.strerror}: {error.filename}).",
            "Mend that and run `sentiment-assets reset --stream` again; until then no stream starts.",
        ) from error
