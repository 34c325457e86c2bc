"""What ends a run that began well."""

from __future__ import annotations


class TrainingError(RuntimeError):
    """Training cannot go on, for what only showed while it went. The message is one line."""
