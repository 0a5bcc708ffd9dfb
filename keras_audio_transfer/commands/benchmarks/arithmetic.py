"""How much arithmetic a network is, and how much of it the cores do: what no way to compute it can go beyond."""

import math
import statistics
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

from keras_audio_transfer.commands.benchmarks.measuring import ROUNDS
from keras_audio_transfer.config import AudioConfig

SIZE = 1024  # rows and columns of the matrices; a product of two takes 4 MB each
PRODUCTS = 10  # of each core in a round


def of_network(network, config: AudioConfig, n_samples: int) -> int:
    """The `operations` of a model for a waveform; what its patches have in common is counted once, as it is served.

    Args:
        network: waveforms -> features.
        config: its front end, which fills the waveform up where it wants whole patches.
        n_samples: of the waveform.
    """
    from keras_audio_transfer.export.patchwise import ConvolvedFeatures, patchwise

    shape = 1, n_samples
    for layer in patchwise(network).layers:
        if isinstance(layer, ConvolvedFeatures):
            network, shape = layer.maps, (1, config.frames_of(n_samples), config.n_mels, 1)
    return operations(lambda x: network(x, training=False), *shape)


def operations(function: Callable, *shape: int) -> int:
    """Floating-point operations of the convolutions and matrix products in a function of a float32 tensor.

    A multiplication and an addition are two. Everything else counts nothing: Fourier transforms, activations, poolings.

    Args:
        function: of one tensor; TensorFlow's graph of it has to know the shape of every tensor.
        shape: the tensor's.
    """
    import tensorflow as tf

    graph = tf.function(function, autograph=False).get_concrete_function(tf.TensorSpec(shape, tf.float32)).graph
    terms = ((operation, _terms(operation)) for operation in graph.get_operations())
    return sum(2 * n_terms * math.prod(operation.outputs[0].shape) for operation, n_terms in terms if n_terms)


def _terms(operation):
    """How many products are summed up for one number of what an operation gives; 0 where it is no such sum."""
    if operation.type == "Conv2D":
        return math.prod(operation.inputs[1].shape[:3])
    if operation.type == "DepthwiseConv2dNative":
        return math.prod(operation.inputs[1].shape[:2])
    if operation.type == "MatMul":
        return operation.inputs[0].shape[0 if operation.get_attr("transpose_a") else 1]
    if operation.type == "BatchMatMulV2":
        return operation.inputs[0].shape[-2 if operation.get_attr("adj_x") else -1]
    return 0


def of_matrix_products(cores: int) -> float:
    """Floating-point operations a second of matrix products, float32, one after the other on each core; the median."""
    import tensorflow as tf

    tf.config.threading.set_intra_op_parallelism_threads(1)
    square = tf.function(lambda x: tf.matmul(x, x), autograph=False)
    matrices = [tf.random.normal((SIZE, SIZE), seed=core) for core in range(cores)]

    def multiply(matrix):
        for _ in range(PRODUCTS):
            square(matrix).numpy()

    seconds = []
    with ThreadPoolExecutor(cores) as threads:
        for _ in range(1 + ROUNDS):  # the first one traces
            start = time.perf_counter()
            list(threads.map(multiply, matrices))
            seconds.append(time.perf_counter() - start)
    return 2 * SIZE**3 * PRODUCTS * cores / statistics.median(seconds[1:])
