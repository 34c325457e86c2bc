"""Fine-tune a Florence-2 model on a shard set."""

from __future__ import annotations

import sys

import tyro

from florence_data import InputError
from florence_train import TrainConfig
from florence_train.config import flags_from_yaml
from florence_train.errors import TrainingError
from florence_train.interruption import EXIT_CODE


def main(arguments: list[str]) -> None:
    """Parse, train, and print where the model is."""
    if "--config" in arguments:
        position = arguments.index("--config")
        if position + 1 == len(arguments):
            raise InputError("--config: no file after it; a YAML file of options is accepted")
        given = arguments[:position] + arguments[position + 2 :]
        arguments = flags_from_yaml(arguments[position + 1]) + given
    config = tyro.cli(TrainConfig, args=arguments, prog="train.py")

    from florence_train import train  # after parsing: this import loads torch

    result = train(config)
    if result.ended == "interrupted":
        print(f"stopped at step {result.steps}; go on with the same options and --resume")
        sys.exit(EXIT_CODE)
    print(f"{result.steps} steps, loss {result.loss:.4f}; the model is in {result.directory}/model")


if __name__ == "__main__":
    try:
        main(sys.argv[1:])
    except (InputError, TrainingError) as error:
        print(f"train.py: {error}", file=sys.stderr)
        sys.exit(2 if isinstance(error, InputError) else 1)
