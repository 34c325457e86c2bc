"""The one error that bad input raises."""

from __future__ import annotations


class InputError(ValueError):
    """Input that cannot be scored: names the file, the line or key, what was found and what is
    accepted, in one line."""
