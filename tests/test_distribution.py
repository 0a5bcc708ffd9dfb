"""A network learns on two devices, or in two processes, what it learns on one."""

import json
import os
import re
import socket
import subprocess
import sys
import threading

import numpy as np
import pytest

from keras_audio_transfer.errors import InputError
from keras_audio_transfer.training import workers as training_workers
from keras_audio_transfer.training.workers import Workers

# Trains a small network in each of the ways that it is told, on two logical CPUs, or as a worker of TF_CONFIG.
_TRAIN = """
import json, sys
from pathlib import Path
import keras, numpy as np, tensorflow as tf
from keras_audio_transfer.training.distribution import answering, start_with_others, stop_watching
from keras_audio_transfer.errors import InputError
from keras_audio_transfer.training.fitting import fit

folder, ways = Path(sys.argv[1]), sys.argv[2:]
tf.config.experimental.enable_op_determinism()
if ways[0].startswith("worker"):
    strategy = start_with_others(60.0)
else:
    cpu, two = tf.config.list_physical_devices("CPU")[0], [tf.config.LogicalDeviceConfiguration()] * 2
    tf.config.set_logical_device_configuration(cpu, two)
    strategy = tf.distribute.MirroredStrategy()
rng = np.random.default_rng(0)
x, y = rng.normal(size=(19, 12, 1)).astype("float32"), np.eye(2, dtype="float32")[np.arange(19) % 2]


class Killed(BaseException):
    pass


def new_model():
    keras.utils.set_random_seed(0)
    inputs = keras.Input((12, 1))
    # With a bias before the normalisation, whose gradient is rounding alone, Adam would make much of that.
    maps = keras.layers.Conv1D(4, 3, use_bias=False)(inputs)
    maps = keras.layers.Activation("relu")(keras.layers.BatchNormalization()(maps))
    scores = keras.layers.Dense(2, activation="softmax", name="scores")(keras.layers.Flatten()(maps))
    return keras.Model(inputs, {"maps": maps, "scores": scores})


def kill(epoch, logs):
    if epoch == 1:
        raise Killed


def train(way, strategy, **settings):
    run_dir = folder / settings.pop("run_dir", way)
    run_dir.mkdir(exist_ok=True)
    with (strategy or tf.distribute.get_strategy()).scope():
        model = new_model()
    data = tf.data.Dataset.from_tensor_slices((x, y)).batch(6)  # the last batch has one clip
    try:
        with answering():
            batches = lambda epochs: data.repeat(len(epochs))
            history = fit(model, batches, data, 4, 4, run_dir, strategy=strategy, **settings)
    except InputError as error:
        print(error)
        raise SystemExit(2)
    if strategy:
        stop_watching(strategy)
    result = {"history": history.to_dict("list"), "weights": [float(weight.sum()) for weight in model.get_weights()]}
    (folder / f"{way}.json").write_text(json.dumps(result))


for way in ways:
    if way == "one":
        train(way, None)
    elif way == "killed":
        try:
            train(way, strategy, run_dir="resumed", callbacks=[keras.callbacks.LambdaCallback(on_epoch_end=kill)])
        except Killed:
            pass
    elif way.startswith("worker"):
        # The worker that does not write reads what the other one has written.
        ends = way == "worker1" and "leaves" in ways
        callbacks = [keras.callbacks.LambdaCallback(on_epoch_end=lambda epoch, logs: __import__("os")._exit(9))] * ends
        train(way, strategy, run_dir="workers", writes=way == "worker0", resume="resume" in ways, callbacks=callbacks)
    elif way in ("two", "resumed"):
        train(way, strategy, resume=way == "resumed")
"""


def start(command, **environment):
    pipe = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    return subprocess.Popen(command, env={**os.environ, **environment}, **pipe)


def training(folder, *ways):
    return [sys.executable, "-c", _TRAIN, str(folder), *ways]


def start_workers(*commands):
    config = {"cluster": {"worker": [f"localhost:{port}" for port in free_ports(2)]}}
    tasks = [json.dumps({**config, "task": {"type": "worker", "index": index}}) for index in range(2)]
    return [start(command, TF_CONFIG=task) for command, task in zip(commands, tasks, strict=True)]


def training_of_workers(folder, *settings):
    return start_workers(*(training(folder, f"worker{index}", *settings) for index in range(2)))


def end(*processes):
    """Exit codes and what was printed."""
    printed = [process.communicate(timeout=300) for process in processes]
    return [(process.returncode, *texts) for process, texts in zip(processes, printed, strict=True)]


def free_ports(number):
    sockets = [socket.create_server(("", 0)) for _ in range(number)]
    ports = [each.getsockname()[1] for each in sockets]
    for each in sockets:
        each.close()
    return ports


def result(folder, way):
    return json.loads((folder / f"{way}.json").read_text())


def assert_same(got, expected, tolerance):
    assert {*got["history"]} == {*expected["history"]} == {"epoch", "loss", "accuracy", "val_loss", "val_accuracy"}
    for name, values in expected["history"].items():
        np.testing.assert_allclose(got["history"][name], values, rtol=tolerance, err_msg=name)


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """One device, two, and two in a run that was killed."""
    folder = tmp_path_factory.mktemp("trained")
    ((code, _, errors),) = end(start(training(folder, "one", "two", "killed", "resumed")))
    assert code == 0, errors
    assert "ran out of data" not in errors
    return folder


@pytest.mark.slow
def test_two_devices_learn_what_one_learns(trained):
    one = result(trained, "one")
    assert one["history"]["loss"][-1] < 0.9 * one["history"]["loss"][0]
    assert_same(result(trained, "two"), one, 1e-6)


@pytest.mark.slow
def test_a_killed_run_ends_as_if_nothing_had_happened(trained):
    assert not (trained / "killed.json").exists()
    assert result(trained, "resumed") == result(trained, "two")


@pytest.mark.slow
def test_two_workers_learn_what_one_device_learns(trained, tmp_path):
    for code, _, errors in end(*training_of_workers(tmp_path)):
        assert code == 0, errors
        assert not re.search("crashed|down|aborting", errors), errors
    first, second = (result(tmp_path, f"worker{index}") for index in range(2))
    assert first == second
    assert_same(first, result(trained, "one"), 1e-6)
    assert [path.name for path in (tmp_path / "workers").iterdir()] == ["state.npz"]


@pytest.mark.slow
def test_the_loss_of_a_worker_is_noticed_and_gone_on_from(trained, tmp_path):
    (code, printed, _), (other, *_) = end(*training_of_workers(tmp_path, "leaves"))
    assert (code, other) == (2, 9)
    assert "strategy: a worker does not answer any more" in printed
    for code, _, errors in end(*training_of_workers(tmp_path, "resume")):
        assert code == 0, errors
    assert_same(result(tmp_path, "worker1"), result(trained, "one"), 1e-6)


@pytest.mark.slow
@pytest.mark.parametrize("index", [0, 1])
def test_a_worker_that_ends_before_tensorflow_has_started_keeps_no_other(index):
    begin = "from keras_audio_transfer.training.distribution import start_with_others; start_with_others(5.0)"
    commands = [[sys.executable, "-c", begin if index == number else ""] for number in range(2)]
    code, _, errors = end(*start_workers(*commands))[index]
    assert code == 1
    assert "InputError: strategy: a worker that was there has not started TensorFlow within 5 s; see what" in errors


@pytest.mark.slow
def test_workers_of_two_networks_are_refused(tmp_path):
    """Before they make them: two workers share the weights as they are made."""
    train = [sys.executable, "-m", "keras_audio_transfer", "train", "--strategy", "multiworker", "--epochs", "0"]
    train += ["--output-dir", str(tmp_path / "out"), "--network"]
    for code, _, errors in end(*start_workers([*train, "sbcnn"], [*train, "convnet5"])):
        assert code == 2, errors
        assert "error: --strategy: the workers have different commands" in errors
    assert [*tmp_path.iterdir()] == []


def test_workers_wait_for_one_another():
    ports = free_ports(2)
    addresses = tuple(f"localhost:{port}" for port in ports)
    servers = []

    def wait(index):
        Workers(addresses, index).wait(20.0)
        servers.append(socket.create_server(("", ports[index])))  # as TensorFlow's comes next

    late = threading.Timer(0.5, wait, [1])
    late.start()
    wait(0)
    late.join(20.0)
    assert len(servers) == 2
    for server in servers:
        server.close()


def test_a_worker_that_is_not_there_is_named():
    addresses = tuple(f"localhost:{port}" for port in free_ports(2))
    with pytest.raises(InputError, match=rf"TF_CONFIG: no worker answers at {addresses[1]} within 0 s; start"):
        Workers(addresses, 0).wait(0.3)


def test_two_workers_of_one_index_are_refused():
    """On two machines, each of which opens the port of the first one."""
    first, second = (f"localhost:{port}" for port in free_ports(2))
    with (
        socket.create_server(("", int(second.rpartition(":")[2]))) as other,
        training_workers._greeting(other, 0),
        pytest.raises(InputError, match=f"TF_CONFIG: {second} is worker 1 here, and is started as worker 0; expected"),
    ):
        Workers((first, second), 0).wait(5.0)


def test_a_port_that_is_taken_is_named():
    with socket.create_server(("", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(InputError, match=rf"TF_CONFIG: port {port} of this worker cannot be opened"):
            Workers((f"localhost:{port}", "localhost:1"), 0).wait(0.3)


TWO = ["a:1", "b:2"]


def config(cluster, kind="worker", index=0):
    return json.dumps({"cluster": cluster, "task": {"type": kind, "index": index}})


@pytest.mark.parametrize(
    ("text", "addresses", "index"),
    [
        (config({"worker": TWO}), ("a:1", "b:2"), 0),
        (config({"worker": TWO}, index=1), ("a:1", "b:2"), 1),
        (config({"chief": ["c:3"], "worker": TWO}, index=1), ("c:3", "a:1", "b:2"), 2),
        (config({"chief": ["c:3"], "worker": TWO}, "chief"), ("c:3", "a:1", "b:2"), 0),
    ],
)
def test_workers_of_the_environment(text, addresses, index, monkeypatch):
    monkeypatch.setenv("TF_CONFIG", text)
    workers = training_workers.from_environment()
    assert (workers.addresses, workers.index, workers.is_chief) == (addresses, index, index == 0)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "no json",
        "[]",
        "{}",
        "[" * 100000,
        config(TWO),
        config({"worker": "a:1"}),
        config({"worker": ["a:1"]}),
        config({"worker": ["a", "b:2"]}),
        config({"worker": ["a:1", "b:99999"]}),
        config({"worker": ["a:1", "a:1"]}),
        config({"worker": [1, 2]}),
        config({"worker": TWO, "ps": ["c:3"]}),
        config({"worker": TWO}, "chief"),
        config({"worker": TWO}, index=2),
        config({"worker": TWO}, index=-1),
        config({"worker": TWO}, index="0"),
        config({"worker": TWO}, index=None),
    ],
)
def test_what_describes_no_workers_is_refused_in_one_line(text, monkeypatch):
    monkeypatch.setenv("TF_CONFIG", text)
    with pytest.raises(InputError, match=r"^TF_CONFIG: .*expected .*10\.0\.0\.1:7070") as error:
        training_workers.from_environment()
    assert "\n" not in str(error.value)
