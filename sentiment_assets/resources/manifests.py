"""What a run has trained, as the record that the model store keeps."""

from typing import Any, Literal

from sentiment_assets.models.manifest import Draft, Source
from sentiment_assets.resources.provenance import Provenance


def draft_of(
    kind: Literal["features", "candidate"],
    name: str,
    *,
    variant: str,
    algorithm: str = "",
    code_version: str,
    provenance: Provenance,
    rows: int,
    params: dict[str, Any],
    metrics: dict[str, Any],
    seed: int,
    run_id: str,
) -> Draft:
    """The record of a fitted model; ``rows`` is the number of training rows."""
    return Draft(
        kind=kind,
        name=name,
        variant=variant,
        algorithm=algorithm,
        source=Source.model_validate(
            {
                "kind": provenance.source_kind,
                "file": provenance.source_file,
                "note": provenance.source_note,
                "sample": provenance.sample,
            }
        ),
        rows_train=rows,
        data_version=provenance.data_version,
        code_version=code_version,
        seed=seed,
        test_fraction=provenance.test_fraction,
        params=params,
        metrics=metrics,
        run_id=run_id,
    )
