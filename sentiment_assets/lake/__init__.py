"""Delta tables without a JVM, also while a stream commits to them: opening one, writing and merging data
files, keeping its log short.

Does not belong here: tables that Spark writes (``spark.delta``), following one (``sinks.changes``).
"""
