"""What this package raises when its input is wrong."""

from __future__ import annotations


class InputError(ValueError):
    """Input that cannot be used.

    The message is one line that names the file, line or key, what was found there and what would be
    accepted. The command-line tools print it and exit with code 2.
    """
