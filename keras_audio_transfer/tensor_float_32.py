"""TensorFloat-32: products of which newer NVIDIA GPUs keep ten bits, unless they are told not to."""

import os
import warnings

from keras_audio_transfer.tensorflow_alone import tf

ADVICE = "set NVIDIA_TF32_OVERRIDE=0 before TensorFlow is imported"


def is_on() -> bool:
    """Whether TensorFlow multiplies like this here. It does by itself, on a GPU that can (compute capability 8.0)."""
    settings = tf.config.experimental
    if os.environ.get("NVIDIA_TF32_OVERRIDE") == "0" or not settings.tensor_float_32_execution_enabled():
        return False
    details = [settings.get_device_details(gpu) for gpu in tf.config.list_physical_devices("GPU")]
    return any(of_gpu.get("compute_capability", (0, 0)) >= (8, 0) for of_gpu in details)


def warn_where_on() -> None:
    """Say it of features that are about to be computed: those of a classifier's training clips had all digits."""
    if is_on():
        said = "this GPU multiplies in TensorFloat-32: features differ from a CPU's in their third digit"
        warnings.warn(f"{said}; {ADVICE}", stacklevel=2)
