"""What the parts of the benchmark share."""

import multiprocessing
from concurrent.futures import ProcessPoolExecutor

import numpy as np


def in_a_process(function, *parameters):
    """`function(*parameters)` in a fresh process, so that TensorFlow's settings and memory are its own."""
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
        return pool.submit(function, *parameters).result()


def largest_difference(values, expected):
    """Relative to 1 or, where larger, to what is expected."""
    return float(np.max(np.abs(values - expected) / np.maximum(1.0, np.abs(expected))))
