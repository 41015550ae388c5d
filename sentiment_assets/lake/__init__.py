"""Delta tables without a JVM, also while a stream commits to them: opening one, keeping its log short.

Does not belong here: writing tables (``spark.delta``), following one (``sinks.changes``).
"""
