"""Turn the published weights of Choi et al. 2017 into a model folder.

    keras-audio-transfer import-choi2017 transfer_learning_music --weights v2 --output-dir saved_models/choi2017.v2
    keras-audio-transfer import-choi2017 transfer_learning_music --weights v1 --output-dir saved_models/choi2017.v1p
    keras-audio-transfer import-choi2017 transfer_learning_music --weights v1 --output-dir saved_models/choi2017.v1 \\
        --dataset gtzan_genre --data-dir data/gtzan_genre

v2  ordinary: a clip's features are its own.
v1  as published: normalised by the statistics, and the loudest cell, of the batch of 256 consecutive clips that a clip
    is in. `extract` takes the clips in such batches, in the data set's order. For reproduction.
random  the baseline: version 2's network with random weights drawn by --seed, through the same code.
v1 with a data set: the statistics are collected once over its clips and frozen, and each clip has its own loudest
    cell, so that a clip's features are its own. For use.
"""

from pathlib import Path

import numpy as np

from keras_audio_transfer.commands import cli
from keras_audio_transfer.commands.progress import of_download
from keras_audio_transfer.errors import InputError
from keras_audio_transfer.files import atomic_write
from keras_audio_transfer.model_folder import Card


def arguments():
    parser = cli.parser(__doc__)
    parser.add_argument("repository", type=Path, metavar="REPOSITORY_DIR", help="keunwoochoi/transfer_learning_music")
    parser.add_argument(
        "--weights", metavar="NAME", choices=("v1", "v2", "random"), required=True, help="one of %(choices)s"
    )
    parser.add_argument("--output-dir", type=Path, required=True, metavar="DIR", help="model folder to write")
    parser.add_argument("--download-weights", action="store_true", help="fetch the weights into REPOSITORY_DIR first")
    cli.add_dataset_arguments(parser)
    parser.add_argument(
        "--limit",
        type=cli.positive_int,
        metavar="N",
        help="calibrate on that number of clips of the data set, drawn by --seed (default: all)",
    )
    parser.add_argument("--overwrite", action="store_true", help="replace an existing model folder")
    return parser


def check(options):
    """Refuse what cannot end well, before any work is done."""
    cli.check_model_folder(options)
    if options.dataset is not None and options.weights != "v1":
        raise InputError(
            f"--dataset: {options.weights} needs no clips to calibrate on; leave it out, or pass --weights v1"
        )
    needs_dataset = {"--data-dir": options.data_dir, "--download": options.download or None, "--limit": options.limit}
    for flag, value in needs_dataset.items():
        if options.dataset is None and value is not None:
            raise InputError(f"{flag}: needs --dataset, the clips to calibrate on; name one, or leave it out")
    if not (options.download_weights or options.weights == "random" or options.repository.is_dir()):
        raise InputError(f"{options.repository}: is no folder; expected a copy of keunwoochoi/transfer_learning_music")
    if options.download_weights and options.weights == "random":
        raise InputError("--download-weights: random weights are drawn; leave it out, or pass --weights v1 or v2")


def load_clips(options):
    """The clips to calibrate on, if any."""
    if options.dataset is None:
        return []
    clips = cli.load_clips(options)
    if options.limit is None:
        return clips
    if options.limit > len(clips):
        raise InputError(f"--limit: {options.limit} is not allowed; expected 1 to {len(clips)}, the data set's clips")
    return [clips[i] for i in sorted(np.random.default_rng(options.seed).permutation(len(clips))[: options.limit])]


def read_weights(options):
    """The published weights, downloaded first if wished; none for random ones."""
    from keras_audio_transfer.pretrained import choi2017

    if options.weights == "random":
        return {}
    if options.download_weights:
        bar = of_download(options, f"the weights {options.weights}")
        choi2017.download_weights(options.repository, options.weights, progress=bar)
    return choi2017.read_weights(options.repository, options.weights)


def card_of(options, form, config, clips):
    from keras_audio_transfer.pretrained import choi2017

    published = options.weights != "random"
    return Card(
        config,
        network="convnet5",
        network_citation=choi2017.CITATION,
        pooling="mean",
        labels=choi2017.TAGS,
        multi_label=True,
        training_data=choi2017.TRAINING_DATA if published else {"dataset": "none: random weights"},
        weights=f"{options.weights}: {choi2017.FILES.get(options.weights, 'drawn by the seed')}",
        batch_clips=choi2017.PUBLISHED_BATCH if form == "v1_published" else 1,
        calibration={"dataset": options.dataset, "clips": len(clips)} if clips else None,
        seed=options.seed,
    )


@cli.command(arguments)
def main(options):
    check(options)
    clips = load_clips(options)

    import keras

    from keras_audio_transfer.export import saved_model
    from keras_audio_transfer.extractor import calibrate
    from keras_audio_transfer.pretrained import choi2017

    keras.utils.set_random_seed(options.seed)
    form = {"v1": "v1" if clips else "v1_published", "v2": "v2", "random": "v2"}[options.weights]
    config = choi2017.CONFIGS[form]
    model = choi2017.build(form, read_weights(options))
    if clips:
        phases = cli.Phases(options, "calibrating", "exporting")
        calibrate(model, _Waveforms(clips, config, phases.bar("calibrating", len(clips))))
        phases.begin("exporting")
    with atomic_write(options.output_dir) as partial:
        partial.mkdir()
        difference = saved_model.write_model(partial, model, card_of(options, form, config, clips))
    cli.show(f"reloaded in a fresh process: largest difference {difference:.1e}")
    cli.show(f"written: {options.output_dir}")
    return cli.DONE


class _Waveforms:
    """The clips' waveforms, (1, samples) each, as often as they are iterated over: `calibrate` does once per layer."""

    def __init__(self, clips, config, progress):
        self.clips, self.config, self.progress = clips, config, progress

    def __iter__(self):
        from keras_audio_transfer.audio.loading import ordered_map

        for waveform in self.progress(ordered_map(self._load, self.clips)):
            yield waveform[np.newaxis]

    def _load(self, clip):
        from keras_audio_transfer.audio.loading import crop_or_pad, load_waveform

        waveform = load_waveform(clip, self.config.sample_rate, self.config.clip_seconds)
        return crop_or_pad(waveform, self.config.n_samples, self.config.short_clips)
