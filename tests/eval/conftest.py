"""Property tests here may take as long as a busy machine makes them."""

from __future__ import annotations

from hypothesis import settings

settings.register_profile("eval", deadline=None, max_examples=60)
settings.load_profile("eval")
