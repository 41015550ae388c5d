"""Live, trustworthy tweet sentiment, built as Dagster assets.

The layers, from the top: ``cli`` and ``build`` -> ``defs`` (only Dagster definitions) -> ``resources``
(how an asset reaches the world) -> ``streaming``, ``models``, ``spark``, ``kafka``, ``sources``,
``runtime`` (plain domain code, no Dagster) -> ``settings``, ``keys``, ``schemas``, ``failures``.
Imports point downwards only.
"""

__version__ = "0.1.0"
