"""An 8-bit twin of a network of patches: what our own numbers would cost and give on a phone.

TensorFlow Lite quantises what follows the patches, weights and activations. The front end stays in float: magnitudes
before a logarithm do not fit 8 bits; the published 8-bit YAMNet is made like that, too.
"""

import numpy as np


def write_twin(model_dir, config, examples, folder):
    """Write `front_end.tflite`, and `network.tflite` with ranges found on the examples, which are waveforms."""
    import keras
    import tensorflow as tf

    from keras_audio_transfer.export.batchnorm_folding import folded
    from keras_audio_transfer.export.tflite import converted
    from keras_audio_transfer.extractor import load_model
    from keras_audio_transfer.model_folder import OF_HEAD

    model = load_model(model_dir / "model.keras")
    patches = model.get_layer("patches").output
    front_end = folded(keras.Model(model.input, {"patches": patches}))
    names = [name for name in model.output if name not in OF_HEAD]
    maps = {name: model.get_layer(f"{name}_joined").input[0] for name in names}
    network = keras.Model(patches, {name: keras.layers.GlobalAveragePooling2D()(x) for name, x in maps.items()})
    spec = tf.TensorSpec([1, config.patch_samples], tf.float32, name="waveform")
    (folder / "front_end.tflite").write_bytes(converted(front_end, front_end, spec))
    of_examples = [front_end(waveform[np.newaxis])["patches"].numpy() for waveform in examples]
    rows = [patch[np.newaxis] for of_one in of_examples for patch in of_one]
    spec = tf.TensorSpec([1, *patches.shape[1:]], tf.float32, name="patches")
    (folder / "network.tflite").write_bytes(converted(network, network, spec, rows))


class Twin:
    """Both files, each with an interpreter of its own, on one core.

    Args:
        folder: of `write_twin`.
        config: the front end.
    """

    def __init__(self, folder, config):
        import tensorflow as tf

        self.config = config
        self.interpreters = [
            tf.lite.Interpreter(str(folder / name), num_threads=1) for name in ("front_end.tflite", "network.tflite")
        ]
        self.front_end, self.network = (
            interpreter.get_signature_runner("serving_default") for interpreter in self.interpreters
        )

    def of_file(self, path):
        """The features of a file, read as we do."""
        from keras_audio_transfer.audio.loading import load_waveform
        from keras_audio_transfer.datasets.clip import Clip

        return self.features(load_waveform(Clip(str(path), path), self.config.sample_rate))

    def features(self, waveform):
        """Layer -> the mean over a waveform's patches."""
        samples, hop = self.config.patch_samples, self.config.patch_hop_samples
        waveform = np.pad(waveform, (0, self.config.zeros_behind(len(waveform))))
        rows = []
        for start in range(0, len(waveform) - samples + 1, hop):
            patches = self.front_end(waveform=waveform[np.newaxis, start : start + samples])["patches"]
            rows.append(self.network(patches=patches))
        return {name: np.mean([row[name][0] for row in rows], axis=0) for name in rows[0]}
