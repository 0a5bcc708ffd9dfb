"""The kinds of input that `fuzz.py` damages: what is intact, what is damaged in it, and what the package promises."""

import io
import json
import math
import os
import re
from collections.abc import Iterable
from contextlib import suppress
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet
import soundfile
from damage import choose, damaged, damaged_arrays, damaged_json, damaged_table, with_ogg_checksums
from encoded_sounds import joined, of_ffmpeg, of_libsndfile, written
from sounds import CONFIG

from keras_audio_transfer.audio.files import LARGEST_SAMPLE, read_audio
from keras_audio_transfer.audio.loading import load_waveform, mix_and_resample, or_reason
from keras_audio_transfer.audio.sliding_windows import windows
from keras_audio_transfer.config import HIGHEST_RATE, LOWEST_RATE
from keras_audio_transfer.datasets import label_names, load, prepared
from keras_audio_transfer.datasets.clip import SPLITS, Clip
from keras_audio_transfer.datasets.relabelling import relabelled
from keras_audio_transfer.datasets.walk import AUDIO_SUFFIXES
from keras_audio_transfer.errors import InputError
from keras_audio_transfer.feature_tables.table import FeatureTable, check_table
from keras_audio_transfer.model_folder import Card
from keras_audio_transfer.resume import Journal, check_settings


class Kind:
    """A kind of input.

    Attributes:
        name: what it is called.
        seeds: name and content of intact files.
    """

    name = ""
    seeds: list[tuple[str, bytes]]

    def start(self, folder: Path) -> None:
        """Prepare the process that reads; it may write to the folder."""

    def mutated(self, rng: np.random.Generator) -> tuple[str, bytes]:
        """Name and content of a damaged file."""
        name, content = choose(rng, self.seeds)
        return name, damaged(rng, content, choose(rng, self.seeds)[1])

    def read(self, path: Path) -> Any:
        """What the package makes of a file. Raises InputError where it refuses it."""
        raise NotImplementedError

    def examine(self, path: Path, result: Any) -> Iterable[None] | None:
        """Fail where what was read is not what the package promises.

        It may be a generator; the limit on the time is then on each of its steps.
        """


def _assert_close(found, expected, tolerance):
    assert found.shape == expected.shape, f"shape {found.shape}, expected {expected.shape}"
    difference = np.abs(found.astype(np.float64) - expected).max(initial=0)
    assert difference <= tolerance, f"differs by {difference:.2g}, more than {tolerance:.2g}"


class Audio(Kind):
    """Sounds through the reader: whole, in parts, resampled, in windows."""

    name = "audio"

    def __init__(self):
        sounds = [*of_libsndfile(), *of_ffmpeg(), *joined()]
        self.seeds = [(f"a{suffix}", sound) for suffix, sound in sounds]

    def mutated(self, rng):
        name, content = super().mutated(rng)
        if rng.integers(2) and b"OggS" in content:
            return "crafted.ogg", with_ogg_checksums(content)
        return (f"a{choose(rng, AUDIO_SUFFIXES)}" if rng.random() < 0.1 else name), content

    @staticmethod
    def _is_whole_only(path):
        """Whether no part is asked for: a file of false data with right checksums, which no accident leaves.

        Where a packet of Vorbis names a mode that there is not, libvorbis 1.3.7 crashes if it is to be left out.
        """
        return path.name == "crafted.ogg"

    def read(self, path):
        try:
            return read_audio(path)
        except InputError as error:
            if not (self._is_whole_only(path) or "cannot be decoded" in str(error)):
                for read in (lambda: read_audio(path, 0.2, 1), lambda: [*windows(Clip("a", path), CONFIG, 0.5)]):
                    with suppress(InputError):
                        read()
            raise

    def examine(self, path, result):
        samples, rate = result
        assert samples.dtype == np.float32
        assert samples.ndim == 2
        assert len(samples) > 0
        assert LOWEST_RATE <= rate <= HIGHEST_RATE
        peak = float(np.abs(samples).max())
        assert peak <= LARGEST_SAMPLE
        waveform = mix_and_resample(samples, rate, CONFIG.sample_rate)
        assert np.isfinite(waveform).all()
        tolerance = 1e-4 * max(peak, 1)
        _assert_close(load_waveform(Clip("a", path), CONFIG.sample_rate), waveform, 10 * tolerance)
        yield
        if self._is_whole_only(path):
            return
        try:
            yield from self._examine_parts(path, samples, rate, tolerance)
            if rate >= 1000:  # below, the resampler's filter is longer than the margin of 0.1 s around a part
                yield from self._examine_waveforms(path, waveform, 10 * tolerance)
        except (AssertionError, InputError):
            if not self._is_another_after_a_seek(path):
                raise

    @staticmethod
    def _is_another_after_a_seek(path):
        """Whether libsndfile, unaware of damage, makes a damaged block, or half of one, of what it decoded before."""
        with suppress(soundfile.LibsndfileError):
            file = soundfile.info(str(path))
            return file.format in ("SDS", "PAF") or file.subtype.startswith(("ALAC", "IMA_ADPCM", "MS_ADPCM"))
        return False

    @staticmethod
    def _examine_parts(path, samples, rate, tolerance):
        seconds = len(samples) // rate
        for start, length in ((0, 0.05), (min(seconds, 1), 0.1), (seconds, None), (seconds + 1, None)):
            stop = None if length is None else start * rate + int(length * rate) + 1
            expected = samples[start * rate : stop]
            try:
                part, part_rate = read_audio(path, length, start)
            except InputError:
                assert not len(expected), f"refused from {start} s on, but not as a whole"
                continue
            assert part_rate == rate
            _assert_close(part, expected, tolerance)
            yield

    @staticmethod
    def _examine_waveforms(path, waveform, tolerance):
        rate = CONFIG.sample_rate
        first, duration = int(0.6 * len(waveform)), 0.1
        clip = Clip("a", path, start_seconds=first / rate, duration_seconds=duration)
        _assert_close(load_waveform(clip, rate), waveform[first:][: round(duration * rate)], tolerance)
        yield
        hop = max(0.24 * len(waveform) / rate, 0.001)
        found = [*windows(Clip("a", path), CONFIG, hop)]
        assert len(found) == math.ceil(len(waveform) / (hop * rate) * (1 - 1e-7))
        for number, (_, window) in enumerate(found):
            first = round(number * hop * rate) - CONFIG.n_samples // 2
            if first >= 0 and first + CONFIG.n_samples <= len(waveform):
                _assert_close(window, waveform[first : first + CONFIG.n_samples], tolerance)


class Wav(Kind):
    """WAV files through the signature `audio_bytes` of a SavedModel, whose features tell waveforms apart."""

    name = "wav"
    formats = ("PCM_U8", "PCM_16", "PCM_24", "PCM_32", "FLOAT", "DOUBLE")

    def __init__(self):
        self.seeds = [
            ("a.wav", written(container, subtype, rate, channels, 0.3))
            for container in ("WAV", "WAVEX", "RF64")
            for subtype in self.formats
            for rate, channels in ((CONFIG.sample_rate, 1), (11025, 3))
        ]

    def start(self, folder):
        os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
        import keras
        import tensorflow as tf

        from keras_audio_transfer.export.signatures import build_signatures

        class Summary(keras.layers.Layer):
            def call(self, waveform):
                n = tf.cast(tf.shape(waveform)[1], tf.float32)
                waves = tf.cos(tf.range(1.0, 8.0)[:, None] * tf.range(n) / n)
                size = tf.sqrt(tf.reduce_mean(tf.square(waveform), axis=1, keepdims=True))
                return tf.concat([tf.fill([tf.shape(waveform)[0], 1], n), size, waveform @ tf.transpose(waves) / n], 1)

            def compute_output_shape(self, input_shape):
                return (*input_shape[:1], 9)

        tf.config.threading.set_intra_op_parallelism_threads(1)
        waveform = keras.Input((None,))
        model, card = keras.Model(waveform, {"layer1": Summary()(waveform)}), Card(CONFIG, {"layer1": 9})
        served, signatures = build_signatures(model, card)
        tf.saved_model.save(served, str(folder / "model"), signatures=signatures)
        self.tf, self.model = tf, tf.saved_model.load(str(folder / "model"))

    def _features(self, signature, **inputs):
        inputs = {name: self.tf.constant(value) for name, value in inputs.items()}
        return self.model.signatures[signature](**inputs)["layer1"].numpy()[0]

    def read(self, path):
        try:
            return self._features("audio_bytes", audio_bytes=[path.read_bytes()])
        except self.tf.errors.InvalidArgumentError as error:
            if re.search(r"assertion failed: \[(audio_bytes|waveform): ", error.message):
                raise InputError(error.message) from error
            raise

    def examine(self, path, result):
        assert np.isfinite(result).all()
        try:
            soundfile.info(str(path))
            samples, rate = read_audio(path)
        except (soundfile.LibsndfileError, InputError):
            return  # what libsndfile does not read at all is left to the graph
        expected = self._features("waveform_at", waveform=[samples.mean(axis=1)], sample_rate=np.array([rate], "i4"))
        _assert_close(result, expected, 1e-4 * max(np.abs(samples).max(), 1))


class CardFile(Kind):
    """`card.json`: read, written, and read again."""

    name = "card"

    def __init__(self):
        sizes = {f"layer{n}": 8 * n for n in range(1, 4)}
        data = {"dataset": "synthetic", "license": "none", "clips": {"train": 12, "test": 3}}
        full = Card(
            CONFIG,
            sizes,
            network="convnet5",
            multiscale=[1, 2],
            labels=["dog", "cat"],
            training_data=data,
            epochs_trained=3,
            scores={"test": {"accuracy": 0.5}},
            seed=0,
            versions={"numpy": "2"},
            weights_sha256="0" * 64,
            other={"remark": ["a", {"b": 1.5}]},
        )
        self.cards = [full.to_dict(), Card(CONFIG, sizes).to_dict()]
        self.seeds = [("card.json", json.dumps(card).encode()) for card in self.cards]

    def mutated(self, rng):
        return "card.json", damaged_json(rng, choose(rng, self.cards), self.cards[0])

    def read(self, path):
        return Card.read(path.parent)

    def examine(self, path, result):
        card = result
        copy = path.parent.parent / "copy"
        copy.mkdir(exist_ok=True)
        card.write(copy)
        again = Card.read(copy)
        assert json.dumps(again.to_dict()) == json.dumps(card.to_dict())  # as text, because no NaN is equal to itself
        assert not card.differences(again)
        assert len({*card.labels}) == len(card.labels)
        assert [*card.layer_sizes] == card.layer_names
        of_other_weights = card.trained_on("1").of_network()
        assert of_other_weights.layer_names == card.layer_names
        card.lineage()


class Manifest(Kind):
    """A table of one's own clips, as a data set and then as a features file."""

    name = "manifest"

    def __init__(self):
        full = ["path,label,split,fold,group,start,duration,remark"]
        full += [f"sounds/{n // 2}.wav,{'dog|loud' if n % 3 else 'cat'},,,{n // 2},{n % 2}.5,1.25,x" for n in range(6)]
        plain = ["path,label,split,fold", *(f"{n}.wav,{n % 2},{(*SPLITS, 'dev')[n % 4]},{n}" for n in range(6))]
        self.tables = [[row.split(",") for row in rows] for rows in (full, plain, ["path,label", "a.wav,a", "b.wav,b"])]
        self.seeds = [("clips.csv", "\n".join(map(",".join, rows)).encode()) for rows in self.tables]

    def mutated(self, rng):
        return "clips.csv", damaged_table(rng, choose(rng, self.tables))

    def read(self, path):
        return load("manifest", path)

    def examine(self, path, result):
        ids, names = [clip.clip_id for clip in result], label_names(result)
        assert len({*ids}) == len(ids) > 0
        "".join([*ids, *names]).encode()
        for clip in result:
            assert clip.path.is_absolute()
            assert clip.labels
            assert all(clip.labels)
            assert clip.split in ("", *SPLITS)
            assert clip.fold >= -1
            assert 0 <= clip.start_seconds < math.inf
            assert clip.duration_seconds is None or 0 < clip.duration_seconds < math.inf
            reason = or_reason(lambda clip: load_waveform(clip, CONFIG.sample_rate), clip)  # no clip is there
            assert "failed (" not in reason, reason
        features = {"layer1": np.zeros((len(ids), 1), np.float32)}
        again = _saved_and_loaded(FeatureTable.of_clips(features, result, names), path)
        assert again.clip_ids.tolist() == ids
        assert again.label_names == names


def _saved_and_loaded(table, path):
    """The table from a file that it was written to, which is the same as it was."""
    table.save(path.parent.parent / "copy.npz")
    again = FeatureTable.load(path.parent.parent / "copy.npz")
    assert [*again.layers] == [*table.layers]
    for name, values in table.layers.items():
        np.testing.assert_allclose(again.layers[name], values, rtol=1e-6, atol=1e-40)
    assert again.weights_sha256 == table.weights_sha256
    for name in ("clip_ids", "labels", "label_names", "folds", "splits", "times", "groups", "notes"):
        np.testing.assert_array_equal(getattr(again, name), getattr(table, name), err_msg=name)
    return again


class Labelled(Kind):
    """A table of `suggest` with labels filled in."""

    name = "labelled"

    def __init__(self):
        rows = ("rank,file,label,correct_label", "1,./=a.wav,x,'=x", "2,b.wav,x,", "3,c.wav,x,y")
        self.table = [row.split(",") for row in rows]
        self.seeds = [("labelled.csv", "\n".join(rows).encode())]

    def mutated(self, rng):
        return "labelled.csv", damaged_table(rng, self.table)

    def read(self, path):
        clips = [Clip(name, path.with_name(name), labels=("=x",)) for name in ("=a.wav", "b.wav")]
        return relabelled(clips, path)

    def examine(self, path, result):
        assert [clip.clip_id for clip in result[:2]] == ["=a.wav", "b.wav"]
        assert len({clip.clip_id for clip in result}) == len(result)
        "".join([clip.clip_id + clip.labels[0] for clip in result]).encode()
        assert all(len(clip.labels) == 1 and clip.labels[0] and clip.path.is_absolute() for clip in result)


class Features(Kind):
    """Features files: loaded, checked, saved, and loaded again. Nothing pickled is read."""

    name = "features"

    def __init__(self):
        rng = np.random.default_rng(0)
        layers = {name: rng.normal(size=(6, 3)).astype(np.float32) for name in ("layer1", "layer2")}
        plain = {**layers, "layer_names": np.array([*layers]), "clip_ids": np.array([f"a#{n}" for n in range(6)])}
        plain |= {"labels": np.arange(6) % 2, "label_names": np.array(["a", "b"])}
        plain |= {"folds": np.arange(6) % 3, "splits": np.array([*SPLITS, *SPLITS])}
        optional = {"times": np.arange(6) / 2, "groups": np.array(["g", ""] * 3), "notes": np.array(["clipped"] * 6)}
        tags = {"labels": np.eye(6, 2, dtype=np.int64), "label_names": np.array(["a", "b"])}
        numbers = {"labels": rng.normal(size=(6, 2)), "label_names": np.array(["arousal", "valence"])}
        optional |= {"weights_sha256": np.array(["0" * 64, ""])}
        self.contents = [plain, plain | optional, plain | tags, plain | numbers, plain | {"times": optional["times"]}]
        self.seeds = []
        for arrays in self.contents:
            file = io.BytesIO()
            np.savez(file, **arrays)
            self.seeds.append(("a.npz", file.getvalue()))

    def mutated(self, rng):
        return "a.npz", damaged_arrays(rng, choose(rng, self.contents))

    def read(self, path):
        return FeatureTable.load(path)

    def examine(self, path, result):
        check_table(result, "again")
        _saved_and_loaded(result, path)
        assert np.isfinite(result.to_numpy()).all()
        assert len(result.to_frame(about_clips=True)) == len(result)
        "".join([repr(result), *result.clip_ids, *result.label_names])


class State(Kind):
    """What a run that was stopped has left: its journal, and its settings."""

    name = "state"

    def __init__(self):
        self.settings = {"dataset": "esc10", "layers": ["layer1", "layer2"], "C": [0.1, 1.0], "seed": 0}
        self.lines = [["layer1", [0.5, 1.0]], ["layer2", [0.25]], ["both", []]]
        journal = "".join(f"{json.dumps(line)}\n" for line in self.lines)
        self.seeds = [("journal.jsonl", journal.encode()), ("settings.json", json.dumps(self.settings).encode())]

    def mutated(self, rng):
        if rng.random() < 0.3:
            return super().mutated(rng)
        if rng.integers(2):
            return "settings.json", damaged_json(rng, self.settings, self.settings)
        lines = [json.dumps(line).encode() for line in self.lines]
        lines[rng.integers(len(lines))] = damaged_json(rng, choose(rng, self.lines), self.settings)
        return "journal.jsonl", b"\n".join(lines) + choose(rng, (b"\n", b""))

    def read(self, path):
        if path.name == "settings.json":
            return check_settings(path, self.settings)
        with Journal(path) as journal:
            return dict(journal)

    def examine(self, path, result):
        if path.name == "settings.json":
            assert json.loads(path.read_bytes()) == self.settings
            return
        with Journal(path) as journal:
            journal["new"] = [1.0]
        with Journal(path) as journal:
            assert repr(dict(journal)) == repr({**result, "new": [1.0]})


class Prepared(Kind):
    """The index of a prepared data set, beside a shard of zeros, whose checksum it knows."""

    name = "prepared"
    shard_name = prepared.shard_name("00000")

    def __init__(self):
        data = bytes(4 * 100)
        self.row = {name: 0 for name in ("source_bytes", "source_mtime_ns", "start_seconds", "fold", "offset")}
        self.row |= {name: 1 for name in ("duration_seconds", "recorded_rate", "recorded_channels", "seconds")}
        self.row |= {name: "" for name in ("source", "source_sha256", "split", "group", "dataset", "failure")}
        self.row |= {"labels": ["dog", "cat"], "targets": [0.5], "notes": ["clipped"], "shard": self.shard_name}
        self.row |= {"samples": 100, "sample_rate": CONFIG.sample_rate, "checksum": sha256(data).hexdigest()}
        rows = [{**self.row, "clip_id": f"{number}.wav"} for number in range(20)]
        self.shard = data
        self.seeds = [("00000.parquet", self._content(rows)), ("00000.parquet", self._content(rows[:1]))]

    @staticmethod
    def _content(rows):
        file = io.BytesIO()
        table = pa.Table.from_pylist(rows, prepared.schema())
        pyarrow.parquet.write_table(table, file, write_page_checksum=True)
        return file.getvalue()

    def mutated(self, rng):
        if rng.random() < 0.7:
            return super().mutated(rng)
        wrong = choose(
            rng, (0, 1, -1, 2**62, -(2**63), 16000, math.nan, math.inf, "", "test", "../a.tfrecord", "\0", [], [""])
        )
        row = {**self.row, "clip_id": "a.wav", choose(rng, [*self.row]): wrong}
        try:
            return "00000.parquet", self._content([row])
        except (pa.ArrowException, TypeError, ValueError, OverflowError):  # of another type than its column
            return super().mutated(rng)

    def read(self, path):
        index = path.parent / prepared.INDEX
        index.mkdir(exist_ok=True)
        (path.parent / self.shard_name).write_bytes(self.shard)
        (index / path.name).write_bytes(path.read_bytes())
        return load("prepared", path.parent)

    def examine(self, path, result):
        for clip in result:
            assert clip.split in ("", *SPLITS)
            assert clip.fold >= -1
            waveform = or_reason(lambda clip: load_waveform(clip, CONFIG.sample_rate), clip)
            assert isinstance(waveform, str) or np.isfinite(waveform).all()


KINDS = {kind.name: kind for kind in (Audio, CardFile, Manifest, Labelled, Features, Prepared, State, Wav)}
