"""Turn the published weights of Choi et al. 2017 into a model folder.

    python scripts/import_choi2017.py transfer_learning_music --weights v2 --output-dir saved_models/choi2017.v2
    python scripts/import_choi2017.py transfer_learning_music --weights v1 --output-dir saved_models/choi2017.v1p
    python scripts/import_choi2017.py transfer_learning_music --weights v1 --output-dir saved_models/choi2017.v1 \\
        --dataset gtzan_genre --data-dir data/gtzan_genre

v2  ordinary: a clip's features are its own.
v1  as published: normalised by the statistics, and the loudest cell, of the batch of 256 consecutive clips that a clip
    is in. scripts/extract.py takes the clips in such batches, in the data set's order. For reproduction.
random  the baseline: version 2's network with random weights drawn by --seed, through the same code.
v1 with a data set: the statistics are collected once over its clips and frozen, and each clip has its own loudest
    cell, so that a clip's features are its own. For use.
"""

from pathlib import Path

import numpy as np

from keras_audio_transfer.audio import crop_or_pad, load_waveform, ordered_map
from keras_audio_transfer.commands import cli
from keras_audio_transfer.errors import InputError
from keras_audio_transfer.files import atomic_write
from keras_audio_transfer.model_folder import Card


def arguments():
    parser = cli.parser(__doc__)
    parser.add_argument("repository", type=Path, metavar="REPOSITORY_DIR", help="keunwoochoi/transfer_learning_music")
    parser.add_argument("--weights", choices=("v1", "v2", "random"), required=True, help="which weights")
    parser.add_argument("--output-dir", type=Path, required=True, metavar="DIR", help="model folder to write")
    parser.add_argument("--download-weights", action="store_true", help="fetch the weights into REPOSITORY_DIR first")
    cli.add_dataset_arguments(parser)
    parser.add_argument("--limit", type=int, help="calibrate on so many clips of the data set, drawn by --seed")
    parser.add_argument("--overwrite", action="store_true", help="replace an existing model folder")
    return parser


@cli.command(arguments)
def main(options):
    if options.output_dir.exists() and not options.overwrite:
        raise InputError(f"{options.output_dir}: exists; pass --overwrite to replace it or name another --output-dir")
    if options.dataset is not None and options.weights != "v1":
        raise InputError(
            f"--dataset: {options.weights} needs no clips to calibrate on; leave it out, or pass --weights v1"
        )
    needs_dataset = {"--data-dir": options.data_dir, "--download": options.download or None, "--limit": options.limit}
    for flag, value in needs_dataset.items():
        if options.dataset is None and value is not None:
            raise InputError(f"{flag}: needs --dataset, the clips to calibrate on; name one, or leave it out")
    if options.download_weights and options.weights == "random":
        raise InputError("--download-weights: random weights are drawn; leave it out, or pass --weights v1 or v2")
    clips = [] if options.dataset is None else cli.load_clips(options)
    if options.limit is not None:
        if not 1 <= options.limit <= len(clips):
            raise InputError(
                f"--limit: {options.limit} is not allowed; expected 1 to {len(clips)}, the data set's clips"
            )
        clips = [clips[i] for i in sorted(np.random.default_rng(options.seed).permutation(len(clips))[: options.limit])]

    import keras

    from keras_audio_transfer.export import saved_model
    from keras_audio_transfer.extractor import calibrate
    from keras_audio_transfer.pretrained import choi2017

    keras.utils.set_random_seed(options.seed)
    form = {"v1": "v1" if clips else "v1_published", "v2": "v2", "random": "v2"}[options.weights]
    config, weights = choi2017.CONFIGS[form], {}
    if options.weights != "random":
        if options.download_weights:
            choi2017.download_weights(options.repository, options.weights, progress=not options.quiet)
        weights = choi2017.read_weights(options.repository, options.weights)
    model = choi2017.build(form, weights)
    card = Card(
        config,
        network="convnet5",
        network_citation=choi2017.CITATION,
        pooling="mean",
        labels=choi2017.TAGS,
        multi_label=True,
        training_data=choi2017.TRAINING_DATA if weights else {"dataset": "none: random weights"},
        weights=f"{options.weights}: {choi2017.FILES.get(options.weights, 'drawn by the seed')}",
        batch_clips=choi2017.PUBLISHED_BATCH if form == "v1_published" else 1,
        calibration={"dataset": options.dataset, "clips": len(clips)} if clips else None,
        seed=options.seed,
    )
    if clips:
        progress = cli.progress_bar(options, "calibrating", len(clips))
        calibrate(model, _Waveforms(clips, config, progress))
    with atomic_write(options.output_dir) as partial:
        partial.mkdir()
        difference = saved_model.write_model(partial, model, card)
    print(f"reloaded in a fresh process: largest difference {difference:.1e}")
    print(f"written: {options.output_dir}")
    return cli.DONE


class _Waveforms:
    """The clips' waveforms, (1, samples) each, as often as they are iterated over: `calibrate` does once per layer."""

    def __init__(self, clips, config, progress):
        self.clips, self.config, self.progress = clips, config, progress

    def __iter__(self):
        for waveform in self.progress(ordered_map(self._load, self.clips)):
            yield waveform[np.newaxis]

    def _load(self, clip):
        waveform = load_waveform(clip, self.config.sample_rate, self.config.clip_seconds)
        return crop_or_pad(waveform, self.config.n_samples, self.config.short_clips)
