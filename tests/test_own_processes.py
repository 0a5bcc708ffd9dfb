"""Calls in processes of their own: what comes of them, also where they fail or are killed, and that none is left."""

import forked

CALLS = """
import os
from keras_audio_transfer.errors import InputError
from keras_audio_transfer.own_processes import as_they_end

if __name__ == "__main__":  # not in the processes that it starts
    ended = dict(as_they_end(int, {"number": ("7",), "text": ("x",)}, jobs=1))
    assert ended["number"].result() == 7
    assert isinstance(ended["text"].exception(), ValueError)
    ((key, killed),) = as_they_end(os._exit, {"killed": (1,)}, jobs=1)
    assert key == "killed"
    assert isinstance(killed.exception(), InputError)
    print(ended["text"].exception(), killed.exception(), sep="\\n")
"""
WRITING = """
import tempfile
from pathlib import Path
from keras_audio_transfer.own_processes import as_they_end

if __name__ == "__main__":  # not in the processes that it starts
    ((_, ended),) = as_they_end(tempfile.mkdtemp, {"folder": ()}, jobs=1)
    folder = Path(ended.result())
    assert folder.is_absolute() and not folder.exists() and not folder.parent.exists()
"""
CLOSED = """
import multiprocessing
import time
from keras_audio_transfer.own_processes import as_they_end

if __name__ == "__main__":  # not in the processes that it starts
    ended = as_they_end(time.sleep, {seconds: (seconds,) for seconds in (0, 1000, 2000)}, jobs=2)
    assert next(ended)[0] == 0
    patience = time.monotonic() + 60
    while not multiprocessing.active_children() and time.monotonic() < patience:  # the next may not have begun yet
        time.sleep(0.01)
    assert multiprocessing.active_children()
    ended.close()
    assert not multiprocessing.active_children()
"""


def run(code, tmp_path):
    """In a process of which those that it starts can be copies: else it imports TensorFlow once more."""
    script = tmp_path / "scripts" / "calls.py"
    script.parent.mkdir()
    script.write_text(code)
    finished = forked.script(script, [])
    assert finished.returncode == 0, finished.stderr
    return finished.stdout


def test_what_comes_of_calls(tmp_path):
    failed, killed = run(CALLS, tmp_path).splitlines()
    assert failed.startswith("invalid literal")
    assert killed.startswith("its process was killed, by a lack of memory perhaps; ")
    assert "fewer `jobs`" in killed
    assert "lower `batch_size`" in killed


def test_what_is_closed_leaves_no_process(tmp_path):
    run(CLOSED, tmp_path)


def test_temporary_files_of_a_call_go_with_its_process(tmp_path):
    run(WRITING, tmp_path)
