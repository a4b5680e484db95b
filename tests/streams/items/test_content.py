"""No record may end a worker: what cannot be encoded is refused, and what stands beside it is kept."""

import asyncio
import io
import wave
import weakref
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper
from PIL import Image

from streams.decoding.records import MEDIA, TEXT
from streams.errors import ConfigurationError
from streams.events import Content, Media
from streams.items.content import Change, ContentEncoder
from streams.items.media import MediaEncoders
from streams.settings import Settings


class Words:
    """Encodes a text to its length; some words it cannot bear."""

    fingerprint = "words"
    on_cpu = True

    def encode(self, texts: Sequence[str]) -> np.ndarray:
        if any("explosive" in text for text in texts):
            raise RuntimeError("boom")
        rows = [[np.nan if "nameless" in text else len(text), 1.0] for text in texts]
        return np.array(rows, np.float32).reshape(-1, 2)


def write_mean(path: Path, shape: list[Any], *, root: bool = False) -> None:
    """Write an encoder whose embedding is the mean of its input, or the root of that."""
    nodes = [helper.make_node("ReduceMean", ["values"], ["mean"], keepdims=1)]
    nodes.append(helper.make_node("Sqrt" if root else "Identity", ["mean"], ["embedding"]))
    graph = helper.make_graph(
        nodes,
        "mean",
        [helper.make_tensor_value_info("values", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info("embedding", TensorProto.FLOAT, [1] * len(shape))],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)])
    model.ir_version = 10
    onnx.save(model, path)


@pytest.fixture(scope="module")
def media(tmp_path_factory: pytest.TempPathFactory) -> MediaEncoders:
    folder = tmp_path_factory.mktemp("media")
    write_mean(folder / "image.onnx", ["N", 3, 4, 4])
    write_mean(folder / "audio.onnx", ["N", "S"], root=True)
    return MediaEncoders(Settings(image_encoder=folder / "image.onnx", audio_encoder=folder / "audio.onnx"))


@pytest.fixture
async def encoder(media: MediaEncoders) -> AsyncIterator[ContentEncoder]:
    made = ContentEncoder(Words, media)  # type: ignore[arg-type]
    made.start()
    await made.ready()
    yield made
    made.close()


def changes(*contents: Content | None) -> list[Change]:
    return [
        (SimpleNamespace(topic="content", partition=0, offset=n, key=b"gone", value=b"{}"), content)
        for n, content in enumerate(contents)
    ]


def picture() -> bytes:
    held = io.BytesIO()
    Image.new("RGB", (5, 5), (200, 100, 50)).save(held, "PNG")
    return held.getvalue()


def sound(*, sample: int, count: int = 8) -> bytes:
    held = io.BytesIO()
    with wave.open(held, "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(8000)
        file.writeframes(np.full(count, sample, "<i2").tobytes())
    return held.getvalue()


def dds(pixel_flags: int, bits: int) -> bytes:
    """A picture's header that a decoder trips over: masks of nothing, or a form it has never heard of."""
    header = bytearray(128)
    header[:4] = b"DDS "
    for at, value in ((4, 124), (8, 0x1007), (12, 4), (16, 4), (76, 32), (80, pixel_flags), (88, bits)):
        header[at : at + 4] = value.to_bytes(4, "little")
    return bytes(header) + bytes(64)


def names(rows: Sequence[tuple[bytes | None, bytes | None]]) -> list[bytes | None]:
    return [key for key, _ in rows]


async def test_a_text_without_a_finite_vector_is_refused_alone(encoder: ContentEncoder) -> None:
    rows, refused = await encoder.rows(
        changes(Content("a", "one"), Content("b", "nameless"), Content("c", "three"), None), {}
    )
    assert names(rows) == [b"a", b"c", b"gone"]
    assert [(bad.record.offset, bad.reason) for bad in refused] == [(1, TEXT)]
    assert refused[0].error == "text must have a finite vector, got NaN or infinity"


async def test_a_text_that_the_encoder_raises_at_is_refused_alone(encoder: ContentEncoder) -> None:
    rows, refused = await encoder.rows(changes(Content("a", "one"), Content("b", "explosive"), None), {})
    assert names(rows) == [b"a", b"gone"]
    assert [(bad.record.offset, bad.error) for bad in refused] == [(1, "text cannot be encoded: boom")]


async def test_items_without_any_text_are_encoded(encoder: ContentEncoder) -> None:
    rows, refused = await encoder.rows(changes(Content("a", ""), Content("b", "", text="")), {})
    assert names(rows) == [b"a", b"b"]
    assert not refused


@pytest.mark.parametrize(
    ("kind", "data"),
    [
        ("image", b"no picture"),
        ("image", b""),
        ("image", picture()[:40]),
        ("image", dds(0x41, 0)),
        ("image", dds(0x9999, 8)),
        ("audio", b"no sound"),
        ("audio", sound(sample=0, count=0)),
        ("audio", sound(sample=-9000)),  # its encoder takes a root of it
    ],
)
async def test_an_image_or_sound_that_cannot_be_used_is_refused_alone(
    encoder: ContentEncoder, kind: str, data: bytes
) -> None:
    item = Content("bad", "title", **{kind: Media(data=data)})  # type: ignore[arg-type]
    rows, refused = await encoder.rows(changes(Content("a", "one"), item, Content("c", "three")), {})
    assert names(rows) == [b"a", b"c"]
    assert [(bad.record.offset, bad.reason) for bad in refused] == [(1, MEDIA)]
    assert refused[0].error.startswith(f"{kind}.data ")


async def test_an_image_and_a_sound_are_encoded(encoder: ContentEncoder) -> None:
    item = Content("good", "title", image=Media(data=picture()), audio=Media(data=sound(sample=9000)))
    rows, refused = await encoder.rows(changes(item), {})
    assert not refused
    ((_, value),) = rows
    assert value is not None
    assert len(value) > 0


async def test_what_the_encoder_cannot_be_opened_for_is_raised_before_an_item_comes(
    media: MediaEncoders,
) -> None:
    def missing() -> None:
        raise ConfigurationError("text_encoder: not there")

    encoder = ContentEncoder(missing, media)
    encoder.start()
    with pytest.raises(ConfigurationError, match="text_encoder: not there"):
        await encoder.ready()
    encoder.close()


class Openings:
    """Opens an encoder again and again, and knows those that are still held."""

    def __init__(self, kind: type[Words] = Words) -> None:
        self.kind = kind
        self.made = 0
        self.held: weakref.WeakSet[Words] = weakref.WeakSet()

    def __call__(self) -> Any:
        self.made += 1
        encoder = self.kind()
        self.held.add(encoder)
        return encoder


async def gone(openings: Openings) -> None:
    async with asyncio.timeout(120):
        while openings.held:
            await asyncio.sleep(0.001)


async def test_a_text_encoder_that_waits_for_content_is_let_go_and_opened_again_for_the_next(
    media: MediaEncoders,
) -> None:
    openings = Openings()
    encoder = ContentEncoder(openings, media, keep_s=0.0)
    encoder.start()
    await encoder.ready()
    await gone(openings)

    first, _ = await encoder.rows(changes(Content(item_id="a", title="one")), {})
    await gone(openings)
    second, _ = await encoder.rows(changes(Content(item_id="a", title="one")), {})

    assert first == second
    assert openings.made == 3
    encoder.close()


async def test_a_text_encoder_is_kept_as_long_as_content_comes(media: MediaEncoders) -> None:
    openings = Openings()
    encoder = ContentEncoder(openings, media, keep_s=3600.0)
    encoder.start()
    await encoder.ready()
    for title in ("one", "two"):
        await encoder.rows(changes(Content(item_id="a", title=title)), {})

    assert openings.made == 1
    encoder.close()


async def test_a_text_encoder_on_a_device_is_kept(media: MediaEncoders) -> None:
    class OnDevice(Words):
        on_cpu = False

    openings = Openings(OnDevice)
    encoder = ContentEncoder(openings, media, keep_s=0.0)
    encoder.start()
    await encoder.ready()
    for title in ("one", "two"):
        await encoder.rows(changes(Content(item_id="a", title=title)), {})
        await encoder.rows(changes(None), {})  # comes after what was to be let go

    assert openings.made == 1
    encoder.close()


async def test_a_text_encoder_that_is_another_one_when_it_is_opened_again_encodes_nothing(
    media: MediaEncoders,
) -> None:
    class Others(Words):
        fingerprint = "others"

    openings = Openings()
    encoder = ContentEncoder(openings, media, keep_s=0.0)
    encoder.start()
    await encoder.ready()
    await gone(openings)
    openings.kind = Others

    with pytest.raises(ConfigurationError, match="must stay the one with the fingerprint words, got others"):
        await encoder.rows(changes(Content(item_id="a", title="one")), {})
    encoder.close()


async def test_content_waits_for_a_text_encoder_whose_files_are_gone(
    media: MediaEncoders, caplog: pytest.LogCaptureFixture
) -> None:
    openings = Openings()
    missing = 0

    def open_text() -> Words:
        nonlocal missing
        if missing:
            missing -= 1
            raise ConfigurationError(
                "text_encoder: 'text_encoder.onnx' must be in the release, it is missing"
            )
        return openings()

    encoder = ContentEncoder(open_text, media, keep_s=0.0, retry_s=0.001)  # type: ignore[arg-type]
    encoder.start()
    await encoder.ready()
    await gone(openings)

    missing = 3
    rows, refused = await encoder.rows(changes(Content(item_id="a", title="one")), {})
    assert (names(rows), refused, missing) == ([b"a"], [], 0)
    waited = [record.message for record in caplog.records if record.levelname == "ERROR"]
    assert [text.split(":")[0] for text in waited] == [
        f"content waits, to be tried again in {seconds:g} s" for seconds in (0.001, 0.002, 0.004)
    ]
    assert waited[0].endswith("'text_encoder.onnx' must be in the release, it is missing")
    encoder.close()


async def test_a_text_encoder_that_was_never_there_is_told_at_the_start(media: MediaEncoders) -> None:
    def open_text() -> Words:
        raise ConfigurationError("text_encoder: none")

    encoder = ContentEncoder(open_text, media)  # type: ignore[arg-type]
    encoder.start()
    with pytest.raises(ConfigurationError, match="text_encoder: none"):
        await encoder.ready()
    encoder.close()


def test_a_media_encoder_that_is_no_graph_is_refused(tmp_path: Path) -> None:
    (tmp_path / "image.onnx").write_bytes(b"no graph")
    with pytest.raises(ConfigurationError, match=r"image_encoder: .* must be an ONNX graph that can be load"):
        MediaEncoders(Settings(image_encoder=tmp_path / "image.onnx"))
    write_mean(tmp_path / "image.onnx", ["N", "S"])
    with pytest.raises(ConfigurationError, match="must have one input of 4 dimensions"):
        MediaEncoders(Settings(image_encoder=tmp_path / "image.onnx"))
