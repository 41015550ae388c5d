"""Databases that follow the table of predictions: PostgreSQL and MongoDB, each switched on by a setting.

Belongs here: reading what changed in the Delta table, writing it to a database, knowing how far that is.
Does not belong here: the stream (it never waits for a sink), Dagster (``defs.sinks``), Spark (no JVM here).
"""
