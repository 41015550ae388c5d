"""What the compiled reader says of a message is what Spark's plan says of it, or nothing."""

import contextlib
import json
import random
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pyspark.errors import PySparkException
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from sentiment_assets.failures import StreamError
from sentiment_assets.lake.commits import Appender
from sentiment_assets.lake.opening import open_table
from sentiment_assets.schemas import PREDICTIONS
from sentiment_assets.settings import Settings
from sentiment_assets.spark.characters import ENTITIES, TYPOGRAPHY
from sentiment_assets.spark.compiled.agreement import hostile_texts
from sentiment_assets.spark.compiled.worker import Plain, reader, use_cache
from sentiment_assets.spark.delta import ensure_table
from sentiment_assets.spark.text import LOWER, lowered
from sentiment_assets.streaming import scored_files, writing
from sentiment_assets.streaming import sink as streaming_sink
from sentiment_assets.streaming.parsing import parse
from sentiment_assets.streaming.progress import Batch
from sentiment_assets.streaming.query import planned, predictions
from sentiment_assets.streaming.scored_files import Written
from sentiment_assets.streaming.serving import Served
from sentiment_assets.streaming.writing import scoring_by_workers, with_readers, write_files
from sentiment_assets_tests.spark.test_compiled import compiled, fitted
from sentiment_assets_tests.spark.test_parsing import DEAD, FIELDS, GOOD, kafka_rows

pytestmark = pytest.mark.spark

_PLAIN: dict[str, bytes] = {
    "as the replay writes it": (
        b'{"id": "1", "text": "So SAD", "created_at": "2009-04-10T09:31:04Z", "author": "ann", '
        b'"author_id": null, "lang": "en", "source": "replay"}'
    ),
    "without spaces": b'{"text":"hi","n":-1.5e+3,"t":true,"f":false}',
    "white space everywhere": b' \t{ "text" :\r\n "hi" , "id" : null } \n',
    "escapes": rb'{"text":"a\"b\\c\/d\be\ff\ng\rh\ti","id":"\"","author":"\\"}',
    "message": b'{"message":"hi"}',
    "message for a null text": b'{"message":"hi","text":null}',
    "a name that begins like another": b'{"texts":"no","tex":"no","i":"no","text":"hi"}',
    "ampersands that are no entity": b'{"text":"R&B & B&Co &"}',
    "digits": b'{"text":"5","id":"007"}',
    "like another type": b'{"text":"[1]","message":"{}"}',
    "leap day": b'{"text":"hi","created_at":"2000-02-29 23:59:59.123456Z"}',
    "entities": b'{"text":"&lt;3 &amp;amp;lt; R&amp;B &QUOT; &quot;a&#39;b&apos;&nbsp;&amp"}',
    "a code point": rb'{"text":"\u0041\u00e9 \u201CNO\u201D \ud83d\uDE00\u0026lt;3","author":"\u00C9"}',
    "other alphabets": '{"text":"CAF\xc9 \u041f\u0420\u0418\u0412 \u3042 \uac00 \U0001f600\u2026"}'.encode(),
    "an emoji elsewhere": '{"text":"hi","x":"\U0001f600","\xe9":1,"id":"\xe9","author":"\U0001f600"}'.encode(),
    "white space in front": b'{"text":" \\n hi"}',
    "control characters": rb'{"text":"\u0000\u001F\u0085\u007f","id":"\u0000"}',
    "the last of ASCII": b'{"text":"\x7f","id":"\x7f"}',
    "control characters and white space": rb'{"text":"\u001c\u000b"}',
    "an id of digits": b'{"id":123456789012345678,"text":"hi"}',
    "an id of naught": b'{"id":0,"text":"hi"}',
    "a hundred names": json.dumps({"text": "hi"} | {f"n{n}": n for n in range(99)}).encode(),
    "one decimal": b'{"text":"hi","created_at":"1970-01-01T00:00:00.5Z"}',
}
_NOT_PLAIN: dict[str, bytes] = {
    "more than a hundred names": json.dumps({"text": "hi"} | {f"n{n}": n for n in range(100)}).encode(),
    "half a character": rb'{"text":"\ud83d"}',
    "the second half": rb'{"text":"\ude00\ud83d"}',
    "half a character and an escape": rb'{"text":"\ud83d\n"}',
    "a code point of three digits": rb'{"text":"\u12"}',
    "a code point elsewhere": rb'{"text":"hi","x":"\ud83d"}',
    "a letter of two in lower case": '{"text":"\u0130"}'.encode(),
    "a letter that minds its place": '{"text":"\u03a3"}'.encode(),
    "a letter that grows": '{"text":"\u023a"}'.encode(),
    "an unknown letter": '{"text":"\U000e0041"}'.encode(),
    "not UTF-8": b'{"text":"caf\xe9"}',
    "not UTF-8 elsewhere": b'{"text":"hi","\xc3":"\xc0\xaf"}',
    "half a pair as UTF-8": b'{"text":"\xed\xa0\xbd"}',
    "nothing but white space": rb'{"text":" \t\u000b"}',
    "white space of ASCII alone": rb'{"text":" \u000b\f"}',
    "an id that is negative": b'{"id":-1,"text":"hi"}',
    "an id of many digits": b'{"id":1234567890123456789,"text":"hi"}',
    "an id with decimals": b'{"id":1.0,"text":"hi"}',
    "an author of digits": b'{"author":1,"text":"hi"}',
    "another zone": b'{"text":"hi","created_at":"2009-04-10T09:31:04+00:00"}',
    "no leap year": b'{"text":"hi","created_at":"1900-02-29T00:00:00Z"}',
    "a day of April": b'{"text":"hi","created_at":"2009-04-31T00:00:00Z"}',
    "a leap second": b'{"text":"hi","created_at":"2016-12-31T23:59:60Z"}',
    "a point without decimals": b'{"text":"hi","created_at":"2009-04-10T09:31:04.Z"}',
    "a field twice": b'{"id":"1","id":"2","text":"hi"}',
    "nesting": b'{"text":"hi","x":{}}',
    "a comma too many": b'{"text":"hi",}',
    "a number that is none": b'{"text":"hi","x":01}',
    "another number that is none": b'{"text":"hi","x":1.}',
    "a word that is none": b'{"text":"hi","x":nul}',
    "something behind": b'{"text":"hi"} x',
    "nothing": b"{}",
    "no end": b'{"text":"hi"',
    "an escape at the end": b'{"text":"hi\\',
}


def read(settings: Settings, values: list[bytes | None]) -> Plain:
    found: Plain = reader(str(settings.kernel_cache))(pa.array(values, pa.binary()))
    return found


def test_what_producers_write_is_plain_and_what_leaves_a_doubt_is_not(settings: Settings) -> None:
    values: list[bytes | None] = [*_PLAIN.values(), *_NOT_PLAIN.values()]
    found = read(settings, values)
    assert dict(zip([*_PLAIN, *_NOT_PLAIN], found.plain, strict=True)) == {
        **dict.fromkeys(_PLAIN, True),
        **dict.fromkeys(_NOT_PLAIN, False),
    }
    assert found.count == len(_PLAIN) == len(found.texts)


def test_of_a_plain_message_the_reader_says_what_spark_says(spark: SparkSession, settings: Settings) -> None:
    values: list[bytes | None] = [*_PLAIN.values(), *_NOT_PLAIN.values()]
    values += [value for value, _ in DEAD.values()] + [value for value, _ in GOOD.values()]
    values += [json.dumps({"text": "hi", field: value}).encode() for field, value, _ in FIELDS]
    values += [json.dumps({"text": text, "id": text[:9], "author": text[-3:]}).encode() for text in _texts()]
    values += [
        json.dumps({"text": text, "id": text[:9], "author": text[-3:]}, ensure_ascii=False).encode(
            "utf-8", "replace"
        )
        for text in _texts()
    ]
    values += [
        _mutated(value, number) for number, value in enumerate(values * 3) if value and len(value) < 2_000
    ]
    found = read(settings, values)
    assert found.count > 4_000
    rows = (
        parse(kafka_rows(spark, values))
        .selectExpr("*", *lowered())
        .orderBy("offset")
        .select("reason", "tweet_id", "author", F.unix_micros("created_at").alias("micros"), "text", LOWER)
        .collect()
    )
    expected = [tuple(row) for row, plain in zip(rows, found.plain, strict=True) if plain]
    micros = found.times.view(pa.int64()).to_pylist()
    said = zip(
        [None] * found.count,
        found.ids.to_pylist(),
        found.authors.to_pylist(),
        micros,
        found.texts.to_pylist(),
        found.lowered.to_pylist(),
        strict=True,
    )
    assert list(said) == expected


def test_lower_case_of_each_character_is_what_spark_makes_of_it(
    spark: SparkSession, settings: Settings
) -> None:
    use_cache(str(settings.kernel_cache))
    from sentiment_assets.spark.compiled.messages import lower_cases

    codes = np.flatnonzero(lower_cases())
    assert len(codes) > 50_000
    # Behind a letter, a digit and another of the same, where a rule that minds the place would show.
    texts = [f"{chr(code)}a {chr(code)}{chr(code)} A{chr(code)} 1{chr(code)}." for code in codes]
    values: list[bytes | None] = [json.dumps({"text": text}, ensure_ascii=False).encode() for text in texts]
    found = read(settings, values)
    assert found.count == len(texts)
    rows = spark.createDataFrame(
        [(n, text) for n, text in enumerate(texts)], "n INT, text STRING"
    ).selectExpr("n", *lowered())
    expected = [row[LOWER] for row in rows.orderBy("n").select(LOWER).collect()]
    assert found.lowered.to_pylist() == expected


def test_a_language_with_a_lower_case_of_its_own_leaves_all_messages_to_spark(
    spark: SparkSession, settings: Settings, served: Served
) -> None:
    """In a Turkish JVM Spark makes another letter of "I" than workers do, whose lower case is Unicode's own."""
    served = replace(served, read_by_workers=False)
    locale = spark._jvm.java.util.Locale
    before = locale.getDefault()
    assert before.getLanguage() == "en"
    assert with_readers(spark, settings, served).read_by_workers
    locale.setDefault(locale.forLanguageTag("tr-TR"))
    try:
        (row,) = spark.createDataFrame([("I \U0001f600",)], "text STRING").selectExpr(*lowered()).collect()
        assert row[LOWER] != "i \U0001f600"
        assert not with_readers(spark, settings, served).read_by_workers
    finally:
        locale.setDefault(before)


def test_what_stands_for_characters_is_of_the_kind_that_the_reader_takes() -> None:
    for entity, character in ENTITIES:
        assert (entity[0], entity.isascii()) == ("&", True)
        assert (len(character), character.isascii()) == (1, True)
    for typographic, plain in TYPOGRAPHY:
        assert (len(set(plain)), plain.isascii()) == (1, True)
        assert len(plain) <= len(typographic.encode())
        assert not any(plain[0] in entity for entity, _ in ENTITIES)


def _texts() -> list[str]:
    chance = random.Random(1)
    words = [
        "so",
        "SAD",
        "R&B",
        "it's",
        '"quoted"',
        "back\\slash",
        "http://t.co/A",
        "@You",
        "a\tb",
        "x\ny",
        ":)",
    ]
    plain = [" ".join(chance.choices(words, k=chance.randint(1, 12))) for _ in range(1_500)]
    return [*plain, *filter(None, hostile_texts(["love", "not"], seed=2)[:300])]


def _mutated(value: bytes, number: int) -> bytes:
    """One byte replaced, removed or doubled."""
    chance = random.Random(number)
    place = chance.randrange(len(value))
    new = chance.choice(
        [
            b"",
            value[place : place + 1] * 2,
            bytes([chance.choice(b'{}[]",:\\ 019tfn-.eE+&;uUD\x00\x7f\x80\x9f\xc3\xed\xf0')]),
        ]
    )
    return value[:place] + new + value[place + 1 :]


@pytest.fixture(scope="module")
def served(
    labelled: DataFrame, session_settings: Settings, tmp_path_factory: pytest.TempPathFactory
) -> Served:
    tables = tmp_path_factory.mktemp("compiled") / "tables"
    model = compiled(fitted(labelled, "logistic_regression"), tables, session_settings)
    return Served("20240101-000000-made-up", model, "compiled", 0.2, read_by_workers=True)


@pytest.fixture
def table(tmp_path: Path) -> Path:
    folder = tmp_path / "table"
    folder.mkdir()
    return folder


def _messages(spark: SparkSession) -> DataFrame:
    values: list[bytes | None] = [
        json.dumps({"text": text, "id": str(n)}).encode() for n, text in enumerate(_texts())
    ]
    values += [value for value, _ in DEAD.values()] + [value for value, _ in GOOD.values()]
    return kafka_rows(spark, values)


def _rows(path: Path, written: Written) -> list[dict[str, object]]:
    ensure_table(path, PREDICTIONS)
    Appender(path).append(written.files)
    rows = pa.concat_tables(pq.read_table(path / file.name) for file in written.files).to_pylist()
    return sorted(({**row, "scored_at": None} for row in rows), key=lambda row: row["offset"])


@pytest.mark.parametrize("small", [True, False], ids=["Spark reads all", "workers read what is plain"])
def test_files_hold_what_spark_would_append(
    spark: SparkSession, settings: Settings, served: Served, small: bool, table: Path
) -> None:
    messages = _messages(spark)
    scoring = scoring_by_workers(settings, served)
    assert scoring is not None
    written = write_files(messages, scoring, table, one_file=small)
    expected = predictions(messages, served.model, served.version, served.band).orderBy("offset").collect()
    assert (written.rows, written.bad) == (len(expected), messages.count() - len(expected))
    assert written.positives == sum(row.sentiment == "positive" for row in expected)
    assert {"positive", "neutral", "negative"} == {row.sentiment for row in expected}
    assert len(written.files) == (1 if small else 2)
    found = _rows(table, written)
    for row in found:
        row["kafka_timestamp"] = row["kafka_timestamp"].timestamp()
    assert found == [
        {**row.asDict(), "scored_at": None, "kafka_timestamp": row.kafka_timestamp.timestamp()}
        for row in expected
    ]
    by_spark = spark.read.format("delta").load(str(table))
    assert by_spark.where("offset >= 10 AND sentiment = 'positive'").count() == sum(
        row.offset >= 10 and row.sentiment == "positive" for row in expected
    )


def test_while_spark_commits_to_the_table_it_writes_the_batches_too(
    spark: SparkSession, settings: Settings, served: Served
) -> None:
    """Delta's writer on a local disk looks whether a commit is there, then renames: one of the two would be lost.

    It also replaces rows, after which a commit from a version before would be refused.
    """
    path = settings.table(PREDICTIONS.name)
    ensure_table(path, PREDICTIONS)
    frame, sink = planned(_messages(spark), served, settings)
    rows, good = frame.count(), predictions(frame, served.model, served.version, served.band).count()
    writers = []
    for number, by_spark in enumerate((False, True, False)):
        with sink.left_to_spark() if by_spark else contextlib.nullcontext():
            assert sink.spark_writes == by_spark
            if by_spark:
                _rescore(spark, path)
            sink._append(frame.withColumn("offset", F.col("offset") + number * rows), number)
        batch = sink.counted(Batch(number, 0.0, 1.0, rows, {0: number * rows}, {0: (number + 1) * rows}, {}))
        # What Spark left out of a batch is found by who completes the dead letters.
        assert (batch.rows, batch.bad) == (good, None if by_spark else rows - good)
        writers.append(open_table(path).history(1)[0]["engineInfo"].partition(":")[0].partition("/")[0])
    assert writers == ["delta-rs", "Apache-Spark", "delta-rs"]
    found = spark.read.format("delta").load(str(path))
    assert (found.count(), found.select("offset").distinct().count()) == (3 * good, 3 * good)


def _rescore(spark: SparkSession, path: Path) -> None:
    """Replace rows, as a rescore does."""
    rows = spark.read.format("delta").load(str(path)).where("offset < 100")
    rows.write.format("delta").mode("overwrite").option("replaceWhere", "offset < 100").save(str(path))


def test_files_that_spark_overtakes_are_no_part_of_the_table(
    spark: SparkSession, settings: Settings, served: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Spark begins to commit when the workers have written and the sink has not committed yet."""
    path = settings.table(PREDICTIONS.name)
    ensure_table(path, PREDICTIONS)
    frame, sink = planned(_messages(spark), served, settings)
    with contextlib.ExitStack() as at_the_end:

        def overtaken(*arguments: Any, **options: Any) -> Written:
            written = write_files(*arguments, **options)
            at_the_end.enter_context(sink.left_to_spark())
            return written

        monkeypatch.setattr(streaming_sink, "write_files", overtaken)
        version = open_table(path).version()
        sink._append(frame, 0)
    after = open_table(path)
    assert after.version() == version + 1
    assert sorted(path.glob("*.parquet")) == sorted(Path(uri) for uri in after.file_uris())
    good = predictions(frame, served.model, served.version, served.band).count()
    assert spark.read.format("delta").load(str(path)).count() == good


def test_messages_that_are_too_much_to_keep_are_all_left_to_spark(
    spark: SparkSession, settings: Settings, served: Served, table: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scoring = scoring_by_workers(settings, served)
    assert scoring is not None
    # As long as a text may be, and far more than a worker reads itself: 700 of 100,000 characters.
    big = kafka_rows(spark, [b'{"text":"' + b"so sad " * 14_000 + b'"}']).crossJoin(spark.range(700))
    messages = big.withColumn("offset", F.col("id")).coalesce(1)
    small = kafka_rows(spark, [b'{"text":"hi"}'] * 3).withColumn("offset", F.col("offset") + 700)
    written = write_files(small.unionByName(messages.drop("id")).coalesce(1), scoring, table)
    assert (written.rows, written.bad) == (703, 0)
    assert [file.name for file in written.files] == [file.name for file in table.iterdir()]
    assert scored_files._LEFT_BYTES < 700 * 98_000


def test_a_batch_that_fails_leaves_no_file(
    spark: SparkSession, settings: Settings, served: Served, table: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The workers' files are there when Spark fails on what they left."""
    scoring = scoring_by_workers(settings, served)
    assert scoring is not None
    before: list[int] = []

    def fails(messages: DataFrame) -> DataFrame:
        before.append(len(list(table.iterdir())))
        return messages.select(F.raise_error(F.lit("it broke")))

    monkeypatch.setattr(writing, "parse", fails)
    with pytest.raises(PySparkException):
        write_files(_messages(spark).repartition(2, "offset"), scoring, table)
    assert before == [2]
    assert not list(table.iterdir())


def test_a_sink_that_is_closed_commits_nothing(
    spark: SparkSession, settings: Settings, served: Served
) -> None:
    """The commit is Python's: it could come after the JVM, and its lock, are gone."""
    path = settings.table(PREDICTIONS.name)
    ensure_table(path, PREDICTIONS)
    frame, sink = planned(_messages(spark), served, settings)
    sink.close()
    with pytest.raises(StreamError, match="ends"):
        sink._append(frame, 0)
    assert not list(path.glob("*.parquet"))
    assert not open_table(path).file_uris()


def test_times_that_a_producer_invents_are_what_every_reader_can_hold(
    spark: SparkSession, settings: Settings, served: Served, table: Path
) -> None:
    scoring = scoring_by_workers(settings, served)
    assert scoring is not None
    micros = F.when(F.col("offset") == 0, F.lit(-(10**17))).otherwise(F.lit(17 * 10**17))
    messages = kafka_rows(spark, [b'{"text":"hi"}'] * 2).withColumn("timestamp", F.timestamp_micros(micros))
    for one_file in (True, False):
        (file,) = write_files(messages, scoring, table, one_file=one_file).files
        found = pq.read_table(table / file.name)["kafka_timestamp"].to_pylist()
        assert found == [datetime(1, 1, 3, tzinfo=UTC), datetime(9999, 12, 31, tzinfo=UTC)]


def test_tables_elsewhere_are_left_to_spark(settings: Settings, served: Served, tmp_path: Path) -> None:
    assert scoring_by_workers(settings, served)
    assert not scoring_by_workers(settings.model_copy(update={"storage": str(tmp_path / "disk")}), served)


def test_a_file_of_a_failed_task_is_removed(
    spark: SparkSession, settings: Settings, served: Served, table: Path
) -> None:
    scoring = scoring_by_workers(settings, served)
    assert scoring is not None
    batch = pa.RecordBatch.from_pylist(
        [
            {
                "value": b'{"text":"hi"}',
                "partition": 0,
                "offset": 0,
                "timestamp": datetime.now(UTC),
            }
        ],
        schema=scored_files._MESSAGES,
    )

    def broken() -> object:
        yield from [batch] * 3
        raise OSError("No space left on device")

    step = scored_files.FromMessages(scoring, scored_files.Folder(str(table), "x"))
    with pytest.raises(OSError, match="No space left"):
        list(step(broken()))  # type: ignore[arg-type]
    assert not list(table.iterdir())
