"""TensorFloat-32: off in the commands, said by the library where it is on."""

import os
import subprocess
import sys
import warnings

import pytest
import tensorflow as tf

from keras_audio_transfer import tensor_float_32


@pytest.fixture
def on_a_gpu(monkeypatch):
    """As on a computer with a GPU of some compute capability, and without what the commands set."""

    def pretend(*details):
        monkeypatch.delenv("NVIDIA_TF32_OVERRIDE", raising=False)
        monkeypatch.setattr(tf.config, "list_physical_devices", lambda kind: [*details])
        monkeypatch.setattr(tf.config.experimental, "get_device_details", lambda gpu: gpu)

    return pretend


@pytest.mark.parametrize(
    ("details", "is_on"),
    [
        ([], False),
        ([{}], False),
        ([{"compute_capability": (7, 5)}], False),
        ([{"compute_capability": (8, 0)}], True),
        ([{"compute_capability": (7, 5)}, {"compute_capability": (9, 0)}], True),
    ],
)
def test_which_gpus(on_a_gpu, details, is_on):
    on_a_gpu(*details)
    assert tensor_float_32.is_on() == is_on


def test_said_unless_it_is_off(on_a_gpu, monkeypatch):
    on_a_gpu({"compute_capability": (8, 0)})
    with pytest.warns(UserWarning, match="set NVIDIA_TF32_OVERRIDE=0 before TensorFlow is imported$"):
        tensor_float_32.warn_where_on()
    warnings.simplefilter("error")
    monkeypatch.setattr(tf.config.experimental, "tensor_float_32_execution_enabled", lambda: False)
    tensor_float_32.warn_where_on()
    monkeypatch.undo()
    on_a_gpu({"compute_capability": (8, 0)})
    monkeypatch.setenv("NVIDIA_TF32_OVERRIDE", "0")
    tensor_float_32.warn_where_on()


@pytest.mark.parametrize(("given", "becomes"), [({}, "0"), ({"NVIDIA_TF32_OVERRIDE": "1"}, "1")])
def test_the_commands_turn_it_off_unless_told_otherwise(given, becomes):
    code = "from keras_audio_transfer.commands import cli; import os; print(os.environ['NVIDIA_TF32_OVERRIDE'])"
    environment = {name: value for name, value in os.environ.items() if name != "NVIDIA_TF32_OVERRIDE"} | given
    assert subprocess.check_output([sys.executable, "-c", code], env=environment, text=True).strip() == becomes
