"""PyTorch checkpoints, which are pickles: PyTorch's restricted reader reads them, which runs nothing of them."""

import io
import pickle
import zipfile
from collections.abc import Iterable, Mapping
from pathlib import Path

import numpy as np

from keras_audio_transfer.errors import InputError
from keras_audio_transfer.pretrained.source import Weights, first_line

INSTALL = 'pip install "keras_audio_transfer[torch]"'
Layer = tuple[str, str, tuple[int, ...]]


def read(
    path: Path,
    layers: Iterable[Layer],
    largest: int,
    remedy: str,
    *,
    content: bytes | None = None,
    part: str | None = None,
    bands_first: bool = False,
) -> Weights:
    """The weights of some layers, as Keras wants them.

    Args:
        path: of the checkpoint, or of what it comes in; begins the error messages.
        layers: of each with weights its name, that in the checkpoint, and the shape of its kernel, as Keras has it, or
            of each of its statistics.
        largest: bytes of all arrays; a few bytes of a file can announce an array of any size.
        remedy: ends the error messages.
        content: of the checkpoint, where it does not lie there by itself.
        part: of the checkpoint, in which the tensors are; None: they are the whole.
        bands_first: of the checkpoint's kernels; Keras's are over frames and bands.

    Returns:
        Layer name -> its weights, in Keras's order; not yet checked against the shapes.

    Raises:
        InputError: not a checkpoint, damaged, hostile, or of another network; or the package `torch` is not installed.
    """
    try:
        import torch
    except ImportError as error:
        raise InputError(f"{path}: cannot be read without the package torch; {INSTALL}") from error
    try:
        with path.open("rb") if content is None else io.BytesIO(content) as file:
            _check_not_packed(file)
            with torch.serialization.safe_globals(_of_numpy()):
                tensors = torch.load(file, map_location="cpu", weights_only=True)
        tensors = tensors if part is None else tensors[part]
        if sum(tensor.numel() for tensor in tensors.values()) * 4 > largest:  # views of one number have any shape
            raise ValueError("its arrays are larger than the network's")
        stored = {name: tensor.numpy() for name, tensor in tensors.items()}
        return {layer: taken(stored, name, shape, bands_first) for layer, name, shape in layers}
    except Exception as error:  # there are as many kinds as ways to damage a file
        # PyTorch then advises to read the file in a way that would run it.
        refusal = isinstance(error, pickle.UnpicklingError)
        reason = "PyTorch's restricted reader refuses it" if refusal else first_line(error)
        raise InputError(f"{path}: is not the published network ({reason}); {remedy}") from error


def shapes_of(layers: Iterable[Layer]) -> dict[str, list[tuple[int, ...]]]:
    """What `check_arrays` expects of layers without a bias: one array, or the four of a normalisation."""
    return {layer: [shape] * (4 if len(shape) == 1 else 1) for layer, _, shape in layers}


def _check_not_packed(file):
    """Refuse what would become larger than the file is: PyTorch does not compress."""
    if zipfile.is_zipfile(file):
        with zipfile.ZipFile(file) as archive:
            if sum(record.file_size for record in archive.infolist()) > file.seek(0, io.SEEK_END):
                raise ValueError("its records are compressed, or overlap")
    file.seek(0)


def _of_numpy():
    """What an array of whole numbers is made by: PANNs' files also have which clips were next in the training."""
    (make, *_), integers = np.zeros(1, np.int64).__reduce__(), type(np.dtype(np.int64))
    makers = [(make, f"numpy.{core}.multiarray._reconstruct") for core in ("core", "_core")]  # of NumPy 1 and 2
    return [*makers, (np.ndarray, "numpy.ndarray"), np.dtype, integers]


def taken(
    stored: Mapping[str, np.ndarray], name: str, shape: tuple[int, ...], bands_first: bool = False
) -> list[np.ndarray]:
    """A layer's weights in Keras's order. Raises KeyError or another for what cannot be them."""
    kinds = {1: ("weight", "bias", "running_mean", "running_var"), 2: ("weight", "bias"), 4: ("weight",)}[len(shape)]
    kernel, *others = (stored[f"{name}.{kind}"].astype(np.float32) for kind in kinds)
    # PyTorch has (filters, channels, height, width); of a depthwise convolution (channels, 1, height, width).
    axes = {1: (0,), 2: (1, 0), 4: (2, 3, 0, 1) if shape[-1] == 1 else (2, 3, 1, 0)}[len(shape)]
    if bands_first and len(shape) == 4:
        axes = axes[1], axes[0], *axes[2:]
    return [kernel.transpose(axes), *others]
