"""Parameters of features and algorithms: frozen, described, checked before any Spark job starts.

Belongs here: the base class. Does not belong here: the parameters themselves (beside what they configure).
"""

from collections.abc import Mapping
from typing import Self

from pydantic import BaseModel, ConfigDict, ValidationError

from sentiment_assets.failures import TrainingError


class Params(BaseModel):
    """Named settings with defaults that work; unknown names and NaN are refused."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    @classmethod
    def of(cls, values: Mapping[str, object]) -> Self:
        """Check ``values`` and fill in the defaults.

        Raises
        ------
        TrainingError
            When a name is unknown or a value out of range, infinite or not a number.
        """
        try:
            return cls.model_validate(dict(values))
        except ValidationError as error:
            first = error.errors()[0]
            name = ".".join(str(part) for part in first["loc"])
            raise TrainingError(
                f"The parameter {name} = {values.get(name)!r} of {cls.__name__} cannot be used ({first['msg']}).",
                f"Parameters and defaults: {cls().model_dump()}.",
            ) from None
