"""The entry point that Dagster loads; nothing else belongs here."""

from sentiment_assets.build import build_definitions
from sentiment_assets.settings import Settings

defs = build_definitions(Settings.from_env())
