"""Checks of the tables. Blocking ones stop what follows; all read the tables without a JVM."""

import pyarrow as pa
import pyarrow.compute as pc
from dagster import (
    AssetCheckResult,
    AssetChecksDefinition,
    AssetCheckSeverity,
    AssetKey,
    ResourceParam,
    asset_check,
)

from sentiment_assets import keys
from sentiment_assets.schemas import (
    CLEANED_TWEETS,
    DEAD_LETTERS,
    PREDICTIONS,
    RAW_TWEETS,
    TABLES,
    TEST_TWEETS,
    TRAIN_TWEETS,
    Table,
)
from sentiment_assets.settings import Settings
from sentiment_assets.spark import delta
from sentiment_assets.streaming.shares import Level, recent_messages
from sentiment_assets.streaming.status import read_status

MINIMUM_SHARE_OF_A_CLASS = 0.2
"""A class rarer than this makes accuracy a misleading figure; Sentiment140 is balanced."""
_DELTA_NAMES = {"STRING": "string", "INT": "integer", "BIGINT": "long", "DOUBLE": "double", "BINARY": "binary",
                "TIMESTAMP": "timestamp", "BOOLEAN": "boolean"}  # fmt: skip


def _column(settings: Settings, table: Table, column: str) -> pa.ChunkedArray:
    return (
        delta.open_existing(settings.table(table.name))
        .to_pyarrow_dataset()
        .to_table(columns=[column])[column]
    )


def schema_check(table: Table, *, blocking: bool) -> AssetChecksDefinition:
    """The columns, types and nullability in Delta are those of the schema's single source."""

    @asset_check(
        asset=AssetKey(table.name),
        name="schema_matches",
        blocking=blocking,
        description="Columns and types are those declared in schemas.py.",
    )
    def schema_matches(settings: ResourceParam[Settings]) -> AssetCheckResult:
        path = settings.table(table.name)
        if not delta.table_exists(path):
            return AssetCheckResult(passed=False, description=f"The table {table.name} does not exist.")
        found = {
            f.name: getattr(f.type, "type", str(f.type)) for f in delta.open_existing(path).schema().fields
        }
        declared = {c.name: _DELTA_NAMES[c.type] for c in table.columns}
        return AssetCheckResult(passed=found == declared, metadata={"found": found, "declared": declared})

    return schema_matches


@asset_check(asset=AssetKey(keys.RAW_TWEETS), blocking=True)
def labels_are_known(settings: ResourceParam[Settings]) -> AssetCheckResult:
    """Every label is 0 (negative) or 4 (positive)."""
    counts = {
        str(item["values"]): int(item["counts"])
        for item in _column(settings, RAW_TWEETS, "target").value_counts().to_pylist()
    }
    return AssetCheckResult(passed=counts.keys() <= {"0", "4"} and bool(counts), metadata={"rows": counts})


@asset_check(asset=AssetKey(keys.RAW_TWEETS), blocking=True)
def classes_are_balanced(settings: ResourceParam[Settings]) -> AssetCheckResult:
    """Neither class is rarer than one row in five."""
    labels = _column(settings, RAW_TWEETS, "target")
    positive = pc.mean(pc.equal(labels, 4)).as_py() or 0.0
    return AssetCheckResult(
        passed=MINIMUM_SHARE_OF_A_CLASS <= positive <= 1 - MINIMUM_SHARE_OF_A_CLASS,
        metadata={"share_positive": float(positive)},
    )


@asset_check(asset=AssetKey(keys.TEST_TWEETS), blocking=True)
def no_text_is_on_both_sides(settings: ResourceParam[Settings]) -> AssetCheckResult:
    """No normalised text of the test rows is among the train rows."""
    train = _column(settings, TRAIN_TWEETS, "text_key").combine_chunks()
    test = _column(settings, TEST_TWEETS, "text_key").combine_chunks()
    leaked = int(pc.sum(pc.is_in(test, value_set=train)).as_py() or 0)
    return AssetCheckResult(
        passed=leaked == 0 and len(train) > 0 and len(test) > 0,
        metadata={"leaked_texts": leaked, "train_rows": len(train), "test_rows": len(test)},
    )


@asset_check(asset=AssetKey(keys.TEST_TWEETS))
def both_parts_have_the_same_balance(settings: ResourceParam[Settings]) -> AssetCheckResult:
    """The share of positive rows differs by at most three points between train and test."""
    shares = {
        table.name: float(pc.mean(pc.equal(_column(settings, table, "label"), 1.0)).as_py() or 0.0)
        for table in (TRAIN_TWEETS, TEST_TWEETS)
    }
    train, test = shares.values()
    return AssetCheckResult(
        passed=abs(train - test) <= 0.03, severity=AssetCheckSeverity.WARN, metadata=dict(shares)
    )


@asset_check(asset=AssetKey(keys.PREDICTIONS))
def required_columns_are_filled(settings: ResourceParam[Settings]) -> AssetCheckResult:
    """No null where the schema allows none, by the statistics that Delta keeps of each file."""
    required = [c.name for c in PREDICTIONS.columns if not c.nullable and c.name != "text"]
    table = delta.open_existing(settings.table(PREDICTIONS.name))
    files = pa.table(table.get_add_actions(flatten=True))
    nulls: dict[str, int] = {}
    for name in required:
        stated = files[f"null_count.{name}"] if f"null_count.{name}" in files.column_names else None
        if stated is not None and stated.null_count == 0:
            nulls[name] = int(pc.sum(stated).as_py() or 0)
        else:
            # Some writer kept no statistics.
            nulls[name] = _column(settings, PREDICTIONS, name).null_count
    return AssetCheckResult(passed=not any(nulls.values()), metadata={"nulls": nulls})


@asset_check(asset=AssetKey(keys.PREDICTIONS))
def offsets_have_no_gap_and_no_duplicate(settings: ResourceParam[Settings]) -> AssetCheckResult:
    """Each offset that the stream has passed is exactly one prediction or one dead letter."""
    status = read_status(settings)
    if status["table_problem"]:
        return AssetCheckResult(passed=False, description=status["table_problem"])
    figures = {name: int(status[name]) for name in ("gaps", "duplicates", "predictions", "dead_letters")}
    return AssetCheckResult(
        passed=figures["gaps"] == 0 and figures["duplicates"] == 0, metadata=dict(figures)
    )


@asset_check(asset=AssetKey(keys.DEAD_LETTERS))
def few_messages_are_dead_letters(settings: ResourceParam[Settings]) -> AssetCheckResult:
    """The share of dead letters in the last hour of messages; limits: SENTIMENT_DEAD_LETTER_WARN and _FAIL."""
    recent = recent_messages(settings)
    level = recent.level(settings)
    return AssetCheckResult(
        passed=level is Level.GOOD,
        severity=AssetCheckSeverity.ERROR if level is Level.FAIL else AssetCheckSeverity.WARN,
        description=f"{recent.dead_share:.2%} of the last hour's messages are dead letters. "
        "`sentiment-assets dead-letters list` shows them.",
        metadata={
            "share": recent.dead_share,
            "dead_letters": recent.dead_letters,
            "predictions": recent.predictions,
            "warns_above": settings.dead_letter_warn,
            "fails_above": settings.dead_letter_fail,
        },
    )


def table_checks() -> list[AssetChecksDefinition]:
    """All checks of tables."""
    blocking = {RAW_TWEETS.name, CLEANED_TWEETS.name, TRAIN_TWEETS.name, TEST_TWEETS.name}
    names = (*sorted(blocking), PREDICTIONS.name, DEAD_LETTERS.name)
    return [
        *(schema_check(TABLES[name], blocking=name in blocking) for name in names),
        labels_are_known,
        classes_are_balanced,
        no_text_is_on_both_sides,
        both_parts_have_the_same_balance,
        required_columns_are_filled,
        offsets_have_no_gap_and_no_duplicate,
        few_messages_are_dead_letters,
    ]
