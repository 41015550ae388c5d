"""Where data comes from, carried in each table's commits and from there into every model's manifest."""

import hashlib
import json
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Self

from sentiment_assets.failures import TableError
from sentiment_assets.settings import Settings
from sentiment_assets.spark.delta import open_existing, table_exists


@dataclass(frozen=True)
class Provenance:
    """What a table was made of.

    Parameters
    ----------
    data_version
        Digest of the content and of everything that shaped it (sample, seed, code).
    source_kind
        ``file``, ``published`` or ``generated``.
    source_file
        Name of the file, without its folder.
    source_note
        One sentence that every place showing a result repeats.
    sample
        Which rows of the source were used.
    test_fraction
        Share of the rows that were set aside for tests, once they were.
    seed
        Of that split; None in tables of older releases.
    """

    data_version: str
    source_kind: str
    source_file: str
    source_note: str
    sample: str
    test_fraction: float | None = None
    seed: int | None = None

    def derive(self, *ingredients: object) -> Self:
        """The provenance of a table made from this one by code and settings named by ``ingredients``."""
        digest = hashlib.sha256(json.dumps([self.data_version, *map(str, ingredients)]).encode())
        return replace(self, data_version=digest.hexdigest()[:16])

    def split_seed(self, settings: Settings) -> int:
        """Seed of the split: whether a model has seen these test rows depends on that."""
        return settings.seed if self.seed is None else self.seed

    def as_dict(self) -> dict[str, str]:
        """Plain JSON values."""
        return asdict(self)


def read_provenance(path: Path) -> Provenance:
    """Provenance of the newest commit of a Delta table that states it; starts no JVM.

    Raises
    ------
    TableError
        When the table is missing or was not written by an asset of ours.
    """
    if not table_exists(path):
        raise TableError(
            f"The table {path.name} does not exist.", "Materialize raw_tweets and the assets that follow it."
        )
    for commit in open_existing(path).history():
        stated = commit.get("userMetadata")
        if stated:
            return Provenance(**json.loads(stated)["provenance"])
    raise TableError(
        f"The table {path} does not say what it was made of.", "Materialize the assets again from raw_tweets."
    )


def same_provenance(train: Path, test: Path) -> Provenance:
    """Provenance of both parts of one split; starts no JVM.

    Raises
    ------
    TableError
        When one is missing, or they are parts of different splits: one may hold what the other has learned from.
    """
    provenance = read_provenance(train)
    if read_provenance(test).data_version != provenance.data_version:
        raise TableError(
            f"{train.name} and {test.name} are parts of different splits.",
            "Materialize both together, then what follows: `sentiment-assets train`.",
        )
    return provenance
