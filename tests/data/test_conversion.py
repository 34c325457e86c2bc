"""Stored sizes and formats are what was asked for, and the pixels those of the official resize."""

from __future__ import annotations

import io
import json
from pathlib import Path

import numpy as np
import PIL.Image
import pytest

from florence_data import Image, InputError, Region, Sample, SampleSet, Supervision
from florence_data.conversion import convert, parse_image_size
from florence_data.images import decode, pixels
from florence_data.shard_format import ImageDescription
from florence_data.shard_writer import ShardOptions
from florence_data.sharding import shard


def sample(format: str, size: tuple[int, int] = (500, 700), grey: bool = False) -> Sample:
    """A page with a region; a smooth picture, so that encoders lose little."""
    x, y = np.meshgrid(np.linspace(0, 255, size[0]), np.linspace(0, 255, size[1]))
    values = np.stack([x, y, (x + y) / 2], -1).astype(np.uint8)
    picture = PIL.Image.fromarray(values).convert("L" if grey else "RGB")
    file = io.BytesIO()
    picture.save(file, format)
    return Sample(
        id="page",
        source="s",
        split="train",
        doc_id="d",
        image=Image.from_bytes(file.getvalue(), "page"),
        supervisions=(
            Supervision(
                id="q",
                regions=(
                    Region(label="a", box=(50.0, 70.0, 100.0, 140.0)),
                    Region(polygons=((0.0, 0.0, 500.0, 0.0, 500.0, 700.0),)),
                ),
            ),
        ),
    )


@pytest.mark.parametrize("grey", [False, True])
@pytest.mark.parametrize("source", ["PNG", "JPEG", "WEBP"])
def test_stored_as_png_the_pixels_are_the_official_resize(source: str, grey: bool) -> None:
    before = sample(source, grey=grey)
    after = convert(before, ImageDescription(size=(768, 768), format="png"))
    assert (after.image.width, after.image.height, after.image.format) == (768, 768, "png")
    official = decode(before.image.data, "page").resize((768, 768), PIL.Image.Resampling.BICUBIC)
    np.testing.assert_array_equal(np.asarray(decode(after.image.data, "page")), official)


def test_reading_at_the_stored_size_resizes_no_second_time(monkeypatch: pytest.MonkeyPatch) -> None:
    stored = convert(sample("PNG"), ImageDescription(size=(768, 768), format="jpeg"))

    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("resized again")

    monkeypatch.setattr(PIL.Image.Image, "resize", refuse)
    assert pixels(stored.image.data).shape == (3, 768, 768)


@pytest.mark.parametrize("format", ["jpeg", "webp"])
def test_a_lossy_format_stays_close(format: str) -> None:
    before = sample("PNG")
    after = convert(before, ImageDescription(size=(300, 200), format=format, quality=90))
    official = decode(before.image.data, "page").resize((300, 200), PIL.Image.Resampling.BICUBIC)
    difference = np.abs(np.asarray(decode(after.image.data, "page")).astype(int) - official)
    assert after.image.format == format
    assert difference.mean() < 1.5 and difference.max() < 25


@pytest.mark.parametrize("source", ["PNG", "JPEG", "WEBP"])
def test_what_already_fits_keeps_its_bytes(source: str) -> None:
    before = sample(source)
    name = {"PNG": "png", "JPEG": "jpeg", "WEBP": "webp"}[source]
    for to in (ImageDescription(), ImageDescription(size=(500, 700), format=name)):
        assert convert(before, to) == before


def test_a_format_alone_keeps_the_size_and_keep_the_format() -> None:
    webp = convert(sample("PNG"), ImageDescription(format="webp")).image
    assert (webp.width, webp.height, webp.format) == (500, 700, "webp")
    small = convert(sample("WEBP"), ImageDescription(size=(50, 60))).image
    assert (small.width, small.height, small.format) == (50, 60, "webp")


def test_regions_follow_the_size() -> None:
    regions = convert(sample("PNG"), ImageDescription(size=(1000, 350))).supervisions[0].regions
    assert regions[0].box == (100.0, 35.0, 200.0, 70.0)
    assert regions[1].polygons == ((0.0, 0.0, 1000.0, 0.0, 1000.0, 350.0),)


def test_the_choice_is_recorded(tmp_path: Path) -> None:
    to = ImageDescription(size=(64, 48), format="webp", quality=70)
    shard(
        SampleSet.from_samples([sample("PNG")]), tmp_path / "set", options=ShardOptions(images=to)
    )
    recorded = json.loads((tmp_path / "set" / "dataset.json").read_text())["images"]
    assert recorded == {"size": [64, 48], "format": "webp", "quality": 70}
    assert SampleSet.from_shards(tmp_path / "set")[0].image.width == 64


def test_an_image_that_cannot_be_decoded_names_its_sample() -> None:
    whole = sample("PNG")
    image = Image(width=500, height=700, format="png", sha256="", data=whole.image.data[:100])
    with pytest.raises(InputError, match="sample page: not an image"):
        convert(Sample(id="page", source="s", split="t", doc_id="d", image=image, supervisions=()),
                ImageDescription(size=(9, 9)))  # fmt: skip


@pytest.mark.parametrize(
    ("text", "size"), [("none", None), ("768", (768, 768)), ("640x480", (640, 480))]
)
def test_sizes_are_understood(text: str, size: tuple[int, int] | None) -> None:
    assert parse_image_size(text) == size


@pytest.mark.parametrize("text", ["", "0", "768x", "x768", "-5", "1e3", "100000"])
def test_other_sizes_are_refused(text: str) -> None:
    with pytest.raises(InputError, match="expected none, 768, or WIDTHxHEIGHT"):
        parse_image_size(text)
