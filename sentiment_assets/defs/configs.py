"""Dagster run configuration made from the parameters that the domain code declares."""

from collections.abc import Mapping
from typing import Any

from dagster import Config
from pydantic import BaseModel, Field, create_model


def config_for(
    parameters: type[BaseModel], name: str, overrides: Mapping[str, object] | None = None
) -> type[Config]:
    """A ``dg.Config`` with the fields, defaults and descriptions of a parameter model, but not its bounds.

    The domain checks the values and says in one sentence what is wrong; Dagster's own check would come before it, with
    pydantic's words.

    Parameters
    ----------
    parameters
        Pydantic model of hyper-parameters; every field has a default that works.
    name
        Name of the configuration class, shown in the UI's launchpad.
    overrides
        Defaults that differ from those of the model.
    """
    fields: dict[str, Any] = {}
    for field_name, info in parameters.model_fields.items():
        default = (overrides or {}).get(field_name, info.default)
        fields[field_name] = (info.annotation, Field(default=default, description=info.description))
    made: type[Config] = create_model(name, __base__=Config, __doc__=parameters.__doc__, **fields)
    return made


def values_of(config: Config) -> dict[str, Any]:
    """The run's configuration as plain values, for the domain's parameter model to check."""
    return {name: getattr(config, name) for name in type(config).model_fields}
