"""The proof that a compiled model scores like the pipeline it was made from: on given texts and on hostile ones.

Belongs here: the comparison, and texts that try to break it. Does not belong here: what follows from it
(``streaming.compilation``).
"""

import random
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from pyspark.ml import PipelineModel
from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from sentiment_assets.spark.compiled.model import CompiledModel
from sentiment_assets.spark.scoring import THRESHOLD, score

TOLERANCE = 1e-6
"""Largest difference of P(positive); sums in another order differ by some 1e-15."""

HOSTILE_TEXTS = 2_000
_LONG = 20_000
_SURROGATES = range(0xD800, 0xE000)

_FRAGMENTS = (
    *(
        " ",
        "  ",
        "\t",
        "\n",
        "\r\n",
        "\x0b",
        "\x1c",
        "\x85",
        "\xa0",
        "\u200b",
        "\u200d",
        "\u2028",
        "\u3000",
        "\ufeff",
    ),
    *(
        "&",
        "&amp;",
        "&amp;amp;lt;",
        "&lt;url&gt;",
        "&quot;",
        "&#39;",
        "&apos;",
        "&nbsp;",
        "&amp",
        "&amp;nbsp;",
    ),
    *("http://", "https://t.co/a?b=@c", "www.", "WWW.x.y", "http:/", "httphttp://z", "HTTPS://A", "w", "h"),
    *(
        "@",
        "@a",
        "@A_9",
        "@@b",
        "@http://c",
        "@xhttps://d",
        "@wwww.e",
        "<url>",
        "<user>",
        "<urll>",
        "<<user>>",
        "<",
    ),
    *(
        "not",
        "no",
        "never",
        "don't",
        "can\u2019t",
        "n't",
        "\U0001d41an't",
        "'",
        "''",
        "rock'n'roll",
        "a'",
        "'b",
    ),
    *(
        ".",
        "!",
        "?",
        ",",
        ";",
        ":",
        "-",
        "but",
        "BUT",
        "...",
        "\u2026",
        "\u201cq\u201d",
        "<s>",
        "</s>",
        "not:",
        "last:",
    ),
    *(
        "\u0130",
        "\u0131",
        "\u03a3",
        "\u03c3\u03a3 ",
        "\xdf",
        "\u1e9e",
        "\ufb01",
        "\u01c5",
        "\u212a",
        "\U00010400",
    ),
    *(
        "\U0001f600",
        "\U0001f468\u200d\U0001f469\u200d\U0001f467",
        "\U0001f1e9\U0001f1ea",
        "\u2764\ufe0f",
        "\U0001f44d\U0001f3fd",
    ),
    *(
        "\U0001d41a",
        "\U0001d41a\U0001d41b",
        "\U0001d7d8",
        "\u0301",
        "e\u0301",
        "\u0e01\u0e33",
        "\u0661",
        "\xbd",
        "\u2163",
    ),
    *(
        "\x00",
        "\x01",
        "\x7f",
        "\u202e",
        "\ufffd",
        "\ufffe",
        "\U0010ffff",
        "\ue000",
        "_",
        "__",
        "a_b",
        "1st",
        "?",
    ),
)


@dataclass(frozen=True)
class Agreement:
    """How far two scorers of the same texts are apart.

    Attributes
    ----------
    rows
        Texts compared.
    labels_differ
        Texts that get another label, or no number at all from one of the two.
    max_difference
        Largest difference of P(positive).
    """

    rows: int
    labels_differ: int
    max_difference: float

    @property
    def holds(self) -> bool:
        """Whether the compiled model may stand in for the pipeline."""
        return self.rows > 0 and self.labels_differ == 0 and self.max_difference < TOLERANCE


def compare(pipeline: PipelineModel, compiled: CompiledModel, texts: DataFrame) -> Agreement:
    """Score ``texts`` (column ``text``) both ways, in one pass.

    Raises
    ------
    PySparkException
        When one of the two cannot score at all.
    """
    reference = score(pipeline, texts.select("text")).withColumnRenamed("probability", "reference")
    table = score(compiled, reference).select("reference", F.col("probability")).toArrow()
    expected, found = (table[name].to_numpy() for name in ("reference", "probability"))
    numbers = np.isfinite(expected) & np.isfinite(found)
    same = numbers & ((expected > THRESHOLD) == (found > THRESHOLD))
    difference = np.abs(expected - found)[numbers]
    return Agreement(len(found), int((~same).sum()), float(difference.max(initial=0.0)))


def hostile_texts(words: Sequence[str], *, seed: int, count: int = HOSTILE_TEXTS) -> list[str | None]:
    """Made-up texts of every script, control characters, entities, links and runs, between words the model knows.

    Parameters
    ----------
    words
        Terms of the model: texts without any would all get the same score.
    seed
        Of the draw; the same seed gives the same texts.
    count
        Short texts; beside them stand null, the empty text and some of 20,000 characters.
    """
    draw = random.Random(seed)  # noqa: S311  no secret depends on it

    def character() -> str:
        # Half of them where scripts are dense, half anywhere.
        code = draw.randrange(0x3000) if draw.random() < 0.5 else draw.randrange(0x110000)
        return "" if code in _SURROGATES else chr(code)

    def part() -> str:
        kind = draw.random()
        if kind < 0.4:
            return draw.choice(words) if words else ""
        if kind < 0.75:
            return draw.choice(_FRAGMENTS)
        if kind < 0.85:
            return draw.choice(_FRAGMENTS) * draw.randrange(2, 6)
        return character() * draw.choice((1, 1, 2, 3, 4))

    def text(parts: int) -> str:
        return "".join(part() + draw.choice(("", " ", " ", " ")) for _ in range(parts))

    long = [
        "".join(text(500) for _ in range(8))[:_LONG],
        "a" * _LONG,
        "! ? " * (_LONG // 4),
        "\U0001f600" * (_LONG // 2),
        "@a www." * (_LONG // 7),
        "not good, but " * (_LONG // 14),
    ]
    return [None, "", " ", *long, *(text(draw.randrange(1, 40)) for _ in range(count))]
