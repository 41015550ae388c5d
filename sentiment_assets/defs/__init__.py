"""Dagster definitions and nothing else: thin assets, checks, jobs, sensors, schedules.

Belongs here: what exists, what depends on what, and which numbers are shown.
Does not belong here: Spark expressions, business rules, processes.
"""
