"""Training on several devices: each takes its part of every batch, and the loss is that of one device."""

import hashlib
import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import keras
import tensorflow as tf
from tensorflow.python.distribute import collective_all_reduce_strategy
from tensorflow.python.eager import context

from keras_audio_transfer.errors import InputError

_SECONDS_BETWEEN_CHECKS = 5


def start_with_others(seconds: float) -> tf.distribute.MultiWorkerMirroredStrategy:
    """The strategy of the workers of `TF_CONFIG`, once TensorFlow has started in all. They are watched from then on.

    TensorFlow's coordination service is left out: it waits without end for a worker that has ended before its start,
    holds Python's lock meanwhile, and says of workers that have ended well that they have crashed (2.20). Without it,
    TensorFlow waits with a limit, and asks the workers whether they live.

    Raises:
        InputError: a worker does not start in time.
    """
    context.context().configure_coordination_service(service_type="")
    workers = collective_all_reduce_strategy.CollectiveAllReduceExtended
    workers._check_health_initial_timeout, workers._check_health_interval = seconds, _SECONDS_BETWEEN_CHECKS
    try:
        return tf.distribute.MultiWorkerMirroredStrategy()
    except RuntimeError as error:  # of the timeout; TensorFlow's other errors are none
        what = f"a worker that was there has not started TensorFlow within {seconds:.0f} s; see what it said"
        raise InputError(f"strategy: {what}, and start the same command again on all") from error


def stop_watching(strategy: tf.distribute.Strategy) -> None:
    """After the training: from now on other workers may end."""
    if isinstance(strategy, tf.distribute.MultiWorkerMirroredStrategy):
        strategy.extended._stop_check_health_thread()


def shared(batches: tf.data.Dataset, strategy: tf.distribute.Strategy) -> tf.distribute.DistributedDataset:
    """Each device's part of every batch.

    Every worker makes whole batches and keeps its rows: mixup needs all of a batch, and its random numbers are those of
    one device. Of a batch with fewer clips than devices each device gets all, and the first one counts: parts without
    clips break TensorFlow's graphs (2.20, oneDNN).

    Args:
        batches: (inputs, targets), the same on all workers.
        strategy: of training.

    Returns:
        (inputs, targets, clips on all devices, clips that count on this one); parts differ by one clip at most.
    """
    devices = strategy.num_replicas_in_sync

    def of_worker(context):
        here = devices // context.num_input_pipelines
        first = context.input_pipeline_id * here

        def parts(x, y):
            clips = tf.shape(x)[0]
            too_few = clips < devices

            def part(device):
                begin = tf.where(too_few, 0, device * clips // devices)
                end = tf.where(too_few, clips, (device + 1) * clips // devices)
                counted = tf.where(too_few & (device > 0), 0, end - begin)
                return x[begin:end], y[begin:end], tf.where(too_few, clips * devices, clips), counted

            return tf.data.Dataset.range(first, first + here, output_type=tf.int32).map(part)

        return batches.flat_map(parts).prefetch(here)

    return strategy.distribute_datasets_from_function(of_worker)


class SharedModel(keras.Model):
    """A functional model that learns from `shared` batches what one device would learn from whole ones.

    Keras gives the mean losses of all parts the same weight, also where a part has fewer clips. And where there are
    several workers, it reduces the results of a step over an axis that they do not have (Keras 3.13).

    Compile it in the strategy's scope, but make it outside: there, Keras 3.13 builds it once more, from a batch that it
    cannot take apart where there are several workers.
    """

    def train_step(self, data):
        """One step on this device's part; gradients are added up over the devices."""
        x, y, clips, counted = data
        with tf.GradientTape() as tape:
            scores = self(x, training=True)
            loss = self._summed_loss(x, y, scores)
            of_batch = loss / tf.cast(clips, loss.dtype)
        gradients = tape.gradient(of_batch, self.trainable_variables)
        self.optimizer.apply_gradients(zip(gradients, self.trainable_variables, strict=True))
        return self._measured(loss, y, scores, counted)

    def test_step(self, data):
        """Measure this device's part."""
        x, y, _, counted = data
        scores = self(x, training=False)
        return self._measured(self._summed_loss(x, y, scores), y, scores, counted)

    def _summed_loss(self, x, y, scores):
        """Over the part's clips. Keras gives the mean, divided by the number of devices."""
        loss = self.compute_loss(x=x, y=y, y_pred=scores)
        devices = tf.distribute.get_strategy().num_replicas_in_sync
        return loss * tf.cast(devices * tf.shape(x)[0], loss.dtype)

    def _measured(self, loss, y, scores, counted):
        mean = loss / tf.cast(tf.shape(y)[0], loss.dtype)
        for metric in self.metrics:
            if metric.name == "loss":
                metric.update_state(mean, sample_weight=counted)
            else:
                metric.update_state(y[:counted], scores[:counted])
        results = self.get_metrics_result()
        if isinstance(tf.distribute.get_strategy(), tf.distribute.MultiWorkerMirroredStrategy):
            return {name: tf.reshape(value, [1]) for name, value in results.items()}
        return results


def synchronise_normalisation(model: keras.Model) -> None:
    """Have batch normalisation take its statistics from whole batches, not from the parts of each device."""
    for layer in model.layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            layer.synchronized = True


def check_agreement(strategy: tf.distribute.Strategy, values: Mapping) -> None:
    """Refuse workers that were not started for the same training. `values`: JSON values that all have to share."""
    digest = hashlib.sha256(json.dumps(values, sort_keys=True).encode()).digest()
    numbers = strategy.gather(tf.constant([int.from_bytes(digest[:4], "big")], tf.int64), axis=0)
    if len({*numbers.numpy().tolist()}) > 1:
        what = "the workers have different commands, clips or states of the run to resume"
        raise InputError(f"strategy: {what}; start the same command on all, with one disk under the same paths")


@contextmanager
def answering() -> Iterator[None]:
    """For what needs all workers.

    Raises:
        InputError: one of them has ended.
    """
    errors = tf.errors
    try:
        yield
    except (errors.UnavailableError, errors.AbortedError, errors.CancelledError, errors.DeadlineExceededError) as error:
        what = "a worker does not answer any more; see what it said, and start all again with `resume`"
        raise InputError(f"strategy: {what}") from error
