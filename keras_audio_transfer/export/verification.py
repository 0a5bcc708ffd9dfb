"""What was written, run where Keras, kapre and this package cannot be imported, and compared with the model."""

import subprocess
import sys
import tempfile
from pathlib import Path

import keras
import numpy as np

from keras_audio_transfer.errors import InputError
from keras_audio_transfer.export.signatures import serving_outputs

# How a fresh process gets at the signature of what lies at `path`.
SAVED_MODEL = 'tf.saved_model.load(path).signatures["serving_default"]'
TFLITE = 'tf.lite.Interpreter(path).get_signature_runner("serving_default")'

_RUN = """
import sys
sys.modules.update({"keras": None, "kapre": None, "keras_audio_transfer": None})
import numpy as np
import tensorflow as tf
path, batches, outputs = sys.argv[1:]
serve = %s
results = {}
for number, waveform in np.load(batches).items():
    for name, values in serve(waveform=tf.constant(waveform)).items():
        values = np.asarray(values)
        if values.dtype != object:  # strings
            results[number + "/" + name] = values
np.savez(outputs, **results)
"""


def run_alone(code: str, *arguments: str | Path) -> subprocess.CompletedProcess:
    """Run Python code in a process of its own; it finds the arguments in `sys.argv[1:]`."""
    command = [sys.executable, "-c", code, *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def largest_difference(path: Path, signature: str, model: keras.Model, batches: list[np.ndarray]) -> float:
    """Run what was written in a fresh process, and compare its answers with the model's.

    Args:
        path: of the SavedModel or the TensorFlow Lite model.
        signature: `SAVED_MODEL` or `TFLITE`.
        model: what was written.
        batches: waveforms, float32 (batch, samples) each.

    Returns:
        The largest absolute difference of any output, relative to 1 or, where larger, to its largest value: a layer's
        small values are sums of large ones, and no more exact than these.

    Raises:
        InputError: it cannot be run, or lacks an output.
    """
    with tempfile.TemporaryDirectory() as folder:
        inputs, outputs = Path(folder) / "batches.npz", Path(folder) / "outputs.npz"
        np.savez(inputs, **{str(number): waveforms for number, waveforms in enumerate(batches)})
        run = run_alone(_RUN % signature, path, inputs, outputs)
        if run.returncode:
            last = run.stderr.strip().splitlines()[-1:] or ["no message"]
            raise InputError(f"{path.name}: cannot be run in a fresh process ({last[0]}); nothing was exported")
        with np.load(outputs) as file:
            results = dict(file)
    worst = 0.0
    for number, waveforms in enumerate(batches):
        for name, values in serving_outputs(model, waveforms).items():
            if f"{number}/{name}" not in results:
                raise InputError(f"{path.name}: has no output {name!r} in a fresh process; nothing was exported")
            expected = values.numpy()
            difference = np.abs(results[f"{number}/{name}"] - expected).max() / max(1.0, np.abs(expected).max())
            worst = np.maximum(worst, difference)  # unlike max(), keeps NaN
    return float(worst)
