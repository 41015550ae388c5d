"""The product on one machine: Dagster's instance and services, and the main job ``up``.

Belongs here: starting, following and stopping processes and runs from the command line.
Does not belong here: what the runs do (``defs`` and the domain packages).
"""
