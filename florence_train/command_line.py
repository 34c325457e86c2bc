"""From a command line to options, with one line for a value that they refuse."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

import tyro

Options = TypeVar("Options")


def parse_options(kind: type[Options], arguments: Sequence[str], prog: str) -> Options:
    """The options, a dataclass, that the arguments of the program `prog` set.

    Exits with a message for what is no option and for a value of the wrong type, as tyro does.
    Raises what the dataclass raises for values out of range: tyro would put that into a box, so it
    parses into a copy that accepts any value.
    """
    names = {"__post_init__": lambda self: None, "__doc__": kind.__doc__}
    accepting: type[Options] = type(kind.__name__, (kind,), names)
    return kind(**vars(tyro.cli(accepting, args=arguments, prog=prog)))
