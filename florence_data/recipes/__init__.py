"""Recipes: from a source to a `SampleSet`, one file a data set.

A recipe is a function whose keyword arguments are also the flags of its `make_shards.py`
sub-command.
"""

from collections.abc import Callable

from florence_data.recipes.cauldron import cauldron
from florence_data.recipes.coco import coco
from florence_data.recipes.docmatix import docmatix
from florence_data.recipes.docvqa import docvqa
from florence_data.recipes.folder import folder
from florence_data.recipes.infographicvqa import infographicvqa
from florence_data.recipes.labelme import labelme
from florence_data.recipes.synthetic import synthetic
from florence_data.recipes.yolo import yolo
from florence_data.sample_set import SampleSet

RECIPES: dict[str, Callable[..., SampleSet]] = {
    "cauldron": cauldron,
    "coco": coco,
    "docmatix": docmatix,
    "docvqa": docvqa,
    "folder": folder,
    "infographicvqa": infographicvqa,
    "labelme": labelme,
    "synthetic": synthetic,
    "yolo": yolo,
}
"""Every recipe by the name of its sub-command."""

__all__ = [
    "RECIPES",
    "cauldron",
    "coco",
    "docmatix",
    "docvqa",
    "folder",
    "infographicvqa",
    "labelme",
    "synthetic",
    "yolo",
]
