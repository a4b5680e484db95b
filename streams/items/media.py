"""Images and sounds as bytes: decoded and run through a configured ONNX encoder."""

import io
import wave
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from model_core.data.datasets import LARGEST
from model_core.release.scorer import open_session
from streams.errors import ConfigurationError
from streams.events import Media
from streams.settings import Settings

IMAGENET_MEAN = np.array([0.485, 0.456, 0.406], np.float32)
IMAGENET_STD = np.array([0.229, 0.224, 0.225], np.float32)
MAX_PIXELS = 50_000_000
DEFAULT_SIDE = 224


class MediaEncoders:
    """The encoders that the settings name, each loaded where there is one.

    Raises
    ------
    ConfigurationError
        If a file is missing or is no encoder.
    """

    def __init__(self, settings: Settings) -> None:
        image, audio = settings.image_encoder, settings.audio_encoder
        self._image = None if image is None else ImageEncoder(image)
        self._audio = None if audio is None else AudioEncoder(audio)

    def image(self, media: Media | None) -> NDArray[np.float32] | None:
        """Return the embedding of an image, given or by the encoder; None without an image.

        Raises
        ------
        ValueError
            If it cannot be used.
        """
        return _embedding("image", media, self._image)

    def audio(self, media: Media | None) -> NDArray[np.float32] | None:
        """As `image`, of a sound."""
        return _embedding("audio", media, self._audio)


def _embedding(
    kind: str, media: Media | None, encoder: "ImageEncoder | AudioEncoder | None"
) -> NDArray[np.float32] | None:
    if media is None or (media.embedding is None and media.data is None):
        return None
    if media.embedding is not None and media.data is not None:
        raise ValueError(f"{kind} must have an embedding or data, not both")
    if media.embedding is not None:
        given = np.array(media.embedding, np.float64)
        if not len(given) or not (np.abs(given) <= LARGEST).all():  # NaN is no more than anything
            raise ValueError(f"{kind}.embedding must be numbers up to {LARGEST:g}, at least one")
        return given.astype(np.float32)
    if encoder is None:
        raise ValueError(f"{kind}.data needs the setting {kind}_encoder, which is not set")
    assert media.data is not None
    try:
        vector = encoder.encode(media.data)
    except Exception as error:  # decoders raise what they like for what they did not expect
        raise ValueError(f"{kind}.data cannot be encoded: {error or type(error).__name__}") from error
    if not np.isfinite(vector).all():
        raise ValueError(f"{kind}.data must have a finite embedding, got NaN or infinity")
    return vector


class MediaEncoder:
    """An ONNX file with one input and an embedding (N, d) as its first output."""

    def __init__(self, setting: str, path: Path, dimensions: int) -> None:
        if not path.is_file():
            raise ConfigurationError(f"{setting}: no such file: {path}")
        try:
            self._session = open_session(path, threads=1, arena=False)
        except ValueError as error:
            raise ConfigurationError(f"{setting}: {error}") from error
        inputs = self._session.get_inputs()
        if len(inputs) != 1 or len(inputs[0].shape) != dimensions:
            shapes = [tensor.shape for tensor in inputs]
            raise ConfigurationError(
                f"{setting}: {path} must have one input of {dimensions} dimensions, got {shapes}"
            )
        self._input = inputs[0]

    def _size(self, axis: int) -> int | None:
        size = self._input.shape[axis]
        return size if isinstance(size, int) else None

    def _run(self, values: NDArray[np.float32]) -> NDArray[np.float32]:
        (embedding, *_) = self._session.run(None, {self._input.name: values})
        return np.asarray(embedding, np.float32).reshape(-1)


class ImageEncoder(MediaEncoder):
    """Pixels (N, 3, H, W), RGB in ImageNet's normalisation."""

    def __init__(self, path: Path) -> None:
        super().__init__("image_encoder", path, 4)

    def encode(self, data: bytes) -> NDArray[np.float32]:
        """Return the embedding of an encoded image (PNG, JPEG, ...).

        The decoder raises what it likes if the bytes are no image.

        Raises
        ------
        ValueError
            If it has more than `MAX_PIXELS` pixels.
        """
        from PIL import Image  # only workers that encode images need it

        image = Image.open(io.BytesIO(data))
        if image.width * image.height > MAX_PIXELS:
            raise ValueError(f"image must have at most {MAX_PIXELS} pixels, got {image.width}x{image.height}")
        size = (self._size(3) or DEFAULT_SIDE, self._size(2) or DEFAULT_SIDE)
        pixels = np.asarray(image.convert("RGB").resize(size, Image.Resampling.BILINEAR), np.float32)
        normalised = (pixels / 255.0 - IMAGENET_MEAN) / IMAGENET_STD
        return self._run(np.ascontiguousarray(normalised.transpose(2, 0, 1)[None], np.float32))


class AudioEncoder(MediaEncoder):
    """Samples (N, S): mono, from -1 to 1, cut or padded with silence to S when the model fixes it."""

    def __init__(self, path: Path) -> None:
        super().__init__("audio_encoder", path, 2)

    def encode(self, data: bytes) -> NDArray[np.float32]:
        """Return the embedding of a 16-bit PCM WAV file.

        The decoder raises what it likes if the bytes are no such file.
        """
        with wave.open(io.BytesIO(data)) as sound:
            if sound.getsampwidth() != 2:
                raise ValueError(f"audio must be 16-bit PCM, got {8 * sound.getsampwidth()} bits")
            raw: Any = np.frombuffer(sound.readframes(sound.getnframes()), "<i2")
            samples = raw.reshape(-1, sound.getnchannels()).mean(axis=1, dtype=np.float32) / 32768.0
        if not len(samples):
            raise ValueError("audio must have samples, got none")
        wanted = self._size(1) or len(samples)
        padded = np.zeros(wanted, np.float32)
        padded[: min(wanted, len(samples))] = samples[:wanted]
        return self._run(padded[None])
