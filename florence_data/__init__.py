"""Pages and the questions about them: records, lazy sets, recipes, shards and prompts.

Nothing here imports torch; `florence_data.loader`, which feeds it, is imported by name.
"""

from florence_data.account import Account, Tally
from florence_data.errors import InputError
from florence_data.sample import Image, Location, Region, Sample, Supervision
from florence_data.sample_set import SampleSet
from florence_data.shard_reader import ShardReader
from florence_data.shard_writer import ShardWriter

__all__ = [
    "Account",
    "Image",
    "InputError",
    "Location",
    "Region",
    "Sample",
    "SampleSet",
    "ShardReader",
    "ShardWriter",
    "Supervision",
    "Tally",
]
