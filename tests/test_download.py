"""Downloads from a server that breaks off, stalls, redirects and lies."""

import hashlib
import http.server
import re
import threading
import time
from functools import partial
from types import SimpleNamespace

import numpy as np
import pytest
from test_datasets import TINY, pack

from keras_audio_transfer import download as module
from keras_audio_transfer.commands.progress import of_download
from keras_audio_transfer.datasets import DATASETS, Remote, download, load
from keras_audio_transfer.download import fetch
from keras_audio_transfer.errors import InputError
from keras_audio_transfer.files import only_writer

CONTENT = np.random.default_rng(0).bytes(1_000_000)
CHECKSUM = "sha256:" + hashlib.sha256(CONTENT).hexdigest()


def send(handler, status=200, body=b"", **headers):
    handler.send_response(status)
    for name, value in ({"Content_Length": len(body)} | headers).items():
        handler.send_header(name.replace("_", "-"), str(value))
    handler.end_headers()
    handler.wfile.write(body)


def whole(handler, content=CONTENT, most=None):
    """The file, or the part of it that is asked for, as servers do; at most so many bytes of it, then it breaks off."""
    asked = re.fullmatch(r"bytes=(\d+)-", handler.headers.get("Range", ""))
    start = int(asked[1]) if asked else 0
    if start >= len(content):
        send(handler, 416)
    elif asked:
        said = f"bytes {start}-{len(content) - 1}/{len(content)}"
        send(handler, 206, content[start:][:most], Content_Range=said, Content_Length=len(content) - start)
    else:
        send(handler, 200, content[:most], Content_Length=len(content))


def without_ranges(handler):
    send(handler, 200, CONTENT)


def of_unknown_length(handler):
    handler.send_response(200)
    handler.end_headers()
    handler.wfile.write(CONTENT)


def another_range(handler):
    send(handler, 206, CONTENT[:500_000], Content_Range=f"bytes 0-499999/{len(CONTENT)}")


def too_short(handler):
    send(handler, 200, CONTENT[:-1])


def stalled(handler):
    whole(handler, most=300_000)
    handler.server.is_over.wait(30)


def web_page(handler):
    send(handler, 200, b"<html>Log in first</html>", Content_Type="text/html; charset=utf-8")


def redirected(to):
    return lambda handler: send(handler, 302, Location=to)


half = partial(whole, most=500_000)
unavailable = partial(send, status=503)


@pytest.fixture
def serve(monkeypatch):
    """Serve the file `a.zip`, each request as the next of these answers, the last one for all others.

    Returns its address, and the list of what was asked for.
    """
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setattr(module, "WAITS", (0.0, 0.0))
    running = []

    def start(*answers):
        asked = []

        class Answer(http.server.BaseHTTPRequestHandler):
            def do_GET(self):
                asked.append(self.headers.get("Range"))
                answers[min(len(asked), len(answers)) - 1](self)
                self.close_connection = True

            def log_message(self, *_):
                pass

        server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Answer)
        server.is_over = threading.Event()
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        running.append((server, thread))
        return f"http://127.0.0.1:{server.server_port}/a.zip", asked

    yield start
    for server, thread in running:
        server.is_over.set()
        server.shutdown()
        thread.join()
        server.server_close()


def fetched(url, folder, **options):
    """What is fetched is the file, and nothing is left beside it."""
    fetch("it", url, CHECKSUM, folder / "a.zip", **{"progress": False, **options})
    assert (folder / "a.zip").read_bytes() == CONTENT
    assert [path.name for path in folder.iterdir()] == ["a.zip"]
    return True


@pytest.mark.parametrize(
    ("answers", "ranges"),
    [
        ([whole], [None]),
        ([of_unknown_length], [None]),
        ([half, whole], [None, "bytes=\\d+-"]),
        ([partial(whole, most=200_000), stalled, half, whole], [None, *["bytes=\\d+-"] * 3]),
        ([half, without_ranges], [None, "bytes=\\d+-"]),
        ([unavailable, unavailable, whole], [None, None, None]),
        ([redirected("/b.zip"), whole], [None, None]),
    ],
)
def test_what_breaks_off_is_gone_on_with(serve, tmp_path, monkeypatch, answers, ranges):
    monkeypatch.setattr(module, "TIMEOUT", 1.0)
    url, asked = serve(*answers)
    assert fetched(url, tmp_path)
    assert len(asked) == len(ranges)
    assert all(re.fullmatch(str(range_), str(found)) for range_, found in zip(ranges, asked, strict=True))


def test_a_later_call_goes_on(serve, tmp_path):
    url, asked = serve(half, unavailable)
    with pytest.raises(InputError) as error:
        fetch("it", url, CHECKSUM, tmp_path / "a.zip", False)
    kept = (tmp_path / "a.zip.part").stat().st_size
    assert 400_000 < kept <= 500_000
    assert (tmp_path / "a.zip.part").read_bytes() == CONTENT[:kept]
    assert str(error.value) == (
        f"it: {url} could not be downloaded (503 Service Unavailable); check the network, or get it by hand; "
        f"the {kept} bytes that came are kept in {tmp_path / 'a.zip.part'}, to go on from"
    )
    assert len(asked) == 3
    url, asked = serve(whole)
    assert fetched(url, tmp_path)
    assert asked == [f"bytes={kept}-"]


@pytest.mark.parametrize(
    ("left", "ranges"),
    [
        (CONTENT, [f"bytes={len(CONTENT)}-"]),  # of a run that was killed at the very end
        (b"of another file", ["bytes=15-", None]),
        (CONTENT + b"and more", [f"bytes={len(CONTENT) + 8}-", None]),
    ],
)
def test_what_was_left_may_be_whole_or_of_another_file(serve, tmp_path, left, ranges):
    (tmp_path / "a.zip.part").write_bytes(left)
    url, asked = serve(whole)
    assert fetched(url, tmp_path)
    assert asked == ranges


REFUSED = {
    "no such file": ([partial(send, status=404)], "could not be downloaded (404 Not Found); check", 1),
    "always unavailable": ([unavailable], "could not be downloaded (503 Service Unavailable); check", 3),
    "nothing comes": ([partial(whole, most=0)], "could not be downloaded (it broke off); check", 3),
    "a login page": ([web_page], "could not be downloaded (a web page came in its place; is there", 1),
    "to a file": ([redirected("file:///etc/hostname")], "(it is redirected to another scheme); check", 1),
    "to https": ([redirected("https://127.0.0.1:9/a.zip")], "(it is redirected to another scheme); check", 1),
    "in circles": ([redirected("/a.zip")], "could not be downloaded (302 Found); check", 31),
    "too short": ([too_short], f"does not have the checksum {CHECKSUM}; nothing was kept, try again later", 1),
    "other content": ([partial(whole, content=b"?")], f"does not have the checksum {CHECKSUM}; nothing was kept", 1),
    "another range": ([half, another_range], f"does not have the checksum {CHECKSUM}; nothing was kept", 2),
}


@pytest.mark.parametrize("what", REFUSED)
def test_what_is_not_the_file_is_refused_and_not_kept(serve, tmp_path, what):
    answers, message, requests = REFUSED[what]
    url, asked = serve(*answers)
    with pytest.raises(InputError) as error:
        fetch("it", url, CHECKSUM, tmp_path / "new" / "a.zip", False)
    assert str(error.value).startswith(f"it: {url} ")
    assert message in str(error.value)
    assert "\n" not in str(error.value)
    assert len(asked) == requests
    assert [*tmp_path.iterdir()] == []


@pytest.mark.parametrize("answer", [stalled, half])
def test_tries_have_an_end(serve, tmp_path, monkeypatch, answer):
    monkeypatch.setattr(module, "TIMEOUT", 1.0)
    url, asked = serve(answer, partial(whole, most=0))
    start = time.monotonic()
    with pytest.raises(InputError, match=r"could not be downloaded \(it broke off\); .* are kept in"):
        fetch("it", url, CHECKSUM, tmp_path / "a.zip", False)
    assert len(asked) == 3
    assert time.monotonic() - start < 10


def test_a_file_that_the_disk_has_no_room_for_is_not_begun(serve, tmp_path, monkeypatch):
    monkeypatch.setattr(module.shutil, "disk_usage", lambda _: SimpleNamespace(free=999_999))
    url, _ = serve(whole)
    with pytest.raises(OSError, match="No space left on device"):
        fetch("it", url, CHECKSUM, tmp_path / "a.zip", False)
    assert [*tmp_path.iterdir()] == []


def test_two_runs_do_not_write_to_one_file(serve, tmp_path):
    url, asked = serve(whole)
    with only_writer(tmp_path / "a.zip.part"), pytest.raises(InputError, match=r"a.zip.part: another run writes there"):
        fetch("it", url, CHECKSUM, tmp_path / "a.zip", False)
    assert asked == []


def test_progress_counts_what_was_there(serve, tmp_path, capsys):
    (tmp_path / "a.zip.part").write_bytes(CONTENT[:700_000])
    url, _ = serve(partial(whole, most=200_000), whole)
    assert fetched(url, tmp_path, progress=of_download(SimpleNamespace(quiet=False), "it"))
    percents = [int(percent) for percent in re.findall(r"downloading it: (\d+) % \(", capsys.readouterr().err)]
    assert (percents[0], percents[-1]) == (70, 100)
    assert percents == sorted({*percents})


def test_a_data_set_is_gone_on_with_by_the_next_call(serve, tmp_path, monkeypatch):
    monkeypatch.setattr(module, "_CHUNK", 50)
    checksum = pack(tmp_path / "esc.zip", {f"top/{name}": text for name, text in TINY["esc50"].items()})
    archive = partial(whole, content=(tmp_path / "esc.zip").read_bytes())
    url, asked = serve(partial(archive, most=100), unavailable, unavailable, archive)
    monkeypatch.setattr(DATASETS["esc50"], "REMOTES", {"ESC-50": Remote(url, checksum, "top")})
    data_dir = tmp_path / "new" / "esc"
    with pytest.raises(InputError, match=r"esc\.part, to go on from$"):
        download("esc50", data_dir, progress=False)
    assert [path.name for path in data_dir.parent.iterdir()] == ["esc.part"]
    download("esc50", data_dir, progress=False)
    assert asked[-1] == "bytes=100-"
    assert len(load("esc50", data_dir)) == 2
    assert [path.name for path in data_dir.parent.iterdir()] == ["esc"]
