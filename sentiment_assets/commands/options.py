"""Options that several commands share."""

from typing import Annotated

import typer

Encoding = Annotated[
    str | None,
    typer.Option(
        help="Encoding of the file: ISO-8859-1 or UTF-8; default: SENTIMENT_ENCODING, else ISO-8859-1."
    ),
]
