"""Prepare a data set: decode, check and resample its clips once, into shards of TFRecord with an index.

    keras-audio-transfer prepare --dataset esc10 --data-dir data/ESC-50 --sample-rate 16000 --output-dir prepared/esc10

Every verb with --dataset reads the folder, as `--dataset prepared --data-dir prepared/esc10`, several times faster than
compressed files. What is there of an earlier run stays as long as its sources do not change: after a kill the same
command goes on, and where everything is there it does nothing.
"""

from functools import partial
from pathlib import Path

from keras_audio_transfer.commands import cli, features, places
from keras_audio_transfer.commands.progress import Estimate
from keras_audio_transfer.config import HIGHEST_RATE, LOWEST_RATE
from keras_audio_transfer.errors import InputError
from keras_audio_transfer.files import failures_beside, size_of, write_failures

_rate = cli.number(int, lambda value: LOWEST_RATE <= value <= HIGHEST_RATE, f"{LOWEST_RATE} to {HIGHEST_RATE} Hz")


def arguments():
    parser = cli.parser(__doc__)
    cli.add_dataset_arguments(parser)
    parser.add_argument(
        "--sample-rate", type=_rate, metavar="HZ", default=16000, help="of the samples: that of the models to be used"
    )
    parser.add_argument(
        "--output-dir", type=Path, required=True, metavar="DIR", help="folder to write, or to go on with"
    )
    parser.add_argument(
        "--shard-mib", type=cli.positive, metavar="N", default=128, help="size from which on a shard is full"
    )
    cli.add_workers_argument(parser)
    cli.add_scheduler_argument(parser, "decode the clips")
    return parser


@cli.command(arguments)
def main(options):
    folder = options.output_dir
    if options.dataset in (None, "prepared"):
        given = "is missing" if options.dataset is None else "prepared is what this makes"
        raise InputError(f"--dataset: {given}; name a data set, or manifest or folder for clips of your own")
    places.check_folder("--output-dir", folder, [options.data_dir])
    places.check_holds_no_input("--output-dir", folder, [options.data_dir])
    failures_beside(folder)
    places.lock(folder)
    cluster = cli.cluster_of(options)
    clips = cli.load_clips(options)

    def elsewhere(function, clips, failed):
        return features.on_clips(cluster, partial(map, function), clips, failed, [options.data_dir])

    estimate, size_before = Estimate(options, "preparing"), size_of(folder)

    def progress(total):
        bar = cli.Phases(options, "preparing").bar("preparing", total)
        return lambda records: bar(estimate.watch(records, total, bytes_of=lambda record: len(record[1])))

    def checking(parts):
        return cli.Phases(options, "checking").bar("checking", len(parts), "shard")(parts)

    how = options.sample_rate, options.workers, round(options.shard_mib * 2**20), progress

    from keras_audio_transfer.preparation import prepare

    rows, n_before = prepare(clips, folder, *how, cluster and elsewhere, checking)
    failures = [(row["clip_id"], row["failure"]) for row in rows if row["failure"]]
    write_failures(folder, failures)
    cli.say_notes(options, [row["notes"] for row in rows if not row["failure"]])
    seconds = sum(row["seconds"] for row in rows)
    clips_there = f"{len(rows) - len(failures)} clips, {seconds:.0f} s at {options.sample_rate} Hz"
    was_there = f"; {n_before} of {len(rows)} were there already" if n_before else ""
    cli.show(f"written: {folder} ({clips_there}{was_there})")
    estimate.compare(size_of(folder) - size_before)
    return cli.report_failures(failures, folder)
