"""Answer every question of a shard set."""

from __future__ import annotations

import sys

from florence_data import InputError
from florence_train import PredictConfig
from florence_train.command_line import parse_options


def main(arguments: list[str]) -> None:
    """Parse and predict."""
    config = parse_options(PredictConfig, arguments, prog="predict.py")

    from florence_train import predict  # after parsing: this import loads torch

    predict(config)


if __name__ == "__main__":
    try:
        main(sys.argv[1:])
    except InputError as error:
        print(f"predict.py: {error}", file=sys.stderr)
        sys.exit(2)
