"""Leaving something out of an import."""

from __future__ import annotations


class DropError(Exception):
    """A row, turn or image that is left out.

    The message is the reason to count it under: a short phrase without an id or a number.
    """
