"""Fitted models: immutable versions with a manifest, and which of them is the chosen one.

Belongs here: storing, verifying, ranking, promoting.
Does not belong here: fitting or loading them (``spark``).
"""
