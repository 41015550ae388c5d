"""Where tweets come from: published files, generated samples, live services.

Belongs here: getting data and proving that it is what it claims to be, without a JVM.
Does not belong here: Spark, Dagster, or what happens to the tweets afterwards.
"""

from sentiment_assets.sources.choice import TrainingSource, resolve

__all__ = ["TrainingSource", "resolve"]
