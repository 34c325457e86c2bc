"""Answer every question of a shard set."""

from __future__ import annotations

import sys

import tyro

from florence_data import InputError
from florence_train import PredictConfig


def main(arguments: list[str]) -> None:
    """Parse and predict."""
    config = tyro.cli(PredictConfig, args=arguments, prog="predict.py")

    from florence_train import predict  # after parsing: this import loads torch

    predict(config)


if __name__ == "__main__":
    try:
        main(sys.argv[1:])
    except InputError as error:
        print(f"predict.py: {error}", file=sys.stderr)
        sys.exit(2)
