"""The training report: what was trained, which model was chosen and why, for a person who knows nothing of it.

Belongs here: gathering the figures, drawing them, the pages. Does not belong here: measuring (``spark``), choosing
(``models``), or Dagster's records (``resources.records``). No Spark session is started.
"""
