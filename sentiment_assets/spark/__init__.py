"""Spark and Delta: session, tables, cleaning, features, training, evaluation, scoring. Knows no Dagster."""
