"""Measure the speed and memory that the documents quote, as ratios within one run.

    keras-audio-transfer benchmark --esc-dir data/ESC-50 --urbansound-dir data/UrbanSound8K --output benchmark.json

extraction   the way of `extract` from wav files to the features of all five layers, against the way of the 2017 code:
             librosa.load, five models for five layers, `predict` one clip at a time. Both at the published settings
             (12 kHz, 29 s), each in a process of its own, after a warm-up clip, imports not counted.
growth       time, time of all cores, highest memory use and size of the output of the commands `extract`, `prepare` and
             `probe`, their start included, against the number of clips (noise at 44.1 kHz, as long as the model is),
             their length, the number of layers, of combinations, of workers and, where Dask is installed, of its
             workers; and of `extract` but for decoding and the network (clips not heard), with 50 times as many clips;
             and the highest memory use of a process that has imported TensorFlow, and then loaded the model.
             --output-dir gets a table and a picture.
recordings   the same of `extract` with recordings of noise, every second the features of the 4 s around it; a part of
             growth where both are asked for.
reading      waveforms at 16 kHz of the first clips of a data set, from its files and from what `prepare` makes of them;
             preparing them; and the features of all layers of the model that comes with the package, from both.
epoch        an epoch of training from the second on, waveforms through tf.data, against the same batches held in
             memory; several of each in turn, medians.
training     clips a second of a network in training, a second of sound each: TensorFlow's default kernels, waveforms
             through tf.data into one process with all cores, the spectrogram in every step; and what each change
             makes of that: fast kernels, spectrograms computed once, a process a core, bfloat16.
gpu          of a model folder or a network with random weights, batches of 32 clips, a GPU against the CPU of the same
             machine: clips a second of the spectrogram, of the features of all layers (one clip at a time, too), of
             training, and of training with spectrograms computed once; the largest difference of a feature, without
             and with TensorFloat-32, which TensorFlow takes on a GPU that has it.
serving      for batches of 1, 8 and 32 clips of a model folder or a network with random weights: latency (50th and
             99th percentile) and seconds of audio a second (times real time) of the Keras model, called in one
             tf.function, and of its SavedModel, each in a process of its own, requests in turn; the largest difference
             of an output, and, to compare, that between the Keras model with TensorFlow's other kernels and itself;
             time to load and size of a SavedModel of the model as it is, and of the one that is exported (folded and
             tiled).
rest         requests a second and latency (50th and 95th percentile) for 1 and 8 clients that ask for one clip at a
             time, as numbers and as a WAV file: of the server of `serve`, of one that joins no requests, and of the
             SavedModel called by as many threads in a process of its own; several rounds in turn.
probes       all 31 combinations of five layers on GTZAN-genre, the published features and the paper's grid and folds,
             by the way of `probe` and by 31 of scikit-learn's GridSearchCV, both with as many jobs; the largest
             difference of a score; how many SVMs `probe` fits, and the part of its time that is libsvm's own.
sources      for each imported model folder, from wav files to the features of all layers by the way of `extract`,
             against the source's own program on the same files and cores, prepared before: the published 8-bit file
             of YAMNet in TensorFlow Lite, openwakeword's two ONNX graphs in onnxruntime, which has to be installed for
             that, musicnn's TensorFlow 1 graphs, a clip a core, read by librosa.load; as they are, and with every layer
             given out. Clips a second, times real time, milliseconds of a core, milliseconds of a clip alone, memory;
             whether the features agree; the floor: decoding and resampling alone, MFCC, log-mel, the network alone; and
             an 8-bit twin of our YAMNet. `times_as_fast_as`: our clips a second by those of each. `times_the_floor`:
             our time by the sum of those of decoding for this model and of its network alone. `arithmetic`: operations
             of its convolutions and matrix products for a clip, those a second by what the cores reach where they
             multiply matrices and do nothing else, and how many times as fast as the own program that would be.
segments     for each model folder of `classify` that was fitted without the fold 5 of ESC-10: its 80 clips one behind
             the other, in four recordings, as `predict --hop-seconds 1` hears them, and with --smooth 3: F1, precision
             and recall of time; how many clips are found; the median distance of where a segment and its clip begin.

Each part whose data folder is not given is left out; growth, recordings, reading, training, gpu, serving and rest have
to be asked for. With --sources or --segments, extraction is left out.
"""

import json
import os
import tempfile
from functools import partial
from pathlib import Path

from keras_audio_transfer.backbones import BACKBONES
from keras_audio_transfer.commands import cli, places, serve
from keras_audio_transfer.config import preset
from keras_audio_transfer.datasets import esc10, load
from keras_audio_transfer.errors import InputError, unknown
from keras_audio_transfer.files import write_json
from keras_audio_transfer.model_folder import Card
from keras_audio_transfer.pretrained.catalogue import CATALOGUE
from keras_audio_transfer.pretrained.choi2017_results import find_tasks

PARTS = (
    *("esc_dir", "urbansound_dir", "choi2017_dir", "growth", "recording_minutes", "reading"),
    *("training", "gpu", "serving", "rest", "sources", "segments"),
)

# Of every class and fold of what is probed, a clip to fit on and one to choose by.
_enough_clips = cli.number(int, lambda value: value >= 40, "at least 40")


def arguments():
    parser = cli.parser(__doc__)
    parser.add_argument(
        "--esc-dir",
        type=Path,
        metavar="DIR",
        help="ESC-50's folder, for extraction, or sources, segments",
    )
    parser.add_argument("--urbansound-dir", type=Path, metavar="DIR", help="UrbanSound8K's folder, for epoch")
    parser.add_argument(
        "--choi2017-dir", type=Path, metavar="DIR", help="a copy of keunwoochoi/transfer_learning_music, for probes"
    )
    parser.add_argument(
        "--jobs",
        type=cli.at_a_time,
        metavar="N",
        default=2,
        help="threads, or processes of GridSearchCV, for probes",
    )
    parser.add_argument(
        "--clips",
        type=cli.positive_int,
        metavar="N",
        default=60,
        help="files for extraction, reading and sources",
    )
    parser.add_argument("--epochs", type=cli.positive_int, metavar="N", default=5, help="epochs of each kind")
    parser.add_argument("--epoch-clips", type=cli.positive_int, metavar="N", default=640, help="clips in an epoch")
    parser.add_argument(
        "--training", nargs="+", default=[], metavar="NETWORK:PRESET", help="such as densenet40:light16k, for training"
    )
    parser.add_argument("--growth", type=places.model_folder, metavar="MODEL_DIR", help="of what extracts, for growth")
    parser.add_argument(
        "--growth-clips",
        nargs="+",
        type=_enough_clips,
        default=[50, 200, 800],
        metavar="N",
        help="numbers of clips, for growth",
    )
    parser.add_argument("--output-dir", type=Path, metavar="DIR", help="folder for growth.csv and growth.png, .svg")
    parser.add_argument(
        "--recording-minutes",
        nargs="+",
        type=cli.positive_int,
        default=[],
        metavar="N",
        help="lengths, for recordings and growth",
    )
    parser.add_argument(
        "--reading", nargs="+", default=[], metavar="DATASET:DIR", help="such as esc10:data/ESC-50, for reading"
    )
    parser.add_argument(
        "--steps",
        type=cli.positive_int,
        metavar="N",
        default=20,
        help="timed batches of 32 clips, for training and gpu",
    )
    parser.add_argument(
        "--gpu", nargs="+", default=[], metavar="MODEL_DIR|NETWORK:PRESET", help="such as densenet40:light16k"
    )
    parser.add_argument(
        "--serving", nargs="+", default=[], metavar="MODEL_DIR|NETWORK:PRESET", help="such as convnet5:choi2017"
    )
    parser.add_argument("--rest", nargs="+", default=[], type=Path, metavar="MODEL_DIR", help="model folders, for rest")
    parser.add_argument(
        "--requests",
        type=cli.positive_int,
        metavar="N",
        default=100,
        help="timed requests of each kind and size, for serving; in each round, for rest",
    )
    parser.add_argument(
        "--sources",
        nargs="+",
        type=places.model_folder,
        default=[],
        metavar="MODEL_DIR",
        help="model folders, for sources",
    )
    parser.add_argument(
        "--published-dir", type=Path, metavar="DIR", help="the published files, for the own programs of sources"
    )
    parser.add_argument(
        "--segments", nargs="+", type=Path, default=[], metavar="MODEL_DIR", help="classifiers of ESC-10, for segments"
    )
    parser.add_argument("--output", type=Path, metavar="FILE.json", help="write the figures here, too")
    return parser


def check(options):
    """Refuse what cannot end well, before any work is done."""
    if options.output is not None:
        cli.check_file("--output", options.output)
    if options.output_dir is not None:
        cli.check_folder("--output-dir", options.output_dir)
        if options.growth is None:
            raise InputError("--output-dir: belongs to --growth; leave it out, or name a model folder")
    if not any(getattr(options, name) for name in PARTS):
        flags = ", ".join(f"--{name.replace('_', '-')}" for name in PARTS)
        raise InputError(f"{flags}: none is given; name at least one")
    if options.growth is not None:
        Card.read(options.growth)
    if len({*options.growth_clips}) < 2:
        raise InputError("--growth-clips: names one number of clips; expected two or more")
    check_sources(options)
    check_segments(options)
    if options.esc_dir is not None:
        load("esc10", options.esc_dir)
    if options.urbansound_dir is not None:
        load("urbansound8k", options.urbansound_dir)
    if options.choi2017_dir is not None:
        find_tasks(options.choi2017_dir, "gtzan_genre")
    for name in options.reading:
        load(*dataset_of(name))
    for name in options.training:
        check_network(name)
    for name in [*options.gpu, *options.serving]:
        if ":" in name:
            check_network(name)
        else:
            Card.read(Path(name))
    if options.gpu:
        from keras_audio_transfer.commands.benchmarks import gpu

        gpu.card()  # refuses a computer without one
    for model_dir in options.rest:
        Card.read(model_dir)
    if options.rest:
        serve.check_installed()


def check_sources(options):
    if options.sources and options.esc_dir is None:
        raise InputError("--sources: needs files; give ESC-50's folder as --esc-dir")
    if options.published_dir is not None and not options.sources:
        raise InputError("--published-dir: belongs to --sources; leave it out, or give model folders")
    if options.published_dir is not None and not options.published_dir.is_dir():
        raise InputError(f"--published-dir: {options.published_dir} is no folder; expected that of the published files")
    for model_dir in options.sources:
        card = Card.read(model_dir)
        card.require_single_clips(model_dir, "a clip alone does not have")
        if options.published_dir is not None and card.network in CATALOGUE:
            path = options.published_dir / CATALOGUE[card.network].file
            if not path.is_file():
                raise InputError(f"{path}: does not exist; expected the published file of {card.network}")
    names = [model_dir.resolve().name for model_dir in options.sources]
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice:
        raise InputError(f"--sources: {twice} is the name of two folders; rename one")


def dataset_of(name):
    """The data set and the folder in `DATASET:DIR`."""
    dataset, _, data_dir = name.partition(":")
    return dataset, data_dir or None


def check_segments(options):
    from keras_audio_transfer.commands.benchmarks import segments

    if options.segments and options.esc_dir is None:
        raise InputError("--segments: needs files; give ESC-50's folder as --esc-dir")
    for model_dir in options.segments:
        labels = Card.read(model_dir).labels
        if {*labels} != {*esc10.LABELS}:
            raise InputError(f"--segments: {model_dir} is of other labels; expected a classifier of ESC-10's ten")
        if heard := segments.heard_before(model_dir, options.esc_dir):
            raise InputError(
                f"--segments: {model_dir} has learnt from {heard[0]}, of fold {segments.FOLD}; fit it without"
            )


def check_network(name):
    network, _, preset_name = name.partition(":")
    if network not in BACKBONES:
        raise unknown("network", network, BACKBONES)
    preset(preset_name)


def parts_of(options, model_dir):
    """What is asked for: name -> a function that measures it.

    Args:
        options: of the command.
        model_dir: a model folder for extraction and recordings.
    """
    from keras_audio_transfer.commands.benchmarks import (
        extraction,
        gpu,
        growth,
        probes,
        reading,
        rest,
        segments,
        serving,
        sources,
        training,
    )

    parts = {}
    if options.growth:  # first: a process counts the memory of the one that has started it
        parts["growth"] = partial(growth.growth, options)
    elif options.recording_minutes:
        parts["recordings"] = partial(growth.recordings, options, model_dir)
    if options.sources:
        parts["sources"] = partial(sources.sources, options)
    elif options.esc_dir is not None and not options.segments:
        parts["extraction"] = partial(extraction.extraction, options, model_dir)
    if options.urbansound_dir is not None:
        parts["epoch"] = partial(training.epoch, options, augmented=False)
        parts["epoch_with_augmentation"] = partial(training.epoch, options, augmented=True)
    if options.choi2017_dir is not None:
        parts["probes"] = partial(probes.probes, options)
    for name in options.reading:
        parts[f"reading_{name}"] = partial(reading.reading, options, *dataset_of(name))
    for name in options.training:
        network, _, preset_name = name.partition(":")
        parts[f"training_{network}_{preset_name}"] = partial(training.training, options, network, preset_name)
    for name in options.gpu:
        parts[f"gpu_{name}"] = partial(gpu.gpu, options, name)
    for name in options.serving:
        parts[f"serving_{name}"] = partial(serving.serving, options, name)
    for model_dir in options.rest:
        parts[f"rest_{model_dir}"] = partial(rest.rest, options, model_dir)
    for model_dir in options.segments:
        parts[f"segments_{model_dir}"] = partial(segments.segments, options, model_dir)
    return parts


@cli.command(arguments)
def main(options):
    check(options)
    figures = {"cores": os.cpu_count()}
    with tempfile.TemporaryDirectory() as folder:
        model_dir = Path(folder) / "model"
        parts = parts_of(options, model_dir)
        if {"extraction", "recordings"} & {*parts}:
            from keras_audio_transfer.commands.benchmarks import extraction, measuring

            measuring.in_a_process(extraction.make_model, model_dir, options.seed)
        phases = cli.Phases(options, *parts)
        for name, measure in parts.items():
            phases.begin(name)
            figures[name] = measure()
            if options.output:
                write_json(options.output, figures)
    cli.show(json.dumps(figures, indent=2))
    return cli.DONE
