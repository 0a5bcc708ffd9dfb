"""Calls in processes of their own: what comes of them, also where they fail or are killed, and that none is left."""

import multiprocessing
import os
import time

import pytest

from keras_audio_transfer.errors import InputError
from keras_audio_transfer.own_processes import as_they_end


def test_what_comes_of_calls():
    ended = dict(as_they_end(int, {"number": ("7",), "text": ("x",)}, jobs=1))
    assert ended["number"].result() == 7
    with pytest.raises(ValueError, match="invalid literal"):
        ended["text"].result()
    ((key, killed),) = as_they_end(os._exit, {"killed": (1,)}, jobs=1)
    assert key == "killed"
    with pytest.raises(InputError, match=r"^its process was killed, by a lack of memory perhaps; .* fewer `jobs`"):
        killed.result()


def test_what_is_closed_leaves_no_process():
    ended = as_they_end(time.sleep, {seconds: (seconds,) for seconds in (0, 1000, 2000)}, jobs=2)
    assert next(ended)[0] == 0
    ended.close()
    assert not multiprocessing.active_children()
