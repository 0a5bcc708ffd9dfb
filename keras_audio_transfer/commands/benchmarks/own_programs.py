"""The programs that published networks come with, rebuilt from the published files: waveform -> features of a clip.

Each is prepared once, and works on one core. `features` gives the mean over a clip's windows of every layer that the
program has, by our names.
"""

import tempfile
import warnings
import zipfile
from importlib.util import find_spec
from pathlib import Path

import numpy as np

SAMPLE_RATE = 16000


def why_not(network: str, published_dir: Path | None, all_layers: bool) -> str | None:
    """Why a network's own program cannot be run here, in words; None where it can."""
    if published_dir is None:
        return "--published-dir is not given"
    if network not in PROGRAMS:
        return "no program of it is known that runs here"
    needed = PROGRAMS[network].needs + (PROGRAMS[network].needs_for_all_layers if all_layers else ())
    missing = [name for name in needed if find_spec(name) is None]
    return f"{' and '.join(missing)} is not installed" if missing else None


class OwnProgram:
    """What the programs have in common: clips are read as their users do, by librosa, which resamples with soxr.

    Attributes:
        how: what is run, in words.
        needs, needs_for_all_layers: packages that this one does not depend on.
        gives_all_layers: whether it always does.
    """

    how = ""
    needs: tuple[str, ...] = ()
    needs_for_all_layers: tuple[str, ...] = ()
    gives_all_layers = False

    def of_file(self, path: Path) -> dict[str, np.ndarray]:
        """The features of a file."""
        import librosa

        waveform, _ = librosa.load(path, sr=SAMPLE_RATE)
        return self.features(waveform)

    def features(self, waveform: np.ndarray, exact: bool = False) -> dict[str, np.ndarray]:
        """The features of a waveform. `exact` leaves roundings out that the program makes for convenience."""
        raise NotImplementedError


class YamnetLite(OwnProgram):
    """The 8-bit TensorFlow Lite classifier: windows of 15,600 samples every 7,680."""

    how = "tf.lite.Interpreter, 1 thread each; librosa.load (soxr); with all layers: every tensor is kept"
    samples, hop = 15600, 7680

    def __init__(self, network, published_dir, all_layers):
        import tensorflow as tf

        with warnings.catch_warnings(action="ignore"):  # of its next package; of the memory for all tensors
            self.interpreter = tf.lite.Interpreter(
                str(published_dir / "yamnet.tflite"), num_threads=1, experimental_preserve_all_tensors=all_layers
            )
        self.interpreter.allocate_tensors()
        self.input = self.interpreter.get_input_details()[0]["index"]
        self.taps = {"scores": self.interpreter.get_output_details()[0]}
        if all_layers:
            details = self.interpreter.get_tensor_details()
            for number in range(1, 15):  # in the file, depthwise and other convolutions are counted in turn
                name = f"tower0/network/layer{2 * number - 1}/conv/Relu6;"
                self.taps[f"layer{number}"] = next(tensor for tensor in details if tensor["name"].startswith(name))

    def features(self, waveform, exact=False):
        """The features of whole windows."""
        starts = range(0, len(waveform) - self.samples + 1, self.hop)
        rows = [self._of_window(waveform[start : start + self.samples]) for start in starts]
        return {name: np.mean([row[name] for row in rows], axis=0) for name in self.taps}

    def _of_window(self, window):
        self.interpreter.set_tensor(self.input, window)
        self.interpreter.invoke()
        row = {}
        for name, tensor in self.taps.items():
            values = self.interpreter.get_tensor(tensor["index"])
            values = values.mean(axis=tuple(range(values.ndim - 1)), dtype=np.float32)
            scale, zero = tensor["quantization"]
            row[name] = (values - zero) * scale if scale else values
        return row


class SpeechEmbedding(OwnProgram):
    """openwakeword's `AudioFeatures`: one ONNX graph for the spectrogram, one for a batch of windows of 76 frames."""

    how = "onnxruntime, 1 thread each, as openwakeword 0.4.0: all windows of a clip in one batch; librosa.load (soxr)"
    needs, needs_for_all_layers = ("onnxruntime",), ("onnx",)
    wheel, models = "openwakeword-0.4.0-py3-none-any.whl", "openwakeword/resources/models"
    frames, hop = 76, 8

    def __init__(self, network, published_dir, all_layers):
        with zipfile.ZipFile(published_dir / self.wheel) as wheel:
            graphs = [wheel.read(f"{self.models}/{name}.onnx") for name in ("melspectrogram", "embedding_model")]
        self.taps = ["embedding"]
        if all_layers:
            graphs[1] = self._with_all_layers(graphs[1])
        self.spectrogram, self.embedding = map(self._session, graphs)

    def _with_all_layers(self, data):
        """The graph with the activations behind its convolutions as outputs, too."""
        import onnx

        model = onnx.ModelProto.FromString(data)
        activations = [node.output[0] for node in model.graph.node if node.op_type == "Max"]
        model.graph.output.extend(onnx.ValueInfoProto(name=name) for name in activations)
        self.taps += [f"conv{number}" for number in range(1, 1 + len(activations))]
        return model.SerializeToString()

    @staticmethod
    def _session(graph):
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.inter_op_num_threads = options.intra_op_num_threads = 1
        return onnxruntime.InferenceSession(graph, options, providers=["CPUExecutionProvider"])

    def features(self, waveform, exact=False):
        """The features of a clip; samples are rounded to 16 bits unless `exact`."""
        samples = waveform * np.float32(32768)
        if not exact:
            samples = np.clip(samples, -32768, 32767).astype(np.int16).astype(np.float32)
        (spectrogram,) = self.spectrogram.run(None, {"input": samples[np.newaxis]})
        spectrogram = np.squeeze(spectrogram) / 10 + 2
        starts = range(0, len(spectrogram) - self.frames + 1, self.hop)
        windows = np.stack([spectrogram[start : start + self.frames] for start in starts])[..., np.newaxis]
        embedding, *activations = self.embedding.run(None, {"input_1": windows})
        # (windows, 1, 1, 96), and (windows, channels, frames, bands)
        means = [embedding.mean(axis=(0, 1, 2)), *(maps.mean(axis=(0, 2, 3), dtype=np.float64) for maps in activations)]
        return dict(zip(self.taps, means, strict=True))


# Our tap -> what makes it up in the graph.
_MUSICNN_TAPS = {
    "musicnn": {
        "timbral": ("model/Squeeze", "model/Squeeze_1"),
        "temporal": ("model/Squeeze_2", "model/Squeeze_3", "model/Squeeze_4"),
        "cnn1": ("model/transpose",),
        "cnn2": ("model/Add",),
        "cnn3": ("model/Add_1",),
        "mean_pool": ("model/moments/Squeeze",),
        "max_pool": ("model/Max",),
        "penultimate": ("model/batch_normalization_10/batchnorm/add_1",),
        "scores": ("model/Sigmoid",),
    },
    "vgg": {
        **{f"pool{i}": (f"model/max_pooling2d{f'_{i - 1}' if i > 1 else ''}/MaxPool",) for i in range(1, 6)},
        "scores": ("model/Sigmoid",),
    },
}


class Musicnn(OwnProgram):
    """musicnn's `extractor`: patches of 187 frames one by one through the published TensorFlow 1 graph.

    Its code wants NumPy below 1.17 and layers that TensorFlow has no more; the graph is that beside the checkpoint, as
    its own saver wrote it, and restores the weights itself. Unlike there, the session is opened once, and not for every
    file. The code makes MSD_vgg with the pools of MTT_vgg, which are not those of the graph beside its checkpoint; what
    it gives its users is run here.
    """

    how = (
        "TensorFlow 1 graph and checkpoint of the wheel, 1 thread each, as its extractor: one patch at a time, powers "
        "rounded to 16 bits; one session for all files, where the extractor opens one a file; librosa.load (soxr)"
    )
    gives_all_layers = True
    wheel, frames = "musicnn-0.1.0-py3-none-any.whl", 187

    def __init__(self, network, published_dir, all_layers):
        import tensorflow as tf

        self.taps = _MUSICNN_TAPS[network[4:]]
        names = sorted({name for of_tap in self.taps.values() for name in of_tap})
        with zipfile.ZipFile(published_dir / self.wheel) as wheel, tempfile.TemporaryDirectory() as folder:
            for file in (".index", ".data-00000-of-00001"):
                Path(folder, file).write_bytes(wheel.read(f"musicnn/{network}/{file}"))
            made_as = "MTT_vgg" if network == "MSD_vgg" else network
            meta = tf.compat.v1.MetaGraphDef.FromString(wheel.read(f"musicnn/{made_as}/.meta"))
            restore, prefix = meta.saver_def.restore_op_name, meta.saver_def.filename_tensor_name
            needed = tf.compat.v1.graph_util.extract_sub_graph(meta.graph_def, [*names, restore])
            one_core = tf.compat.v1.ConfigProto(intra_op_parallelism_threads=1, inter_op_parallelism_threads=1)
            with tf.Graph().as_default() as graph:
                tf.import_graph_def(needed, name="")
                self.session = tf.compat.v1.Session(graph=graph, config=one_core)
                self.session.run(restore, {prefix: f"{folder}/"})
        self.fetches = {name: f"{name}:0" for name in names}

    def features(self, waveform, exact=False):
        """The features of whole patches; powers are rounded to 16 bits unless `exact`."""
        import librosa

        power = librosa.feature.melspectrogram(
            y=waveform, sr=SAMPLE_RATE, hop_length=256, n_fft=512, n_mels=96, pad_mode="reflect"
        ).T
        if not exact:
            power = power.astype(np.float16).astype(np.float32)
        spectrogram = np.log10(10000 * power + 1)
        starts = range(0, len(spectrogram) - self.frames + 1, self.frames)
        rows = [self._of_patch(spectrogram[start : start + self.frames]) for start in starts]
        return {name: np.mean([row[name] for row in rows], axis=0) for name in self.taps}

    def _of_patch(self, patch):
        found = self.session.run(
            self.fetches, {"model/Placeholder:0": patch[np.newaxis], "model/Placeholder_2:0": False}
        )
        return {tap: np.concatenate([self._mean(found[name]) for name in names]) for tap, names in self.taps.items()}

    @staticmethod
    def _mean(values):
        """Over a patch: of maps (1, frames, bands, channels), sequences, with or without a last dimension of one."""
        values = values[..., 0] if values.ndim > 2 and values.shape[-1] == 1 else values
        return values.reshape(-1, values.shape[-1]).mean(axis=0, dtype=np.float64)


PROGRAMS: dict[str, type[OwnProgram]] = {
    "yamnet": YamnetLite,
    "speech_embedding": SpeechEmbedding,
    **dict.fromkeys(("MTT_musicnn", "MSD_musicnn", "MTT_vgg", "MSD_vgg"), Musicnn),
}
