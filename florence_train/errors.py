"""What ends a run that began well."""

from __future__ import annotations


class TrainingError(RuntimeError):
    """Training cannot go on; the last checkpoint is good. The message is one line."""
