"""What a SavedModel serves: one network behind several signatures, in TensorFlow's own operations only."""

import json
from collections.abc import Collection
from functools import cached_property, wraps

import keras
import numpy as np
import tensorflow as tf

from keras_audio_transfer.audio.files import LARGEST_SAMPLE
from keras_audio_transfer.config import HIGHEST_RATE, LONG_CLIPS, LONGEST_HOP, LOWEST_RATE, SHORTEST_HOP
from keras_audio_transfer.export import wav
from keras_audio_transfer.model_folder import CARD, OF_HEAD, SCORES, Card
from keras_audio_transfer.resampling import resample

FEATURES, LABELS, TIMESTAMPS = "features", "labels", "timestamps"

# What a small request can make much of.
_MOST_CARDS = 1024
_MOST_SECONDS = 200_000  # of all windows together; one of less than a second counts as one, because of what it returns
_MOST_SECONDS_AT_ONCE = 10_000  # of the windows of all clips at one time, to which clips are filled


def layer_names(model: keras.Model) -> list[str]:
    """The model's layers in order of depth: its outputs without those of the head."""
    return [name for name in model.output if name not in OF_HEAD]


def serving_outputs(model: keras.Model, waveform) -> dict:
    """Each layer's features, `features` (all of them in order), and the head's outputs if any, of (batch, samples)."""
    outputs = dict(model(waveform, training=False))
    concatenated = tf.concat([outputs[name] for name in layer_names(model)], axis=1)
    return {**outputs, FEATURES: concatenated}


_WAVEFORM = tf.TensorSpec([None, None], tf.float32, name="waveform")


def _one_value_per_clip(name, dtype=tf.int32):
    return tf.TensorSpec([None], dtype, name=name)


# Name of a signature, which is also its method below -> its inputs.
_INPUTS = {
    "serving_default": [_WAVEFORM],
    "info": [_one_value_per_clip("query")],
    "padded": [_WAVEFORM, _one_value_per_clip("num_samples")],
    "waveform_at": [_WAVEFORM, _one_value_per_clip("sample_rate")],
    "audio_bytes": [_one_value_per_clip("audio_bytes", tf.string)],
    "as_trained": [_one_value_per_clip("audio_bytes", tf.string)],
    "timestamps": [
        _WAVEFORM,
        _one_value_per_clip("hop_seconds", tf.float32),
        _one_value_per_clip("window_seconds", tf.float32),
    ],
}


def build_signatures(
    model: keras.Model, card: Card, only: Collection[str] | None = None
) -> tuple[tf.train.Checkpoint, dict]:
    """A model as `tf.saved_model.save` takes it.

    Args:
        model: from waveforms to a dict of features, and `scores` where there is a head.
        card: the front end, and what `info` returns. Its `labels`, where it has one label a clip, are what `labels` is
            chosen from.
        only: the signatures that are wanted, where that is not all; the object cannot be called itself then.

    Returns:
        The object to save and its signatures: the methods of `Signatures`, by name. Each takes tensors by name and
        returns a dict of tensors. Models whose features depend on the whole batch (`decibel_maximum='batch'`) have
        serving_default and info only.

        Every input and output has the batch as its first dimension, because TF Serving's row form and its batching
        take no others; nor do they take a signature without inputs, hence `query`.

        Called itself, the object takes `waveform` as serving_default does, or one clip (samples,), and returns the
        outputs without batch dimension for that. It lists `variables` and `trainable_variables`, through which
        gradients pass; batch normalisation works with its stored statistics. (Of a folded model they are the folded
        ones: convolutions have taken in the normalisations.)

        All raise InvalidArgumentError, with a message that names the input, for one of another rank, and all but `info`
        for an empty batch, clips shorter than a frame, NaN, infinity, samples beyond 2**31, and what else the input
        cannot be. None does much more work than what its request is long for: see `_MOST_SECONDS`.
    """
    methods = Signatures(model, card)
    names = [*_INPUTS] if card.audio.decibel_maximum != "batch" else ["serving_default", "info"]
    signatures = {}
    result = tf.train.Checkpoint()  # unlike a tf.Module, it may have attributes called `variables`
    result.variables = [variable.value for variable in model.variables]
    result.trainable_variables = [variable.value for variable in model.trainable_variables]
    result.regularization_losses = []
    for name in names if only is None else [name for name in names if name in only]:
        endpoint = _of_declared_rank(getattr(methods, name), _INPUTS[name])
        signatures[name] = _graph(endpoint, _INPUTS[name])
        setattr(result, name, signatures[name])
    if only is None:
        result.__call__ = _graph(methods.called)
        for spec in (_WAVEFORM, tf.TensorSpec([None], tf.float32, name="waveform")):
            result.__call__.get_concrete_function(spec)
    return result, signatures


def _graph(function, inputs=None):
    """A TensorFlow function. What branches and loops in it says so: AutoGraph would translate all Keras layers in vain.

    It takes nearly half of the time that tracing and saving take.
    """
    return tf.function(function, input_signature=inputs, autograph=False)


class Signatures:
    """The signatures of a SavedModel, a method each: tensors -> dict of tensors.

    Args:
        model, card: see `build_signatures`.
    """

    def __init__(self, model: keras.Model, card: Card):
        self.model, self.card, self.audio = model, card, card.audio
        self.network = _graph(self._network, [_WAVEFORM]).get_concrete_function()
        specs = self.network.structured_outputs
        self.output_of_one_clip = {name: tf.TensorSpec(spec.shape[1:], spec.dtype) for name, spec in specs.items()}

    # Traced once each, as the network, however many signatures use them: a `tf.function` is traced for each caller.

    @cached_property
    def at_model_rate(self):
        """Waveforms (batch, samples) of a sample rate, an int32, at the model's."""
        with tf.init_scope():  # what asks for it first may be a graph itself
            return _graph(self._at_model_rate, [_WAVEFORM, tf.TensorSpec([], tf.int32)]).get_concrete_function()

    @cached_property
    def decoded(self):
        """The samples of a WAV file, a string, at the model's sample rate."""
        with tf.init_scope():
            return _graph(self._decoded, [tf.TensorSpec([], tf.string)]).get_concrete_function()

    def _network(self, waveform):
        outputs = serving_outputs(self.model, waveform)
        if self.card.labels and not self.card.multi_label and SCORES in outputs:
            outputs[LABELS] = tf.gather(tf.constant(self.card.labels), tf.argmax(outputs[SCORES], axis=1))
        return outputs

    def serving_default(self, waveform):
        """Features and scores of clips of one length.

        `waveform` float32 (batch, samples) at the model's sample rate -> every layer's features by name (batch,
        channels), `features` (all of them in order) and, where there is a head, `scores` (batch, labels) and `labels`
        string (batch,): the one with the highest score. Of a model of `classify` also `probabilities` (batch, labels),
        and, of one label a clip, `known` (batch,): the share of held-out clips of the classes that were less like them.
        """
        return self.network(_checked(waveform, *_batch_checks("waveform"), *_clip_checks(self.audio)))

    def padded(self, waveform, num_samples):
        """Clips of several lengths: every clip gets what it gets alone.

        `waveform` as above, and `num_samples` int32 (batch,): each clip's own length, what follows it is ignored.
        """
        waveform = _checked(waveform, *_batch_checks("waveform"))
        width = tf.shape(waveform)[1]
        num_samples = _checked(
            num_samples,
            _is_one_value_per_clip("num_samples", waveform),
            ("num_samples: is 0 or less; expected more", lambda n: n > 0),
            ("num_samples: exceeds the width of waveform; expected at most its width", lambda n: n <= width),
        )
        length = num_samples[0]
        return tf.cond(
            tf.reduce_all(tf.equal(num_samples, length)),
            lambda: self.serving_default(waveform[:, :length]),
            lambda: self._each_alone(lambda clip, length: clip[:length], waveform, num_samples),
        )

    def waveform_at(self, waveform, sample_rate):
        """Clips of any sample rate: `waveform`, and `sample_rate` int32 (batch,) in Hz; resampled to the model's."""
        waveform = _checked(waveform, *_batch_checks("waveform"), *_SAMPLES)
        sample_rate = _checked(sample_rate, _is_one_value_per_clip("sample_rate", waveform), _SAMPLE_RATE)
        rate = sample_rate[0]
        return tf.cond(
            tf.reduce_all(tf.equal(sample_rate, rate)),
            lambda: self.serving_default(self.at_model_rate(waveform, rate)),
            lambda: self._each_alone(lambda clip, rate: self.at_model_rate(clip[None], rate)[0], waveform, sample_rate),
        )

    def audio_bytes(self, audio_bytes):
        """WAV files, each at its own length.

        `audio_bytes` string (batch,): WAV files (RIFF or RF64, extensible or not) of PCM of 8, 16, 24 or 32 bit, or of
        float of 32 or 64 bit, of any sample rate and length; channels are averaged. See `wav.decode`.
        """
        return self._each_alone(self.decoded, _checked(audio_bytes, *_batch_checks("audio_bytes")))

    def as_trained(self, audio_bytes):
        """WAV files, each as `predict` and `extract` hear it: padded to the front end's `clip_seconds` if shorter.

        A longer one is heard whole, or in part, as the front end's `long_clips` says.
        """
        return self._each_alone(self._cropped_or_padded, _checked(audio_bytes, *_batch_checks("audio_bytes")))

    def timestamps(self, waveform, hop_seconds, window_seconds):
        """Features over time.

        `waveform`, and float32 `hop_seconds`, `window_seconds` (batch,), the same for all clips of a batch -> (batch,
        times, channels), and `timestamps` float32 (batch, times) in seconds: every multiple of `hop_seconds` before the
        end. Features at a time are those of the window around it. At both ends the waveform is reflected; one shorter
        than a window is padded first, as in training. All windows of a batch together are at most 200,000 s, where one
        of less than a second counts as a second. (An hour at a hop of 0.1 s is 36,000 s.)
        """
        waveform = _checked(waveform, *_batch_checks("waveform"), _NOT_EMPTY, *_SAMPLES)
        shortest = self.audio.n_fft / self.audio.sample_rate
        hop_seconds = _seconds("hop_seconds", hop_seconds, waveform, SHORTEST_HOP, LONGEST_HOP)
        window_seconds = _seconds("window_seconds", window_seconds, waveform, shortest, 600)
        hop = tf.cast(hop_seconds, tf.float64) * self.audio.sample_rate
        window = tf.cast(tf.round(window_seconds * self.audio.sample_rate), tf.int32)
        n_samples = tf.cast(tf.shape(waveform)[1], tf.float64)
        # The hop comes in float32: a multiple of it that is the end must not lie before the end by rounding.
        n_places = tf.math.ceil(n_samples / hop * (1 - 1e-7))  # float64
        waveform = _checked(waveform, *_window_checks(n_places, tf.cast(window_seconds, tf.float64)))
        places = tf.range(n_places)
        at_least_a_window = padded_to(waveform, window, self.audio.short_clips)
        around = tf.pad(at_least_a_window, [[0, 0], [window // 2, window - window // 2 - 1]], "REFLECT")
        outputs = tf.map_fn(
            lambda start: self.network(around[:, start : start + window]),
            tf.cast(tf.minimum(tf.round(places * hop), n_samples - 1), tf.int32),
            fn_output_signature={
                name: tf.TensorSpec([None, *spec.shape], spec.dtype) for name, spec in self.output_of_one_clip.items()
            },
        )
        seconds = tf.cast(places * tf.cast(hop_seconds, tf.float64), tf.float32)
        seconds = tf.repeat(seconds[None], tf.shape(waveform)[0], axis=0)
        return {name: _batch_first(values) for name, values in outputs.items()} | {TIMESTAMPS: seconds}

    def info(self, query=np.zeros(1, np.int32)):  # noqa: B008 - TensorFlow writes it into the SavedModel
        """`query` int32 (batch,), any numbers, by default one -> `card` string (batch,): the card as JSON, for each."""
        query = _checked(query, _FEW_CARDS)
        return {CARD: tf.fill(tf.shape(query), json.dumps(self.card.to_dict(), ensure_ascii=False))}

    def called(self, waveform):
        """The loaded object called itself: a batch (batch, samples), or one clip (samples,)."""
        if waveform.shape.rank == 1:
            return {name: values[0] for name, values in self.serving_default(waveform[None]).items()}
        return self.serving_default(waveform)

    def _each_alone(self, waveform_of, *arguments):
        """The network's outputs for `waveform_of(*argument)`, (samples,), of each of the arguments."""

        def one(elements):
            waveform = _checked(waveform_of(*elements)[None], *_clip_checks(self.audio))
            return {name: values[0] for name, values in self.network(waveform).items()}

        return tf.map_fn(one, arguments, fn_output_signature=self.output_of_one_clip)

    def _at_model_rate(self, waveform, sample_rate):
        return resample(waveform, sample_rate, self.audio.sample_rate)

    def _decoded(self, content):
        samples, sample_rate = wav.decode(content)
        return self.at_model_rate(samples[None], sample_rate)[0]

    def _cropped_or_padded(self, content):
        waveform = padded_to(self.decoded(content)[None], self.audio.least_samples, self.audio.short_clips)[0]
        if self.audio.long_clips == "whole":
            return waveform
        surplus = tf.cast(tf.shape(waveform)[0] - self.audio.n_samples, tf.float64)
        start = tf.cast(tf.round(LONG_CLIPS[self.audio.long_clips] * surplus), tf.int32)
        return waveform[start : start + self.audio.n_samples]


def _batch_first(values):
    """(times, batch, ...) -> (batch, times, ...)."""
    rank = values.shape.rank
    return tf.transpose(values, [1, 0, *range(2, rank)])


def padded_to(waveform, window, short_clips):
    """Waveforms (batch, samples) of at least `window` samples: as `audio.loading.crop_or_pad` pads."""
    n_samples = tf.shape(waveform)[1]
    length = tf.maximum(n_samples, window)
    if short_clips == "repeat":
        return tf.tile(waveform, [1, -(-length // n_samples)])[:, :length]
    return tf.pad(waveform, [[0, 0], [0, length - n_samples]])


def _of_declared_rank(endpoint, specs):
    """The endpoint behind a check of its inputs' ranks: a server feeds what a request holds, unchecked."""

    @wraps(endpoint)
    def checked(*inputs):
        return endpoint(*(_checked(value, _rank_check(spec)) for value, spec in zip(inputs, specs, strict=True)))

    return checked


def _rank_check(spec):
    dimensions, shape = ("[batch]", r"\[\d+\]") if spec.shape.rank == 1 else ("[batch, samples]", r"\[\d+ \d+\]")

    def has_rank(value):  # TensorFlow computes the rank from what was declared, but only the shape's text from what is
        return tf.strings.regex_full_match(tf.strings.format("{}", tf.shape(value)), shape)

    return f"{spec.name}: has another rank; expected {spec.dtype.name} {dimensions}, received the shape", has_rank


def _checked(value, *checks):
    """The value, once it has passed the checks: pairs of a message and a function to what must be true everywhere."""
    for message, passes in checks:
        with tf.control_dependencies([tf.debugging.Assert(tf.reduce_all(passes(value)), [message, tf.shape(value)])]):
            value = tf.identity(value)
    return value


_NOT_EMPTY = ("waveform: has no samples; expected at least one", lambda waveform: tf.shape(waveform)[1] > 0)
_SAMPLES = [
    ("waveform: holds NaN or infinity; expected samples in [-1, 1]", tf.math.is_finite),
    (
        "waveform: holds samples beyond 2**31; expected samples in [-1, 1]",
        lambda waveform: tf.abs(waveform) <= LARGEST_SAMPLE,
    ),
]
_FEW_CARDS = (
    f"query: asks for the card more than {_MOST_CARDS} times; expected at most so many numbers",
    lambda query: tf.shape(query)[0] <= _MOST_CARDS,
)


def _within(name, low, high, unit):
    message = f"{name}: is out of range; expected {low:g} to {high:g} {unit}"
    return message, lambda values: (values >= low) & (values <= high)


# No rate of a recording; and far beyond it a short request takes all of a server's memory or time.
_SAMPLE_RATE = _within("sample_rate", LOWEST_RATE, HIGHEST_RATE, "Hz")


def _seconds(name, values, waveform, low, high):
    """One number of seconds for all clips of a batch, checked."""
    return _checked(values, _is_one_value_per_clip(name, waveform), _within(name, low, high, "s"), _same(name))[0]


def _window_checks(n_places, window_seconds):
    """Of a batch of waveforms, the limits on windows of so many seconds around so many times."""

    def most(what, limit, seconds, expected):
        message = f"{what} are more than {limit} s together; expected {expected}, or fewer or shorter clips"
        return message, lambda waveform: tf.cast(tf.shape(waveform)[0], tf.float64) * seconds <= limit

    of_all = n_places * tf.maximum(window_seconds, 1)
    return [
        most("hop_seconds: the windows", _MOST_SECONDS, of_all, "a longer hop"),
        most(
            "window_seconds: the windows of all clips at a time",
            _MOST_SECONDS_AT_ONCE,
            window_seconds,
            "a shorter window",
        ),
    ]


def _same(name):
    message = f"{name}: differs within the batch; expected the same for every clip"
    return message, lambda values: tf.equal(values, values[0])


def _batch_checks(name):
    return [(f"{name}: the batch is empty; expected at least one clip", lambda batch: tf.shape(batch)[0] > 0)]


def _clip_checks(config):
    message = f"waveform: is shorter than a frame; expected at least {config.n_fft} samples at {config.sample_rate} Hz"
    return [(message, lambda waveform: tf.shape(waveform)[1] >= config.n_fft), *_SAMPLES]


def _is_one_value_per_clip(name, waveform):
    batch = tf.shape(waveform)[0]
    return f"{name}: is not one a clip; expected as many as waveform has rows", lambda n: tf.shape(n)[0] == batch
