"""An explicit stand-in for Sentiment140 where the real file is out of reach: made-up tweets in its format.

Belongs here: the file, with the traits of the real one: sorted by label, ids that occur with both labels,
repeated texts, HTML entities, mentions and links, no emoticons (they were the labels). Whoever shows a
result of it says that it is generated.
Does not belong here: the sentences (``grammar``) or the decision to use it (``choice``).
"""

import csv
import os
import tempfile
from collections.abc import Iterator
from datetime import datetime, timedelta
from pathlib import Path
from random import Random

from sentiment_assets.failures import SetupError
from sentiment_assets.settings import Settings
from sentiment_assets.sources.grammar import author, tweet

ROWS = 20_000
_REPEATED = 0.012
_CONFLICTING = 0.001

_FIRST_ID = 1_467_810_369
_FIRST_DATE = datetime(2009, 4, 6, 22, 19, 45)


def write(settings: Settings, *, rows: int = ROWS, seed: int | None = None) -> Path:
    """Write the sample to the downloads folder, or find it there; the same rows and seed give the same bytes.

    Parameters
    ----------
    settings
        Name the folder, and the seed if none is given.
    rows
        Number of tweets, half of each label (the one more, if odd, is positive).
    seed
        Seed of every choice.

    Raises
    ------
    SetupError
        When the folder cannot be written.
    """
    seed = settings.seed if seed is None else seed
    target = settings.downloads / f"generated-{rows}-{seed}.csv"
    if target.is_file():
        return target
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(
            "w", encoding="iso8859-1", newline="", dir=target.parent, prefix=".generated-", delete=False
        ) as file:
            try:
                csv.writer(file, quoting=csv.QUOTE_ALL, lineterminator="\n").writerows(tweets(rows, seed))
                file.flush()
                os.fsync(file.fileno())
                Path(file.name).replace(target)
            except BaseException:
                Path(file.name).unlink(missing_ok=True)
                raise
    except OSError as error:
        raise SetupError(
            f"The generated sample cannot be written to {target.parent} ({error.strerror or error}).",
            "Free some disk, make the folder writable, or point SENTIMENT_HOME at another folder.",
        ) from error
    return target


def tweets(rows: int, seed: int) -> Iterator[tuple[int, int, str, str, str, str]]:
    """Yield ``(target, id, date, flag, author, text)``, negatives first, as Sentiment140 is sorted.

    Parameters
    ----------
    rows, seed
        See :func:`write`.
    """
    random = Random(seed)  # noqa: S311 not for secrets
    negatives = rows // 2
    earlier: list[str] = []
    conflicts: list[tuple[int, str]] = []
    for index in range(rows):
        positive = index >= negatives
        identity = _FIRST_ID + 437 * index
        repeat = len(earlier) > 20 and random.random() < _REPEATED
        text = random.choice(earlier) if repeat else tweet(positive, random)
        if positive and conflicts and random.random() < 2 * _CONFLICTING:
            identity, text = conflicts.pop()
        elif not positive and random.random() < 2 * _CONFLICTING:
            conflicts.append((identity, text))
        earlier.append(text)
        moment = _FIRST_DATE + timedelta(seconds=61 * (index if not positive else index - negatives))
        yield (
            4 if positive else 0,
            identity,
            moment.strftime("%a %b %d %H:%M:%S PDT %Y"),
            "NO_QUERY",
            author(random),
            text,
        )
