"""One instance a home: two `make run` beside each other would train, promote and stream into the same tables.

Belongs here: the lock. Does not belong here: what the one instance does.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager

from filelock import FileLock, Timeout

from sentiment_assets.failures import SetupError
from sentiment_assets.settings import Settings


@contextmanager
def only_one(settings: Settings, what: str) -> Iterator[None]:
    """Hold the lock ``run/<what>.lock`` of this home; it ends with the process, however that ends.

    Parameters
    ----------
    what
        Name of the activity: ``"up"``.

    Raises
    ------
    SetupError
        When another process holds it; names its pid.
    """
    path = settings.run / f"{what}.lock"
    owner = settings.run / f"{what}.owner"
    lock = FileLock(path, timeout=0)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        lock.acquire()
    except Timeout:
        pid = owner.read_text(encoding="utf-8").strip() if owner.is_file() else "unknown"
        raise SetupError(
            f"Another `sentiment-assets {what}` uses the home {settings.root} (pid {pid}).",
            "Stop it with Ctrl-C in its terminal, or give this one another SENTIMENT_HOME.",
        ) from None
    except OSError as error:
        raise SetupError(
            f"The lock {path} cannot be used ({error.strerror}).",
            "Point SENTIMENT_HOME at a folder that can be written.",
        ) from error
    try:
        owner.write_text(str(os.getpid()), encoding="utf-8")
        yield
    finally:
        owner.unlink(missing_ok=True)
        lock.release()
