"""Fine-tuning Florence-2 and predicting with it.

The names are imported when they are first used, so that reading options does not load torch.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from florence_data import InputError

if TYPE_CHECKING:
    from florence_train.config import PredictConfig, TrainConfig
    from florence_train.errors import TrainingError
    from florence_train.evaluation import Evaluation
    from florence_train.model import Florence, load_florence
    from florence_train.predictor import predict
    from florence_train.trainer import TrainResult, train

_MODULES = {
    "Evaluation": "evaluation",
    "Florence": "model",
    "PredictConfig": "config",
    "TrainConfig": "config",
    "TrainResult": "trainer",
    "TrainingError": "errors",
    "load_florence": "model",
    "predict": "predictor",
    "train": "trainer",
}

__all__ = [
    "Evaluation",
    "Florence",
    "PredictConfig",
    "TrainConfig",
    "TrainResult",
    "TrainingError",
    "load_florence",
    "predict",
    "train",
]


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    try:
        return getattr(import_module(f"{__name__}.{_MODULES[name]}"), name)
    except ModuleNotFoundError as error:
        raise InputError(
            f"the package {error.name} is not installed; pip install 'florence-docs[train]' brings "
            "what training and prediction need"
        ) from error
