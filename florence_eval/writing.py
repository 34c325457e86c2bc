"""Files that appear under their name when they are whole."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO

from florence_eval.errors import InputError


def write_whole(path: Path, write: Callable[[BinaryIO], object]) -> None:
    """Has `write` write a file beside `path`, then moves it there: no half of one is ever seen.
    Raises `InputError` where that is not possible."""
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        with part.open("wb") as file:
            write(file)
        part.replace(path)
    except OSError as error:
        raise InputError(f"{path}: cannot be written: {error.strerror or error}") from None
    finally:
        part.unlink(missing_ok=True)
