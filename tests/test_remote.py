"""Files elsewhere, on a real S3 server on this machine: read, written whole, and what can go wrong on the way."""

import os
import re
import shutil
import socketserver
import subprocess
import sys
import threading
import time
import urllib.request
from functools import cache
from pathlib import Path
from typing import ClassVar

import fsspec
import numpy as np
import pytest
import s3fs
import soundfile
from botocore import retryhandler
from botocore.loaders import JSONFileLoader
from conftest import run_main
from filelock import FileLock
from fsspec.implementations.memory import MemoryFileSystem
from moto.moto_server import threaded_moto_server
from sounds import CONFIG, noise
from werkzeug.serving import WSGIRequestHandler

import keras_audio_transfer as kat
from keras_audio_transfer import datasets, remote, remote_cache, remote_paths
from keras_audio_transfer.audio.loading import WaveformStore, readable_clips
from keras_audio_transfer.commands import cli
from keras_audio_transfer.datasets.relabelling import relabelled
from keras_audio_transfer.errors import InputError
from keras_audio_transfer.model_folder import default_model

ROOT = Path(__file__).resolve().parents[1]
KEY, SECRET = "AKIATHISKEYISSECRET", "andsoisthislongpassword"
BUSY = "503 Slow Down", "SlowDown"
ERROR = '<?xml version="1.0"?><Error><Code>{}</Code><Message>of {}</Message></Error>'


class Faulty:
    """An application that notes requests, and answers some of them badly: `faults` are ({part of request}, how)."""

    requests: ClassVar[list[str]] = []
    faults: ClassVar[list[tuple[str, object]]] = []

    def __init__(self, application):
        self.application = application

    def __call__(self, environ, start_response):
        request = f"{environ['REQUEST_METHOD']} {environ['PATH_INFO'].encode('latin-1').decode()}"
        self.requests.append(request)
        fault = next((fault for fault in self.faults if fault[0] in request), None)
        if fault is None:
            return self.application(environ, start_response)
        self.faults.remove(fault)
        if fault[1] == "cut":  # half of the body that the headers promise
            whole = b"".join(self.application(environ, start_response))
            return [whole[: len(whole) // 2]]
        if fault[1] == "slow":
            time.sleep(1)
            return self.application(environ, start_response)
        status, code = fault[1]
        start_response(status, [("Content-Type", "application/xml")])
        return [ERROR.format(code, KEY).encode()]


@pytest.fixture(scope="module")
def server():
    with pytest.MonkeyPatch.context() as patched:
        application = threaded_moto_server.DomainDispatcherApplication
        patched.setattr(threaded_moto_server, "DomainDispatcherApplication", lambda *a: Faulty(application(*a)))
        patched.setattr(WSGIRequestHandler, "log_request", lambda *a, **k: None)
        read = cache(JSONFileLoader().load_file)  # each test has new clients, which would read the same again
        patched.setattr(JSONFileLoader, "load_file", lambda loader, path: read(path))
        patched.setattr(retryhandler, "delay_exponential", lambda **how: 0)
        server = threaded_moto_server.ThreadedMotoServer("127.0.0.1", 0, verbose=False)
        server.start()
        yield "http://{}:{}".format(*server.get_host_and_port())
        server.stop()


def ask(server, path, data=b""):
    request = urllib.request.Request(f"{server}/moto-api/{path}", data, {"Content-Type": "text/plain"})
    urllib.request.urlopen(request).read()


@pytest.fixture
def s3(server, tmp_path, monkeypatch):
    """fsspec's file system with an empty bucket, and an empty cache."""
    ask(server, "reset")
    Faulty.requests.clear()
    Faulty.faults.clear()
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)
    for name, value in {
        "AWS_ACCESS_KEY_ID": KEY,
        "AWS_SECRET_ACCESS_KEY": SECRET,
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_ENDPOINT_URL": server,
        "AWS_EC2_METADATA_DISABLED": "true",
        "AWS_CONFIG_FILE": os.devnull,
        "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
        remote_paths.ENVIRONMENT: str(tmp_path / "cache"),
    }.items():
        monkeypatch.setenv(name, value)
    fsspec.filesystem("s3").clear_instance_cache()
    system = fsspec.filesystem("s3", use_listings_cache=False)
    system.mkdir("bucket")
    yield system
    fsspec.filesystem("s3").clear_instance_cache()


@pytest.fixture
def sounds(s3, tmp_path):
    """A local folder of two classes with two sounds each, which is in the bucket, too."""
    folder = tmp_path / "sounds"
    for seed, name in enumerate(("dog/1", "dog/2", "cat/1", "cat/2")):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        soundfile.write(folder / f"{name}.wav", noise(4000, seed=seed), 8000)
    s3.put(str(folder), "bucket/sounds", recursive=True)
    return folder


def downloads():
    """The names of the objects that were asked for since the last time."""
    found = [request.removeprefix("GET /bucket/") for request in Faulty.requests if request.startswith("GET /bucket/")]
    Faulty.requests.clear()
    return sorted(name for name in found if name)


def reads(url):
    return lambda: kat.FeatureTable.load(url)


def writes(url):
    return lambda: run_main("mfcc", "x.wav", "--output", url)


def xml(status, code):
    body = ERROR.format(code, KEY)
    return f"HTTP/1.1 {status} X\r\nContent-Length: {len(body)}\r\nConnection: close\r\n\r\n{body}".encode()


# What answers at the place of a storage -> its answer; none where it never comes.
ANSWERS = {
    "closes": b"",
    "hangs": None,
    "ssh": b"SSH-2.0-OpenSSH\r\n",
    "a page": b"HTTP/1.1 200 OK\r\nContent-Length: 18\r\n\r\n<html>log in here<",
    "moved": xml(301, "PermanentRedirect"),
    "another region": xml(400, "AuthorizationHeaderMalformed"),
}


class NoStorage(socketserver.BaseRequestHandler):
    def handle(self):
        asked = self.request.recv(65536)
        if self.server.answer is None:
            self.server.ended.wait()
        else:
            head, gap, body = self.server.answer.partition(b"\r\n\r\n")
            self.request.sendall(head + gap + (b"" if asked.startswith(b"HEAD") else body))


@pytest.fixture
def instead(s3, monkeypatch):
    """Let something else answer in the place of the storage, by its name in `ANSWERS`; its address is returned."""
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
    monkeypatch.setattr(s3fs.S3FileSystem, "retries", 1)
    monkeypatch.setitem(fsspec.config.conf, "s3", {"config_kwargs": {"read_timeout": 0.3}})
    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), NoStorage) as other:
        threading.Thread(target=other.serve_forever, args=(0.05,)).start()
        other.ended = threading.Event()

        def answer(name):
            other.answer = ANSWERS[name]
            address = "http://{}:{}".format(*other.server_address)
            monkeypatch.setenv("AWS_ENDPOINT_URL", address)
            fsspec.filesystem("s3").clear_instance_cache()
            return address

        yield answer
        other.ended.set()
        other.shutdown()


def kept_in(text):
    """The only file in the folder that a message ends with."""
    (file,) = [path for path in Path(text.rpartition(" is in ")[2]).rglob("*") if path.is_file()]
    return file


# ---- reading


def test_a_model_and_sounds_are_used_as_if_they_were_here(s3, sounds):
    s3.put(str(default_model()), "bucket/models/mine", recursive=True)
    model, here = kat.load_model("s3://bucket/models/mine"), kat.load_model()
    assert model.card == here.card
    table = kat.extract("s3://bucket/sounds", "s3://bucket/models/mine", layers="layer1")
    assert [*table.clip_ids] == [f"s3://bucket/sounds/{name}.wav" for name in ("cat/1", "cat/2", "dog/1", "dog/2")]
    np.testing.assert_array_equal(table.to_numpy(), kat.extract(sounds, here, layers="layer1").to_numpy())


def test_a_verb_takes_the_same_flags(s3, sounds, tmp_path, capsys):
    place = "s3://bucket/features/mfcc.npz"
    assert run_main("mfcc", "--dataset", "folder", "--data-dir", "s3://bucket/sounds", "--output", place) == cli.DONE
    said = capsys.readouterr()
    assert said.out == f"written: {place} (4 clips, 1 layers)\n"
    assert "fetching: 4 files" in said.err
    assert run_main("mfcc", "--dataset", "folder", "--data-dir", sounds, "--output", tmp_path / "here.npz") == cli.DONE
    there, here = kat.FeatureTable.load(place), kat.FeatureTable.load(tmp_path / "here.npz")
    assert [*there.clip_ids] == [*here.clip_ids]
    np.testing.assert_array_equal(there.to_numpy(), here.to_numpy())
    assert not [*remote_paths.cache_dir().glob("writing.*")]


def test_a_copy_is_fetched_again_only_where_its_original_is_another(s3, sounds):
    def checksums():
        clips = datasets.load("folder", "s3://bucket/sounds")
        return {clip.clip_id: clip.path.read_bytes() for clip in clips}

    first = checksums()
    assert downloads() == [f"sounds/{name}.wav" for name in ("cat/1", "cat/2", "dog/1", "dog/2")]
    assert checksums() == first
    assert downloads() == []
    new = (sounds / "cat" / "2.wav").read_bytes()  # of the same size
    s3.pipe("bucket/sounds/dog/1.wav", new)
    s3.rm("bucket/sounds/dog/2.wav")
    assert {**first, "dog/1.wav": new} == {**checksums(), "dog/2.wav": first["dog/2.wav"]}
    assert downloads() == ["sounds/dog/1.wav"]
    next(clip.path for clip in datasets.load("folder", "s3://bucket/sounds")).write_bytes(b"damaged")
    assert checksums()["cat/1.wav"] == first["cat/1.wav"]
    s3.rm("bucket/sounds/dog", recursive=True)
    assert {*checksums()} == {"cat/1.wav", "cat/2.wav"}


def test_a_manifest_names_files_beside_it_and_elsewhere(s3, sounds):
    rows = "path,label\nsounds/dog/1.wav,dog\ns3://bucket/sounds/cat/1.wav,cat\nsounds/dog/none.wav,dog\n"
    s3.pipe("bucket/clips.csv", rows.encode())
    clips = datasets.load("manifest", "s3://bucket/clips.csv")
    assert [clip.clip_id for clip in clips] == ["sounds/dog/1.wav", "sounds/cat/1.wav", "sounds/dog/none.wav"]
    assert [clip.path.is_file() for clip in clips] == [True, True, False]
    assert downloads() == ["clips.csv", "sounds/cat/1.wav", "sounds/dog/1.wav"]
    readable, failures, _ = readable_clips(clips, WaveformStore(CONFIG))
    assert [clip.clip_id for clip in readable] == ["sounds/dog/1.wav", "sounds/cat/1.wav"]
    reason = "s3://bucket/sounds/dog/none.wav: does not exist; expected an audio file; check the path"
    assert failures == [("sounds/dog/none.wav", reason)]
    (sounds / "here.csv").write_text("path,label\ndog/1.wav,dog\ns3://bucket/sounds/cat/2.wav,cat\n")
    assert [clip.clip_id for clip in datasets.load("manifest", sounds / "here.csv")][
        1
    ] == "s3://bucket/sounds/cat/2.wav"


def test_labels_filled_in_name_files_elsewhere(s3, sounds):
    (sounds / "labels.csv").write_text("file,correct_label\ns3://bucket/sounds/cat/2.wav,cow\ncat/1.wav,dog\n")
    clips = relabelled(datasets.load("folder", sounds), sounds / "labels.csv")
    labels = {clip.clip_id: clip.labels for clip in clips}
    assert labels["s3://bucket/sounds/cat/2.wav"] == ("cow",)
    assert labels["cat/1.wav"] == ("dog",)
    assert clips[-1].path.read_bytes() == (sounds / "cat" / "2.wav").read_bytes()


def test_names_that_lead_out_of_the_copies_are_left_out(s3, sounds, caplog):
    for name in ("../../x.wav", "a//b.wav"):
        s3.pipe(f"bucket/sounds/dog/{name}", b"x")
    s3.pipe("bucket/sounds/dog/", b"")  # stands for a folder
    assert len(datasets.load("folder", "s3://bucket/sounds")) == 4
    assert caplog.text.count("left out") == 2
    assert not [path for path in remote_paths.cache_dir().rglob("x.wav")]


# ---- writing


def test_what_fails_is_not_written(s3):
    def write():
        with remote.published("s3://bucket/out/x.npz") as place:
            place.write_bytes(b"half")
            raise RuntimeError

    with pytest.raises(RuntimeError):
        write()
    assert s3.find("bucket") == []
    assert not [*remote_paths.cache_dir().glob("writing.*")]


def test_a_folder_is_not_read_before_all_of_it_is_there(s3):
    s3.pipe({"bucket/m/card.json": b"old", "bucket/m/1/a": b"old", "bucket/m/[g]one *é": b"", "bucket/m/same": b"same"})
    Faulty.requests.clear()
    with remote.published("s3://bucket/m") as place:
        assert (place / "1" / "a").read_bytes() == b"old"
        for name in ("card.json", "1/a", "2.new"):
            (place / name).write_bytes(b"new")
        (place / "[g]one *é").unlink()
        assert [request for request in Faulty.requests if "PUT" in request] == ["PUT /bucket/.m.trial"]
        Faulty.requests.clear()
    *removed, a, b, last = [request for request in Faulty.requests if not request.startswith(("GET", "HEAD"))]
    assert sorted(removed) == ["DELETE /bucket/m/[g]one *é", "DELETE /bucket/m/card.json"]
    assert sorted((a, b)) == ["PUT /bucket/m/1/a", "PUT /bucket/m/2.new"]
    assert last == "PUT /bucket/m/card.json"
    content = {"1/a": b"new", "2.new": b"new", "card.json": b"new", "same": b"same"}
    assert {name.removeprefix("bucket/m/"): s3.cat(name) for name in s3.find("bucket/m")} == content


def test_a_list_of_failures_is_of_the_last_run(s3, sounds):
    s3.pipe("bucket/sounds/cat/3.wav", b"no sound")
    arguments = "mfcc", "s3://bucket/sounds", "--output", "s3://bucket/out/f.npz", "--quiet"
    assert run_main(*arguments) == cli.SOME_FAILED
    assert s3.cat("bucket/out/failed.csv").startswith(b"clip,reason\ns3://bucket/sounds/cat/3.wav,")
    s3.rm("bucket/sounds/cat/3.wav")
    assert run_main(*arguments) == cli.DONE
    assert s3.find("bucket/out") == ["bucket/out/f.npz"]


def test_results_that_cannot_be_written_are_kept(s3):
    def write():
        with remote.published("s3://bucket/out/x") as place:
            place.write_bytes(b"the work of a night")
            Faulty.faults += [("PUT", ("403 Forbidden", "AccessDenied"))]

    with pytest.raises(InputError, match=r"^s3://bucket/out/x: was refused .*what was to be written is in ") as error:
        write()
    kept = Path(str(error.value).rpartition(" is in ")[2])
    assert [path.read_bytes() for path in kept.rglob("x")] == [b"the work of a night"]


def test_what_is_interrupted_while_it_is_written_is_kept(s3, monkeypatch, caplog):
    def interrupted(*paths):
        raise KeyboardInterrupt

    def write():
        with remote.published("s3://bucket/out/x") as place:
            place.write_bytes(b"the work of a night")
            monkeypatch.setattr(remote, "_put", interrupted)

    with pytest.raises(KeyboardInterrupt):
        write()
    assert caplog.messages[0].startswith("s3://bucket/out/x: not written; what was to be written is in ")
    assert kept_in(caplog.messages[0]).read_bytes() == b"the work of a night"
    assert not [*remote_paths.cache_dir().glob("writing.*")]


def test_where_one_of_two_outputs_cannot_be_written_the_other_is_kept_too(s3):
    def write():
        with remote.published("s3://bucket/out/x") as x, remote.published("s3://bucket/out/y") as y:
            x.write_bytes(b"x")
            y.write_bytes(b"y")
            Faulty.faults += [("PUT", ("403 Forbidden", "AccessDenied"))]

    with pytest.raises(InputError, match=r"^s3://bucket/out/y: was refused") as error:
        write()
    y, x = str(error.value).split("; what was to be written to s3://bucket/out/x")
    assert [kept_in(text).read_bytes() for text in (x, y)] == [b"x", b"y"]


def test_nothing_is_said_to_be_written_that_is_not(s3, sounds, capsys):
    Faulty.faults += [("PUT /bucket/out/mfcc.npz", ("403 Forbidden", "AccessDenied"))]
    with pytest.raises(InputError, match=r"^s3://bucket/out/mfcc.npz: was refused"):
        run_main("mfcc", sounds, "--output", "s3://bucket/out/mfcc.npz")
    assert "written" not in capsys.readouterr().out
    cli.show("written: here.npz")
    assert capsys.readouterr().out == "written: here.npz\n"


def test_an_output_that_is_an_input_is_refused(s3, sounds):
    place = "s3://bucket/sounds"
    with pytest.raises(InputError, match=r"^--output: s3://bucket/sounds is or holds an input, s3://bucket/sounds/dog"):
        run_main("mfcc", f"{place}/dog", "--output", place)
    assert len(s3.find("bucket")) == 4


def test_what_can_only_be_here_is_refused_elsewhere(s3, tmp_path, monkeypatch):
    download = "--dataset", "esc10", "--data-dir", "s3://bucket/esc", "--download"
    with pytest.raises(InputError, match=r"^--data-dir: s3://bucket/esc is elsewhere; download to a folder here"):
        run_main("mfcc", *download, "--output", tmp_path / "x.npz")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError, match=r"^data_dir: s3:/bucket/esc is no path on this machine"):
        datasets.download("esc10", "s3://bucket/esc")
    with pytest.raises(InputError, match=r"^path: s3:/bucket/x.npz is no path.* their address is a text, not a Path"):
        kat.FeatureTable.load(Path("s3://bucket/x.npz"))


# ---- addresses of this machine


def test_an_address_of_this_machine_is_its_path(sounds, tmp_path, monkeypatch, capsys):
    (tmp_path / "current").mkdir()
    monkeypatch.chdir(tmp_path / "current")
    output = tmp_path / "a folder" / "mfcc.npz"
    assert run_main("mfcc", sounds.as_uri(), "--output", output.as_uri()) == cli.DONE
    assert capsys.readouterr().out == f"written: {output} (4 clips, 1 layers)\n"
    table = kat.FeatureTable.load(output.as_uri())
    table.save(f"{output.parent.as_uri()}/again.npz")
    assert [path.name for path in sorted(output.parent.iterdir())] == ["again.npz", "mfcc.npz"]
    assert len(datasets.load("folder", sounds.as_uri())) == 4
    assert not [*Path().iterdir()]
    assert not remote_paths.cache_dir().exists()


@pytest.mark.parametrize("url", ["file://mfcc.npz", "file://~/mfcc.npz", "file:/mfcc.npz", "s3:/bucket/mfcc.npz"])
def test_an_address_that_is_not_whole_is_no_path(url, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    expected = f"{url}: is not absolute; expected such as file:///" if "://" in url else f"{url} has lost a slash; exp"
    assert_says(writes(url), f"--output: {expected}")
    assert_says(reads(url), expected if "://" in url else f"path: {url} is no path on this machine")


# ---- bad answers


@pytest.mark.parametrize(
    "how",
    [
        "cut",
        pytest.param("slow", marks=pytest.mark.slow),
        BUSY,
        pytest.param(("500 Internal", "InternalError"), marks=pytest.mark.slow),
    ],
    ids=str,
)
def test_bad_answers_are_asked_for_again(s3, how, monkeypatch):
    monkeypatch.setitem(fsspec.config.conf, "s3", {"config_kwargs": {"read_timeout": 0.5}})
    fsspec.filesystem("s3").clear_instance_cache()
    content = bytes(range(256)) * 1000
    s3.pipe("bucket/x.bin", content)
    Faulty.faults += 2 * [("GET /bucket/x.bin", how)]
    place = remote.checked_input("path", "s3://bucket/x.bin", "a file")
    assert place.read_bytes() == content
    assert Faulty.faults == []
    Faulty.faults += [] if how == "cut" else 2 * [("PUT /bucket/out/y", how)]  # of no length that could be cut
    with remote.published("s3://bucket/out/y") as place:
        place.write_bytes(content)
    assert s3.cat("bucket/out/y") == content


@pytest.mark.parametrize("use", [reads, writes])
def test_a_cache_that_cannot_be_written_is_named(s3, tmp_path, monkeypatch, use):
    (tmp_path / "file").touch()
    monkeypatch.setenv(remote_paths.ENVIRONMENT, str(tmp_path / "file"))
    s3.pipe("bucket/x.npz", b"")
    assert_says(use("s3://bucket/x.npz"), rf"{tmp_path}/file(/remote)?: .*; expected a folder for copies; name another")


@pytest.mark.slow
def test_there_is_a_limit_and_the_old_copy_stays(s3, monkeypatch):
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "2")  # for each of s3fs's five
    fsspec.filesystem("s3").clear_instance_cache()
    s3.pipe("bucket/x.bin", b"old")
    place = remote.checked_input("path", "s3://bucket/x.bin", "a file")
    s3.pipe("bucket/x.bin", b"newer")
    Faulty.faults += 100 * [("GET /bucket/x.bin", BUSY)]
    assert_says(lambda: remote.fetch(place), r"s3://bucket/x.bin: the storage does not answer \(SlowDown\), after seve")
    assert len(Faulty.faults) == 90
    assert place.read_bytes() == b"old"


REFUSED = r"s3://bucket/.*: was refused \(InvalidAccessKeyId\); expected credentials"
BAD = {
    "no bucket to read": (reads("s3://nowhere/x.npz"), "s3://nowhere/x.npz: its bucket does not exist"),
    "no bucket to write": (writes("s3://nowhere/x.npz"), "s3://nowhere/x.npz: its bucket does not exist"),
    "no name of a bucket": (reads("s3://no bucket/x"), "s3://no bucket/x: its bucket does not exist"),
    "a whole bucket": (writes("s3://bucket"), "s3://bucket: is a whole bucket"),
    "nothing there": (reads("s3://bucket/x.npz"), "s3://bucket/x.npz: does not exist"),
    "no model": (lambda: kat.load_model("s3://bucket/m"), "s3://bucket/m: is not a folder; expected a model folder"),
    "unknown scheme": (reads("s4://bucket/x.npz"), "s4://bucket/x.npz: no storage is known by s4://"),
    "not installed": (reads("gs://bucket/x.npz"), "gs://bucket/x.npz: a package that reads gs:// is not installed"),
    "dots": (reads("s3://bucket/../x.npz"), "s3://bucket/../x.npz: has an empty part, '.' or '..'"),
    "a key in it": (reads(f"s3://{KEY}:{SECRET}@bucket/x.npz"), "s3://...: holds a key, a password"),
    "a signature in it": (reads(f"https://host/x.npz?Signature={SECRET}"), "https://...: holds a key, a password"),
}


@pytest.mark.parametrize("name", BAD)
def test_what_is_wrong_is_said_in_a_line_without_a_key(s3, name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    use, expected = BAD[name]
    assert_says(use, re.escape(expected))


def assert_says(use, expected):
    with pytest.raises(InputError, match=rf"^{expected}") as error:
        use()
    text = str(error.value)
    assert "\n" not in text
    assert not [secret for secret in (KEY, SECRET) if secret in text]


def test_a_wrong_key_is_never_missing(s3, sounds, server, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    s3.pipe("bucket/x.npz", b"")
    copy = remote.checked_input("path", "s3://bucket/x.npz", "a file")
    ask(server, "reset-auth", b"0")
    try:
        for use in (reads("s3://bucket/x.npz"), reads("s3://bucket/none.npz"), writes("s3://bucket/y.npz")):
            assert_says(use, REFUSED)
        assert_says(lambda: datasets.load("folder", "s3://bucket/sounds"), REFUSED)
    finally:
        ask(server, "reset-auth", b"inf")
    assert copy.exists()


def test_storage_that_lists_nothing_where_it_refuses_is_asked_again(s3, monkeypatch):
    class Refusing(MemoryFileSystem):
        def find(self, path, **how):
            return {}

        def info(self, path, **how):
            raise PermissionError(f"of {KEY}")

    fsspec.register_implementation("refusing", Refusing, clobber=True)
    assert_says(reads("refusing://folder/x.npz"), r"refusing://folder/x.npz: was refused \(PermissionError\)")


def test_a_clock_that_is_off_is_named(s3):
    Faulty.faults += 10 * [("GET /bucket", ("403 Forbidden", "RequestTimeTooSkewed"))]
    assert_says(reads("s3://bucket/x.npz"), "s3://bucket/x.npz: was refused, because this machine's clock is not")


def test_no_credentials(s3, monkeypatch):
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    fsspec.filesystem("s3").clear_instance_cache()
    assert_says(reads("s3://bucket/x.npz"), "s3://bucket/x.npz: no credentials were found for it")


def test_no_server(s3, monkeypatch):
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:1")
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
    fsspec.filesystem("s3").clear_instance_cache()
    assert_says(reads("s3://bucket/x.npz"), r"s3://bucket/x.npz: the storage does not answer \(EndpointConnection")


SAID = {
    "closes": r"the storage does not answer \(ConnectionClosedError\)",
    "hangs": r"the storage does not answer \(ReadTimeoutError\)",
    "ssh": r"no storage answers there \(HTTPClientError\); check the endpoint",
    "a page": r"the storage does not answer \(500\), after several tries; check the endpoint",
    "moved": r"its bucket is in another region, or at another endpoint \(.*AWS_DEFAULT_REGION, or check the endpoint",
    "another region": r"its bucket is in another region, .* \(AuthorizationHeaderMalformed\)",
}


@pytest.mark.parametrize("name", ANSWERS)
def test_what_answers_is_no_storage(instead, name):
    instead(name)
    assert_says(reads("s3://bucket/x.npz"), f"s3://bucket/x.npz: {SAID[name]}")


@pytest.mark.parametrize("name", ["closes", "ssh"])
def test_results_are_kept_where_no_storage_answers_any_more(instead, name):
    def write():
        with remote.published("s3://bucket/out/x") as place:
            place.write_bytes(b"the work of a night")
            instead(name)

    with pytest.raises(
        InputError, match=rf"^s3://bucket/out/x: {SAID[name]}.*; what was to be written is in "
    ) as error:
        write()
    assert kept_in(str(error.value)).read_bytes() == b"the work of a night"


SETTINGS = {
    "AWS_PROFILE": ("nope", r"\('nope'\) is not allowed; expected a profile"),
    "AWS_MAX_ATTEMPTS": ("abc", r"\('abc'\) is not allowed; expected a whole number"),
    "AWS_RETRY_MODE": ("never", r"\('never'\) is not allowed; expected legacy, standard"),
    "AWS_ENDPOINT_URL": ("nonsense", r"\('nonsense'\) is not allowed; expected such as https://"),
    "AWS_DEFAULT_REGION": ("not a region", r"\('not a region'\) is not allowed; expected the name of a region"),
    "AWS_ACCESS_KEY_ID": (f"{KEY}\r", r"\(not shown, .*\) is not allowed; expected a key without an end of line"),
    "AWS_CA_BUNDLE": ("none.pem", r"\('none.pem'\) is not allowed; expected a file of certificates"),
}


@pytest.mark.parametrize("name", SETTINGS)
def test_a_setting_that_cannot_be_right_is_named(instead, name, monkeypatch):
    instead("ssh")
    value, expected = SETTINGS[name]
    monkeypatch.setenv(name, value)
    assert_says(reads("s3://bucket/x.npz"), f"s3://bucket/x.npz: {name} in the environment {expected}")


def test_a_password_in_an_endpoint_is_not_shown(instead, monkeypatch):
    endpoint = instead("ssh").replace("//", f"//{KEY}:{SECRET}@")
    for wrong in (endpoint, f"{endpoint}x"):
        monkeypatch.setenv("AWS_ENDPOINT_URL", wrong)
        fsspec.filesystem("s3").clear_instance_cache()
        assert_says(reads("s3://bucket/x.npz"), r"s3://bucket/x.npz: AWS_ENDPOINT_URL in the environment \(not shown")


def test_a_file_of_the_storage_is_not_taken_for_the_cache(s3):
    class Refusing(MemoryFileSystem):
        def find(self, path, **how):
            raise PermissionError(13, "Permission denied", path)

    fsspec.register_implementation("refusing", Refusing, clobber=True)
    assert_says(reads("refusing://folder/x.npz"), r"refusing://folder/x.npz: was refused \(PermissionError\)")


# ---- processes


@pytest.mark.slow
def test_a_process_ends_well_and_shows_no_key(s3, sounds):
    command = [sys.executable, "-m", "keras_audio_transfer", "mfcc", "s3://bucket/sounds"]
    run = subprocess.run(
        [*command, "--output", "s3://bucket/f.npz"], capture_output=True, text=True, check=False, cwd=ROOT
    )
    assert run.returncode == 0, run.stderr
    assert "written: s3://bucket/f.npz" in run.stdout
    assert not [secret for secret in (KEY, SECRET) if secret in run.stdout + run.stderr]
    files = [path.read_bytes() for path in remote_paths.cache_dir().rglob("*") if path.is_file()]
    assert not [secret for secret in (KEY, SECRET) for content in files if secret.encode() in content]


def test_two_processes_fetch_the_same(s3, sounds):
    places = [remote.place_of("s3://bucket/sounds")] * 4
    threads = [threading.Thread(target=remote.fetch, args=(place,)) for place in places]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert {path.read_bytes() for path in places[0].rglob("*.wav")} == {p.read_bytes() for p in sounds.rglob("*.wav")}


def test_nothing_is_imported_for_local_paths(tmp_path):
    code = """
import sys
import keras_audio_transfer as kat
from keras_audio_transfer.commands import mfcc
kat.datasets.load("synthetic")
try:
    mfcc.main(["none.wav", "--output", "x.npz"])
except kat.InputError:
    pass
print([name for name in ("fsspec", "s3fs", "botocore", "aiohttp") if name in sys.modules])
"""
    run = subprocess.run(
        [sys.executable, "-c", code],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.stdout.strip() == "[]", run.stderr


# ---- how much is kept


@pytest.fixture
def run_ends(monkeypatch):
    """What the end of the process would do, and the beginning of another."""

    def end():
        remote_cache._own_run(remote_paths.cache_dir() / "runs", os.getpid()).release()
        remote_cache._own_run.cache_clear()

    yield end
    remote_cache._own_run.cache_clear()


AREAS = "copies", "versions"


def copies():
    """The names of the copies that are there."""
    found, versions = (
        sorted(path.stem for path in remote_paths.cache_dir().glob(f"{area}/**/*.wav")) for area in AREAS
    )
    assert found == versions
    return found


def fetch(name):
    remote.fetch(remote.place_of(f"s3://bucket/{name}.wav"))


def test_the_copies_stay_below_a_size(s3, monkeypatch, run_ends):
    """What was used longest ago goes first, and nothing that a run has used that is going on."""
    monkeypatch.setenv(remote_cache.LIMIT, "2.5e-6")  # 2,500 bytes
    for name in "abcdef":
        s3.pipe(f"bucket/{name}.wav", name.encode() * 1000)
    for name in "abc":
        fetch(name)
    assert copies() == ["a", "b", "c"]
    run_ends()
    fetch("a")
    fetch("d")
    assert copies() == ["a", "d"]
    run_ends()
    with FileLock(remote_paths.cache_dir() / "runs" / f"{time.time_ns()}.1"):
        fetch("e")
        assert copies() == ["d", "e"]
        fetch("a")
        assert copies() == ["a", "e"]
        run_ends()
        fetch("f")
        assert copies() == ["a", "e", "f"]
    run_ends()
    fetch("b")
    assert copies() == ["b", "f"]
    assert len([*(remote_paths.cache_dir() / "runs").iterdir()]) == 1


def test_a_cache_may_be_emptied_at_any_time(s3, run_ends):
    for name in "ab":
        s3.pipe(f"bucket/{name}.wav", name.encode())
        fetch(name)
        assert copies() == [name]
        shutil.rmtree(remote_paths.cache_dir())


def test_copies_that_another_user_has_fetched_are_used(s3, monkeypatch):
    s3.pipe("bucket/a.wav", b"a")
    fetch("a")
    version = remote_cache.version_file(remote.place_of("s3://bucket/a.wav"))
    said, used = version.read_text(), version.stat().st_mtime_ns
    utime, refusals = os.utime, [PermissionError("Operation not permitted")]

    def of_the_owner(path, ns):
        if refusals:
            raise refusals.pop()
        utime(path, ns=ns)

    monkeypatch.setattr(os, "utime", of_the_owner)
    downloads()
    fetch("a")
    assert (refusals, downloads()) == ([], [])
    assert (version.read_text(), version.stat().st_mtime_ns > used) == (said, True)


def test_a_limit_that_is_none(s3, monkeypatch):
    s3.pipe("bucket/a.wav", b"a")
    for text in ("much", "0", "-1", "nan"):
        monkeypatch.setenv(remote_cache.LIMIT, text)
        with pytest.raises(InputError, match=f"^{remote_cache.LIMIT}: '{text}' in the environment is no size; exp"):
            fetch("a")
