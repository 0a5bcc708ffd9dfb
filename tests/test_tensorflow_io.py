"""TensorFlow itself at s3://, by tensorflow-io, on a real S3 server on this machine: what docs/remote.md shows."""

import os
import re
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest
from conftest import run_main

if find_spec("tensorflow_io") is None:
    pytest.skip("tests the extra io, which is not installed", allow_module_level=True)

import boto3
from moto.moto_server.threaded_moto_server import ThreadedMotoServer

from keras_audio_transfer.model_folder import default_model

ROOT = Path(__file__).resolve().parents[1]
KEYS = {"AWS_ACCESS_KEY_ID": "key", "AWS_SECRET_ACCESS_KEY": "secret"}


@pytest.fixture(scope="module")
def server():
    server = ThreadedMotoServer("127.0.0.1", 0, verbose=False)
    server.start()
    yield "http://{}:{}".format(*server.get_host_and_port())
    server.stop()


@pytest.fixture(scope="module")
def bucket(server, tmp_path_factory):
    """A bucket with prepared sounds and a model folder in it: its client."""
    prepared = tmp_path_factory.mktemp("prepared") / "synthetic"
    assert run_main("prepare", "--dataset", "synthetic", "--output-dir", prepared, "--shard-mib", 8, "--quiet") == 0
    client = boto3.client(
        "s3",
        endpoint_url=server,
        region_name="us-east-1",
        aws_access_key_id=KEYS["AWS_ACCESS_KEY_ID"],
        aws_secret_access_key=KEYS["AWS_SECRET_ACCESS_KEY"],
    )
    client.create_bucket(Bucket="bucket")
    for name, folder in {"prepared/synthetic": prepared, "models/mine": default_model()}.items():
        for path in folder.rglob("*"):
            if path.is_file():
                client.upload_file(str(path), "bucket", f"{name}/{path.relative_to(folder).as_posix()}")
    return client


def run(code, server, folder):
    """A new process that knows this server as Amazon's, and the checkout."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("AWS_")}
    environment |= {**KEYS, "S3_ENDPOINT": server, "AWS_REGION": "us-east-1", "PYTHONPATH": str(ROOT)}
    return subprocess.run(
        [sys.executable, "-c", code], cwd=folder, env=environment, capture_output=True, text=True, check=False
    )


def test_the_page_streams_trains_and_saves(server, bucket, tmp_path):
    page = (ROOT / "docs/remote.md").read_text(encoding="utf-8")
    (code,) = (block for block in re.findall(r"```python\n(.*?)```", page, re.DOTALL) if "tensorflow_io" in block)
    finished = run(code, server, tmp_path)
    assert finished.returncode == 0, finished.stderr
    *fitted, printed = finished.stdout.splitlines()
    assert [printed] == re.findall(r"  # -> (.*)", code)
    assert re.search(r"16/16 .* loss: \d", " ".join(fitted)), fitted  # all of the 500 clips, 32 a batch
    assert not any(tmp_path.iterdir())

    bucket.download_file("bucket", "models/own/model.keras", str(tmp_path / "model.keras"))
    code = "import keras, keras_audio_transfer.layers; print(keras.saving.load_model('model.keras').output_shape)"
    assert run(code, server, tmp_path).stdout.strip() == "(None, 5)"


def test_streamed_shards_hold_what_prepare_wrote(server, bucket, tmp_path):
    """Byte for byte, by a process that ends well."""
    names = [found["Key"] for found in bucket.list_objects_v2(Bucket="bucket", Prefix="prepared/")["Contents"]]
    names = [name for name in names if name.endswith(".tfrecord")]
    assert len(names) > 1
    code = f"""
import hashlib, os, tensorflow as tf, tensorflow_io
for folder in ("s3://bucket/", "{tmp_path}/"):
    for name in {names}:
        records = tf.data.TFRecordDataset(folder + name).as_numpy_iterator()
        print(hashlib.sha256(b"".join(records)).hexdigest(), flush=True)
os._exit(0)
"""
    for name in names:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        bucket.download_file("bucket", name, str(tmp_path / name))
    finished = run(code, server, tmp_path)
    assert finished.returncode == 0, finished.stderr
    sums = finished.stdout.splitlines()
    assert sums[: len(names)] == sums[len(names) :]
    assert len({*sums}) == len(names)
