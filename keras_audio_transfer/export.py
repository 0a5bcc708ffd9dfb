"""Model -> model folder: `model.keras`, a SavedModel, a card. Written aside, read back in a fresh process, renamed."""

import json
import subprocess
import sys
import tempfile
from importlib.metadata import version
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf

from keras_audio_transfer.config import AudioConfig
from keras_audio_transfer.errors import InputError
from keras_audio_transfer.folding import folded
from keras_audio_transfer.serving import layer_names, servable, served_outputs
from keras_audio_transfer.training import weights_hash

LARGEST_DIFFERENCE = 1e-4
_VERSIONS_OF = ("tensorflow", "keras", "kapre", "tensorflow-io", "numpy", "scikit-learn", "soxr", "soundfile")

# Runs where Keras, kapre and this package cannot be imported: a SavedModel has to do without them.
_RELOAD = """
import sys
sys.modules.update({"keras": None, "kapre": None, "keras_audio_transfer": None})
import numpy as np
import tensorflow as tf
saved_model, clips, outputs = sys.argv[1:]
serve = tf.saved_model.load(saved_model).signatures["serving_default"]
results = {}
for number, waveform in np.load(clips).items():
    for name, values in serve(waveform=tf.constant(waveform)).items():
        if values.dtype != tf.string:
            results[number + "/" + name] = values.numpy()
np.savez(outputs, **results)
"""


def package_versions() -> dict[str, str]:
    """Versions of what a result depends on, for cards."""
    return {
        "python": sys.version.split()[0],
        **{name: version(name) for name in ("keras_audio_transfer", *_VERSIONS_OF)},
    }


def write_saved_model(model: keras.Model, path: Path, config: AudioConfig, card: dict) -> None:
    """Write a SavedModel with the signatures of `serving.servable`, of the folded model (`folding.folded`)."""
    served, signatures = servable(folded(model), config, card)
    tf.saved_model.save(served, str(path), signatures=signatures)


def largest_difference(model: keras.Model, config: AudioConfig, saved_model: Path, seed: int = 0) -> float:
    """Run the SavedModel in a fresh process without Keras, kapre or this package, and compare it with the model.

    Args:
        model: what was saved.
        config: its front end, for the clips' length.
        saved_model: the folder it was saved to.
        seed: of the random clips: a batch of two at the training length, and one of a quarter of it.

    Returns:
        The largest absolute difference of any output, relative to 1 or, where larger, to that output's size.

    Raises:
        InputError: the SavedModel cannot be run, or lacks an output.
    """
    rng = np.random.default_rng(seed)
    shapes = [(batch, max(n, config.n_fft)) for batch, n in ((2, config.n_samples), (1, config.n_samples // 4 + 1))]
    clips = {str(i): rng.normal(0, 0.1, shape).astype(np.float32) for i, shape in enumerate(shapes)}
    with tempfile.TemporaryDirectory() as folder:
        inputs, outputs = Path(folder) / "clips.npz", Path(folder) / "outputs.npz"
        np.savez(inputs, **clips)
        run = subprocess.run(
            [sys.executable, "-c", _RELOAD, saved_model, inputs, outputs], capture_output=True, text=True, check=False
        )
        if run.returncode:
            last = run.stderr.strip().splitlines()[-1:] or ["no message"]
            raise InputError(f"{saved_model}: cannot be loaded in a fresh process ({last[0]}); nothing was exported")
        with np.load(outputs) as file:
            reloaded = {name: file[name] for name in file.files}
    worst = 0.0
    for number, waveform in clips.items():
        for name, expected in served_outputs(model, waveform).items():
            if f"{number}/{name}" not in reloaded:
                raise InputError(f"{saved_model}: has no output {name!r} after loading; nothing was exported")
            difference = np.abs(reloaded[f"{number}/{name}"] - expected.numpy())
            relative = difference / np.maximum(1.0, np.abs(expected.numpy()))
            worst = np.maximum(worst, relative.max())  # unlike max(), keeps NaN
    return float(worst)


def write_model(folder: Path, model: keras.Model, config: AudioConfig, card: dict, number: int = 1) -> float:
    """Write `model.keras`, `<number>/` (the SavedModel) and `card.json` into an existing folder, and check them.

    Args:
        folder: to write into; give a temporary one and rename it (`files.written_whole`).
        model: with a dict of outputs.
        config: its front end.
        card: what else the card says, besides versions and a hash of the weights.
        number: the version, a positive integer (TF Serving skips anything else).

    Returns:
        The largest difference between the model and its SavedModel in a fresh process.

    Raises:
        InputError: the difference is above 1e-4, or the version is no positive integer.
    """
    if number < 1:
        raise InputError(f"--version: {number} is not allowed; expected a positive integer (TF Serving skips others)")
    model.save(folder / "model.keras")
    sizes = {name: int(model.output[name].shape[-1]) for name in layer_names(model)}
    content = {"audio": config.to_dict(), "layer_names": [*sizes], "layer_sizes": sizes, **card}
    content |= {"versions": package_versions(), "weights_sha256": weights_hash(model)}
    write_saved_model(model, folder / str(number), config, content)
    (folder / "card.json").write_text(json.dumps(content, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    difference = largest_difference(model, config, folder / str(number))
    if not difference <= LARGEST_DIFFERENCE:
        raise InputError(
            f"export: the reloaded SavedModel differs by {difference:.1e}; expected at most {LARGEST_DIFFERENCE:.0e}; "
            "nothing was exported"
        )
    return difference
