"""How an asset reaches the world: Spark, Delta, the model store, Kafka. Imports Dagster and the domain packages."""
