"""Fine-tune a Florence-2 model on a shard set."""

from __future__ import annotations

import argparse
import sys

import florence_eval
from florence_data import InputError
from florence_train import TrainConfig
from florence_train.command_line import parse_options
from florence_train.config import flags_from_yaml
from florence_train.errors import TrainingError
from florence_train.interruption import EXIT_CODE


def main(arguments: list[str]) -> None:
    """Parse and train."""
    files = argparse.ArgumentParser("train.py", add_help=False, allow_abbrev=False)
    files.add_argument("--config", metavar="FILE.yaml")
    file, arguments = files.parse_known_args(arguments)
    if file.config is not None:
        arguments = flags_from_yaml(file.config) + arguments
    config = parse_options(TrainConfig, arguments, prog="train.py")

    from florence_train import train  # after parsing: this import loads torch

    if train(config).ended == "interrupted":
        sys.exit(EXIT_CODE)


if __name__ == "__main__":
    try:
        main(sys.argv[1:])
    except (InputError, florence_eval.InputError, TrainingError) as error:
        print(f"train.py: {error}", file=sys.stderr)
        sys.exit(1 if isinstance(error, TrainingError) else 2)
