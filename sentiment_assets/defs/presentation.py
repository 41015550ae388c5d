"""How tables and numbers are shown in the UI: column schemas, kinds, owners, confusion matrices."""

from collections.abc import Mapping
from typing import Any

from dagster import (
    MetadataValue,
    TableColumn,
    TableColumnConstraints,
    TableConstraints,
    TableRecord,
    TableSchema,
)
from dagster import TableMetadataValue as TableValue

from sentiment_assets.schemas import Table


def column_schema(table: Table) -> TableSchema:
    """The column schema of a table, comments and constraints included."""
    return TableSchema(
        columns=[
            TableColumn(
                name=column.name,
                type=column.type,
                description=column.comment,
                constraints=TableColumnConstraints(nullable=column.nullable),
            )
            for column in table.columns
        ],
        constraints=TableConstraints(other=list(table.constraints.values())),
    )


def table_metadata(table: Table) -> dict[str, Any]:
    """Metadata that each asset of a table carries in its definition."""
    return {"dagster/column_schema": column_schema(table)}


def records(rows: list[Mapping[str, str | int | float | bool | None]]) -> TableValue | MetadataValue:
    """Rows as a table in the UI, columns in the order of the first row."""
    if not rows:
        return MetadataValue.text("no rows")
    types = {bool: "bool", int: "int", float: "float"}
    columns = [
        TableColumn(name=name, type=types.get(type(value), "string")) for name, value in rows[0].items()
    ]
    clean = [TableRecord({k: v if v is not None else "" for k, v in row.items()}) for row in rows]
    return MetadataValue.table(records=clean, schema=TableSchema(columns=columns))


def metrics_metadata(figures: Mapping[str, Any]) -> dict[str, Any]:
    """Metrics of a candidate as separate numbers (each gets a plot over time) and a confusion matrix."""
    numbers = {
        name: MetadataValue.int(value) if isinstance(value, int) else MetadataValue.float(round(value, 4))
        for name, value in figures.items()
        if isinstance(value, int | float) and name not in ("tn", "fp", "fn", "tp")
    }
    if not {"tn", "fp", "fn", "tp"} <= figures.keys():
        return numbers
    matrix = records(
        [
            {"truth": "negative", "predicted negative": figures["tn"], "predicted positive": figures["fp"]},
            {"truth": "positive", "predicted negative": figures["fn"], "predicted positive": figures["tp"]},
        ]
    )
    first = ("accuracy", "ci95_low", "ci95_high", "n", "macro_f1", "auc")
    leading = {name: numbers.pop(name) for name in first if name in numbers}
    return {**leading, "confusion_matrix": matrix, **numbers}
