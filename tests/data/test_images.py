"""Whatever a file holds, the model reads what the official processor would give it."""

from __future__ import annotations

import io

import numpy as np
import PIL.Image
import pytest

from florence_data import Image, InputError, images
from florence_data.images import decode, decode_at, normalise, pixels


def encoded(picture: PIL.Image.Image, format: str, **options: object) -> bytes:
    file = io.BytesIO()
    picture.save(file, format, **options)
    return file.getvalue()


def gradient(width: int, height: int) -> PIL.Image.Image:
    """A picture without noise: red from left to right, green from top to bottom."""
    values = np.zeros((height, width, 3), np.uint8)
    values[..., 0] = np.linspace(0, 255, width).astype(np.uint8)
    values[..., 1] = np.linspace(0, 255, height).astype(np.uint8)[:, None]
    values[..., 2] = 90
    return PIL.Image.fromarray(values)


@pytest.mark.parametrize("size", [(1000, 1300), (768, 768), (300, 200)])
def test_pixels_are_the_official_processor_s(size: tuple[int, int]) -> None:
    transformers = pytest.importorskip("transformers")
    processor = transformers.CLIPImageProcessorPil(
        size={"height": 768, "width": 768},
        do_center_crop=False,
        image_mean=[0.485, 0.456, 0.406],
        image_std=[0.229, 0.224, 0.225],
        resample=PIL.Image.Resampling.BICUBIC,
    )
    noise = np.random.default_rng(0).integers(0, 255, (*size[::-1], 3), dtype=np.uint8)
    for data in (encoded(PIL.Image.fromarray(noise), "PNG"), encoded(gradient(*size), "JPEG")):
        official = processor(decode(data, "page"), return_tensors="np")["pixel_values"][0]
        ours = pixels(data)
        assert ours.dtype == np.float32 and ours.flags.c_contiguous
        np.testing.assert_allclose(ours, official, atol=2e-6)


def test_a_large_jpeg_is_decoded_smaller_and_differs_little() -> None:
    data = encoded(gradient(1700, 2200), "JPEG", quality=95)
    full = decode(data, "page").resize((768, 768), PIL.Image.Resampling.BICUBIC)
    small = np.asarray(decode_at(data, (768, 768), "page")).astype(int)
    assert np.abs(small - np.asarray(full).astype(int)).max() <= 4


@pytest.mark.parametrize("target", [(768, 768), (64, 64), (800, 600)])
def test_a_picture_is_never_decoded_smaller_than_asked(target: tuple[int, int]) -> None:
    for size in [(1700, 2200), (1536, 1536), (1535, 3000), (100, 100)]:
        picture = images.upright(encoded(gradient(*size), "JPEG"), "page", at_least=target)
        assert picture.width >= min(size[0], target[0])
        assert picture.height >= min(size[1], target[1])


def test_transparency_lies_on_white() -> None:
    clear = PIL.Image.new("RGBA", (4, 4), (255, 0, 0, 0))
    half = PIL.Image.new("LA", (4, 4), (0, 128))
    palette = PIL.Image.new("P", (4, 4), 3)
    palette.putpalette([0, 0, 0, 9, 9, 9, 50, 50, 50, 200, 0, 0])
    assert decode(encoded(clear, "PNG"), "x").getpixel((0, 0)) == (255, 255, 255)
    assert decode(encoded(clear, "WEBP", lossless=True), "x").getpixel((0, 0)) == (255, 255, 255)
    assert decode(encoded(half, "PNG"), "x").getpixel((0, 0)) == (127, 127, 127)
    assert decode(encoded(palette, "PNG", transparency=3), "x").getpixel((0, 0)) == (255,) * 3
    grey = PIL.Image.new("L", (4, 4), 7)
    assert decode(encoded(grey, "PNG", transparency=7), "x").getpixel((0, 0)) == (255,) * 3


def test_palettes_and_bilevel_pictures_have_their_colours() -> None:
    picture = gradient(8, 8).quantize(16)
    np.testing.assert_array_equal(
        np.asarray(decode(encoded(picture, "PNG"), "x")), np.asarray(picture.convert("RGB"))
    )
    bilevel = PIL.Image.fromarray(np.eye(8, dtype=bool))
    seen = np.asarray(decode(encoded(bilevel, "PNG"), "x"))
    np.testing.assert_array_equal(seen[..., 0], np.eye(8) * 255)


def test_sixteen_bits_are_scaled_and_not_cut_off() -> None:
    values = np.array([[0, 257, 32896, 65535]], np.uint16)
    data = encoded(PIL.Image.fromarray(values), "PNG")
    np.testing.assert_array_equal(np.asarray(decode(data, "x"))[0, :, 0], [0, 1, 128, 255])


def test_cmyk_has_the_colours_that_pillow_gives_it() -> None:
    data = encoded(PIL.Image.new("CMYK", (8, 8), (0, 255, 255, 0)), "JPEG", quality=95)
    red, green, blue = decode(data, "x").getpixel((4, 4))
    assert red > 240 and green < 15 and blue < 15


def test_what_is_no_image_is_told_by_its_name_and_size() -> None:
    for read in (decode, Image.from_bytes):
        with pytest.raises(InputError) as error:
            read(b"no image", "page 3")
        assert str(error.value) == (
            "page 3: not an image that can be read (8 bytes; of no known format); "
            "JPEG, PNG, WebP and what else Pillow reads are accepted"
        )


@pytest.mark.parametrize("orientation", range(1, 9))
def test_pictures_come_upright(orientation: int) -> None:
    exif = PIL.Image.Exif()
    exif[0x0112] = orientation
    upright = gradient(1600, 3200)
    undo = {
        2: PIL.Image.Transpose.FLIP_LEFT_RIGHT,
        3: PIL.Image.Transpose.ROTATE_180,
        4: PIL.Image.Transpose.FLIP_TOP_BOTTOM,
        5: PIL.Image.Transpose.TRANSPOSE,
        6: PIL.Image.Transpose.ROTATE_90,
        7: PIL.Image.Transpose.TRANSVERSE,
        8: PIL.Image.Transpose.ROTATE_270,
    }
    stored = upright.transpose(undo[orientation]) if orientation > 1 else upright
    data = encoded(stored, "JPEG", exif=exif, quality=95)
    seen = decode(data, "x")
    assert seen.size == (1600, 3200)
    assert np.abs(np.asarray(seen).astype(int) - np.asarray(upright)).max() < 12
    small = np.asarray(decode_at(data, (400, 800), "x")).astype(int)
    expected = np.asarray(upright.resize((400, 800), PIL.Image.Resampling.BICUBIC))
    assert np.abs(small - expected).max() < 12


def test_normalising_is_the_formula() -> None:
    values = np.random.default_rng(1).integers(0, 256, (5, 7, 3), dtype=np.uint8)
    expected = (values / 255 - [0.485, 0.456, 0.406]) / [0.229, 0.224, 0.225]
    np.testing.assert_allclose(
        normalise(PIL.Image.fromarray(values)), expected.transpose(2, 0, 1), atol=1e-6
    )


def test_a_cut_off_image_is_one_clear_line() -> None:
    for format in ("JPEG", "PNG", "WEBP"):
        data = encoded(gradient(200, 200), format)
        for read in (decode, lambda data, name: pixels(data, name=name)):
            with pytest.raises(InputError, match=r"page 3: not an image .*\d+ bytes") as error:
                read(data[: len(data) // 2], "page 3")
            assert "\n" not in str(error.value)


def test_what_is_no_image_is_refused() -> None:
    for data in (b"", b"no image", b"\x89PNG\r\n\x1a\n", b"GIF89a"):
        with pytest.raises(InputError, match="page 3: not an image"):
            decode(data, "page 3")


def test_a_bomb_is_refused_before_it_is_decoded(monkeypatch: pytest.MonkeyPatch) -> None:
    data = encoded(PIL.Image.new("1", (20_000, 20_000)), "PNG")
    with pytest.raises(InputError, match=r"20000x20000 pixels|exceeds limit"):
        decode(data, "page")
    monkeypatch.setattr(images, "PIXEL_LIMIT", 99)
    with pytest.raises(InputError, match="10x10 pixels; up to 99 are accepted"):
        decode(encoded(gradient(10, 10), "PNG"), "page")


@pytest.mark.parametrize("mode", ["CMYK", "RGBA", "L", "I;16", "1", "F"])
def test_other_formats_become_png(mode: str) -> None:
    picture = PIL.Image.new(mode, (6, 5))
    image = Image.from_bytes(encoded(picture, "TIFF"), "page.tif")
    assert (image.width, image.height, image.format) == (6, 5, "png")
    assert decode(image.data, "x").size == (6, 5)


def test_a_jpeg_with_more_pictures_behind_it_keeps_its_bytes() -> None:
    data = encoded(gradient(8, 8), "MPO", save_all=True, append_images=[gradient(8, 8)])
    image = Image.from_bytes(data, "phone.jpg")
    assert (image.format, image.data) == ("jpeg", data)


def test_torch_resizes_like_pillow_to_one_level() -> None:
    pytest.importorskip("torch")
    from florence_data import loader

    level = 1 / 255 / 0.224
    for data in (
        encoded(gradient(1000, 1300), "PNG"),
        encoded(gradient(900, 500).convert("L"), "JPEG"),
    ):
        ours = loader.pixels(data).numpy()
        assert ours.shape == (3, 768, 768) and ours.dtype == np.float32
        assert np.abs(ours - pixels(data)).max() < 1.05 * level
