"""Work on a Dask cluster: the results of one machine, whatever happens to workers, and one line where it cannot be."""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from contextlib import contextmanager
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import soundfile
from conftest import ROOT, run_main
from sounds import noise

from keras_audio_transfer import dask_cluster, extraction, preparation
from keras_audio_transfer.clip_inputs import clips_below
from keras_audio_transfer.commands.features import rows_on
from keras_audio_transfer.commands.probe import features_on_worker
from keras_audio_transfer.dask_cluster import Cluster
from keras_audio_transfer.datasets import prepared
from keras_audio_transfer.errors import InputError
from keras_audio_transfer.feature_tables import run as feature_run
from keras_audio_transfer.feature_tables.table import FeatureTable
from keras_audio_transfer.mfcc import floor_rows
from keras_audio_transfer.probing.grid_search import GridSearch

SETTINGS = {"weights_sha256": {"mfcc": ""}}
PATIENCE = 600  # seconds: a worker that was killed imports everything anew, on a busy machine beside others


@pytest.fixture(scope="module")
def local():
    """Two workers, each a process of its own."""
    import dask
    from distributed import LocalCluster

    # A cluster of this kind gives up a worker that is not there so long after it was killed, though killed again since.
    patient = dask.config.set({"distributed.deploy.lost-worker-timeout": PATIENCE})
    with patient, LocalCluster(n_workers=2, threads_per_worker=1, processes=True, dashboard_address=":0") as cluster:
        yield cluster


@pytest.fixture
def cluster(local):
    with Cluster(local.scheduler_address, PATIENCE) as cluster:
        yield cluster


@pytest.fixture
def on_cluster(local):
    """The flags of a command that gives it its work."""
    return ["--scheduler", local.scheduler_address, "--workers-in", PATIENCE]


def test_workers_compute_as_this_process_does(cluster, monkeypatch):
    """By the variables that say how, but not by those that say which machine of a training this is."""
    for name in ("TF_OF_A_TEST", "NVIDIA_TF32_OVERRIDE", "TF_CONFIG"):
        monkeypatch.setenv(name, "{}")
    seen = cluster.map(lambda names: [os.environ.get(name) for name in names], ["TF_OF_A_TEST", "TF_CONFIG"], str)
    assert [*seen] == ["{}", None]
    assert dask_cluster._of_tensorflow().keys() >= {"TF_OF_A_TEST", "NVIDIA_TF32_OVERRIDE"}


@pytest.fixture
def folder(tmp_path):
    """Nine files, one of them no audio."""
    (tmp_path / "audio").mkdir()
    for number in range(9):
        soundfile.write(tmp_path / "audio" / f"{number}.wav", noise(6000 + 200 * number, seed=number), 8000)
    (tmp_path / "audio" / "4.wav").write_text("no audio")
    return tmp_path / "audio"


def content_of(output):
    return {path.name: path.read_bytes() for path in output.iterdir()}


def no_result(item, reason):
    return f"{item}: {reason}"


# ---- results


@pytest.mark.slow
@pytest.mark.parametrize("how", ["clips", "windows"])
def test_extract_writes_what_one_machine_writes(how, on_cluster, folder, tmp_path, exported, run_script):
    for place, more in (("here", []), ("there", on_cluster)):
        output = tmp_path / place / "f.parquet"
        output.parent.mkdir()
        more += ["--hop-seconds", 0.2, "--clip-seconds", 0.3] if how == "windows" else []
        done = run_script("extract", exported, folder, "--output", output, *more)
        assert (done.returncode, done.stderr.count("\n")) == (1, 2), done.stderr
    here, there = tmp_path / "here", tmp_path / "there"
    assert content_of(here / "f.parquet") == content_of(there / "f.parquet")
    assert (here / "failed.csv").read_bytes() == (there / "failed.csv").read_bytes()


@pytest.mark.slow
def test_paths_may_be_relative(on_cluster, folder, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)  # the workers are elsewhere
    for name, more in (("here.npz", []), ("there.npz", on_cluster)):
        assert run_main("mfcc", "audio", "--output", name, "--quiet", *more) == 1
    here, there = map(FeatureTable.load, ("here.npz", "there.npz"))
    assert there.clip_ids.tolist() == [f"audio/{number}.wav" for number in range(9) if number != 4]
    assert here.layers["mfcc"].tobytes() == there.layers["mfcc"].tobytes()


@pytest.mark.slow
def test_the_bytes_are_those_of_one_machine_though_workers_die(cluster, folder, tmp_path):
    """One clip kills whatever computes it, another kills a worker once."""
    client, once = os.getpid(), tmp_path / "once"

    def has_heard(dask_worker):
        return dask_worker.process.status.name == "running"

    def be_killed():
        from distributed import Client, Worker

        # Dask starts no worker again that is killed before its nanny has heard that it runs.
        (worker,) = Worker._instances  # clips are decoded in threads of their own, for which `get_worker` knows none
        with Client(worker.scheduler.address, set_as_default=False) as of_test:
            while not all(of_test.run(has_heard, workers=[worker.address], nanny=True).values()):
                time.sleep(0.1)
        os.kill(os.getpid(), signal.SIGKILL)

    def poison():
        if os.getpid() != client:
            be_killed()
        return noise(3000), 8000

    def late():
        if os.getpid() != client and not once.exists():
            once.touch()
            be_killed()
        return noise(3000, seed=99), 8000

    sounds = [replace(clip, path=clip.path.absolute()) for clip in clips_below([folder])]
    killer = replace(sounds[0], clip_id="poison", path=None, synthesise=poison)
    clips = [*sounds[:3], replace(killer, clip_id="late", synthesise=late), *sounds[3:6], killer, *sounds[6:]]
    rows_of = rows_on(cluster, floor_rows("mfcc", 1), [folder])
    found = feature_run.compute(tmp_path / "there.parquet", clips, [], SETTINGS, rows_of)
    assert [clip_id for clip_id, _ in found.failures] == [sounds[4].clip_id, "poison"]
    assert "poison: all 4 workers that tried it were killed" in found.failures[1][1]
    assert once.exists()
    others = [clip for clip in clips if clip is not killer]
    feature_run.compute(tmp_path / "here.parquet", others, [], SETTINGS, floor_rows("mfcc", 1))
    for name in ("here.parquet", "there.parquet"):
        feature_run.publish(tmp_path / name)
    here, there = (FeatureTable.load(tmp_path / name) for name in ("here.parquet", "there.parquet"))
    assert here.clip_ids.tolist() == there.clip_ids.tolist()
    assert np.array_equal(here.layers["mfcc"], there.layers["mfcc"])


@pytest.mark.slow
def test_items_come_in_order_in_whole_batches(cluster):
    batches = [*cluster.map(lambda some: [tuple(some)] * len(some), range(100), no_result, batch=4)]
    assert [batch[number % len(batch)] for number, batch in enumerate(batches) if len(batch) == 4][:4] == [0, 1, 2, 3]
    assert sorted({item for batch in batches for item in batch}) == [*range(100)]
    assert all(batch[0] % 4 == 0 and len(batch) % 4 == 0 for batch in batches)
    assert max(map(len, batches)) > 4  # quick tasks grow


@pytest.mark.slow
def test_prepare_writes_what_one_machine_writes(on_cluster, folder, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "classes").mkdir()
    folder.rename(tmp_path / "classes" / "noise")
    for place, more in (("here", []), ("there", on_cluster)):
        if more:  # this process decodes nothing
            monkeypatch.delattr(preparation, "load_sound")
        arguments = ["--dataset", "folder", "--data-dir", "classes", "--output-dir", place, "--quiet", *more]
        assert run_main("prepare", *arguments) == 1
    shards, rows = [], []
    for place in (tmp_path / "here", tmp_path / "there"):
        shards.append((place / "clips-00000.tfrecord").read_bytes())
        rows.append(prepared.rows_of(place / "index.parquet" / "00000.parquet"))
    assert len(rows[0]) == 9
    assert shards[0] == shards[1]
    assert rows[0][4].pop("failure").startswith("classes/noise/4.wav: ")
    assert rows[1][4].pop("failure").startswith(f"{tmp_path}/classes/noise/4.wav: ")
    assert rows[0] == rows[1]


@pytest.mark.slow
def test_probe_writes_what_one_machine_writes(on_cluster, tmp_path, monkeypatch):
    rng = np.random.default_rng(0)
    labels = np.arange(60) % 3
    layers = {name: (labels[:, None] + rng.normal(size=(60, 4))).astype(np.float32) for name in ("low", "high")}
    names, folds = np.array([f"{number}.wav" for number in range(60)]), np.arange(60) % 5
    for name in layers:
        about = {"labels": labels, "label_names": ["a", "b", "c"], "folds": folds, "splits": np.full(60, "")}
        FeatureTable({name: layers[name]}, clip_ids=names, **about).save(tmp_path / f"{name}.npz")
    baseline = ["--baseline", tmp_path / "high.npz", "--quiet"]
    for place, more in (("here", []), ("there", on_cluster)):
        if more:  # this process computes none
            monkeypatch.delattr(GridSearch, "fitted_scores")
        assert run_main("probe", tmp_path / "low.npz", "--output-dir", tmp_path / place, *baseline, *more) == 0
    for name in ("scores.csv", "predictions.csv", "config.json"):
        assert (tmp_path / "here" / name).read_bytes() == (tmp_path / "there" / name).read_bytes(), name
    with pytest.raises(InputError, match=r"low\.npz: is another file than where the command runs"):
        features_on_worker(None, [tmp_path / "low.npz"], ["0"])


@pytest.mark.slow
def test_compare_writes_what_one_machine_writes(on_cluster, tmp_path, exported, monkeypatch):
    """A network, a floor, features at hand that lack a clip, and the layers of two of them joined."""
    rows = [{"path": f"{n}.wav", "label": "ab"[n % 2], "fold": n // 2 % 3} for n in range(12)]
    for n in range(12):
        soundfile.write(tmp_path / f"{n}.wav", noise(900, seed=n) * np.linspace(0.1, 1, 900) ** (n % 2), 2000)
    pd.DataFrame(rows).to_csv(tmp_path / "clips.csv", index=False)
    (tmp_path / "11.wav").write_text("no audio")
    data = ["--dataset", "manifest", "--data-dir", tmp_path / "clips.csv", "--quiet"]
    assert run_main("mfcc", *data, "--output", tmp_path / "plain.npz") == 1
    monkeypatch.setattr(extraction, "use_one_thread_a_clip", lambda workers: None)  # TensorFlow has run here
    sources = ["--models", exported, "--log-mel", "--features", tmp_path / "plain.npz", "--join"]
    for place, more in (("here", []), ("there", on_cluster)):
        if more:  # this process computes none
            monkeypatch.delattr(GridSearch, "fitted_scores")
        arguments = [*sources, *data, "--combinations", "blocks", "--output-dir", tmp_path / place, *more]
        assert run_main("compare", *arguments) == 1
    here, there = (tmp_path / place for place in ("here", "there"))
    for name in ("features/tones.npz", "features/log_mel.npz", "differences.csv", "config.json", "failed.csv"):
        assert (here / name).read_bytes() == (there / name).read_bytes(), name
    scores = [pd.read_csv(place / "scores.csv").drop(columns="seconds_a_clip") for place in (here, there)]
    assert scores[0]["source"].nunique() == 4
    pd.testing.assert_frame_equal(*scores, check_exact=True)


# ---- bad input


def test_without_dask(monkeypatch):
    monkeypatch.setitem(sys.modules, "distributed", None)
    with pytest.raises(InputError, match=r"scheduler: needs Dask.*pip install 'keras_audio_transfer\[dask\]'"):
        Cluster("tcp://127.0.0.1:8786")


@pytest.mark.parametrize("address", ["tcp://127.0.0.1:9", "nonsense", "", "ftp://127.0.0.1:8786"])
def test_a_scheduler_that_is_not_there(address, folder, tmp_path, monkeypatch):
    monkeypatch.setattr(dask_cluster, "ANSWERS_IN", 0.5)
    begin = time.monotonic()
    with pytest.raises(
        InputError, match=f"^--scheduler: no Dask scheduler answers at {address} .*`dask scheduler`"
    ) as e:
        run_main("mfcc", folder, "--output", tmp_path / "f.npz", "--scheduler", address)
    assert time.monotonic() - begin < 25  # Dask itself would try for 30 s
    assert "\n" not in str(e.value)
    assert not (tmp_path / "f.npz.unfinished").exists()


@pytest.mark.slow
def test_what_is_no_scheduler_or_of_another_version(local, monkeypatch):
    import distributed

    worker = local.workers[0].worker_address
    with pytest.raises(InputError, match=f"no Dask scheduler answers at {worker}"):
        Cluster(worker)
    monkeypatch.setattr(distributed, "__version__", "1.0")
    with pytest.raises(InputError, match=r"has Dask 20\d\d.*, and this machine 1\.0; install the same versions"):
        Cluster(local.scheduler_address)


@pytest.mark.slow
def test_workers_that_differ(cluster, tmp_path, monkeypatch):
    with pytest.raises(InputError, match=r"worker tcp://\S+ does not see \S+/nowhere; share it"):
        [*cluster.map(list, [1], no_result, [tmp_path / "nowhere"])]
    versions = {**dask_cluster._versions(), "numpy": "1.0"}
    monkeypatch.setattr(dask_cluster, "_versions", lambda: versions)
    with pytest.raises(InputError, match=r"worker tcp://\S+ has numpy \S+, and this machine 1\.0; install the same"):
        [*cluster.map(list, [1], no_result)]


@contextmanager
def scheduler_without_workers(folder):
    """Its process and its address."""
    place = folder / "scheduler.json"
    command = [sys.executable, "-m", "distributed.cli.dask_scheduler", "--port", "0", "--no-dashboard"]
    command += ["--scheduler-file", str(place)]
    process = subprocess.Popen(command, stderr=subprocess.DEVNULL, cwd=ROOT)
    try:
        deadline = time.monotonic() + 60
        while not (place.exists() and place.read_text().endswith("}")):
            assert time.monotonic() < deadline
            time.sleep(0.1)
        yield process, json.loads(place.read_text())["address"]
    finally:
        process.kill()
        process.wait()


@pytest.mark.slow
def test_a_scheduler_that_ends_in_the_middle(tmp_path, caplog):
    """It has no workers: what is asked waits."""
    with scheduler_without_workers(tmp_path) as (process, address), Cluster(address) as cluster:
        assert f"{address}: has no workers yet" in caplog.text
        threading.Timer(1, process.kill).start()
        with pytest.raises(InputError, match=f"{address} does not answer any more; start it again"):
            [*cluster.map(list, [1], no_result)]


@pytest.mark.slow
def test_a_scheduler_that_has_no_workers(tmp_path, folder):
    what = r"^--scheduler: (\S+) has had no workers for 1 s; start some with `dask worker \1`, or wait longer "
    with scheduler_without_workers(tmp_path) as (_, address):
        flags = "--scheduler", address, "--workers-in", 1, "--quiet"
        with pytest.raises(InputError, match=what + r"\(--workers-in\), and run the same command"):
            run_main("mfcc", folder, "--output", tmp_path / "f.npz", *flags)
        command = [sys.executable, "-m", "distributed.cli.dask_worker", address, "--nthreads", "1", "--no-dashboard"]
        worker = subprocess.Popen(command, stderr=subprocess.DEVNULL, cwd=ROOT)
        try:
            assert run_main("mfcc", folder, "--output", tmp_path / "f.npz", "--scheduler", address, "--quiet") == 1
        finally:
            worker.terminate()
            worker.wait()
