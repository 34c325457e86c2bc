"""The one error that bad input raises, and how texts of others stand in its message."""

from __future__ import annotations

# Longer values are cut in a message: what is wrong shows in their beginning.
_LONGEST = 80


class InputError(ValueError):
    """Input that cannot be scored: names the file, the line or key, what was found and what is
    accepted, in one line."""

    def __init__(self, message: str) -> None:
        super().__init__(one_line(message))


def one_line(text: str) -> str:
    """A text with line breaks and lone surrogates as escapes: a file's name may hold both."""
    printable = text.encode("utf-8", "backslashreplace").decode()
    return printable.replace("\n", "\\n").replace("\r", "\\r")


def quoted(value: object) -> str:
    """A value as Python writes it, cut where it is long."""
    return shortened(repr(value))


def shortened(text: str) -> str:
    """The beginning of a long text and an ellipsis; a short one as it is."""
    return text if len(text) <= _LONGEST else text[:_LONGEST] + "…"
