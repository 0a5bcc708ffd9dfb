"""What transfers, from where, at which depth? Sources x targets x features x clips x seeds, in one table.

    keras-audio-transfer study study.toml --output-dir studies/mine
    keras-audio-transfer study study.toml --output-dir studies/mine --only 'yamnet|esc10|all+mfcc|mean|svm|10|1'

docs/studies.md says what a study's file holds. Each cell is kept as it ends: a run that was killed goes on when it is
started again, and with a changed file what is still asked for is kept. A cell that fails is in the table, with the
reason.
"""

import sys
from functools import partial
from pathlib import Path

from keras_audio_transfer.commands import cli, places
from keras_audio_transfer.files import failures_beside, write_failures


def arguments():
    parser = cli.parser(__doc__)
    parser.add_argument(
        "study", type=Path, metavar="STUDY.toml", help="what is compared with what; see docs/studies.md"
    )
    parser.add_argument("--output-dir", type=Path, required=True, metavar="DIR", help="for the tables and the report")
    text = "cells whose name is like this (* stands for anything), again where they are done: they have to be equal"
    parser.add_argument("--only", metavar="PATTERN", help=f"{text} (default: those that are not done)")
    cli.add_workers_argument(parser)
    cli.add_scheduler_argument(parser, "run the cells")
    parser.add_argument("--jobs", type=cli.at_a_time, metavar="N", default=2, help="cells worked on at a time")
    return parser


def check(options, study):
    """Refuse what cannot end well, before any work is done."""
    from keras_audio_transfer.study import report, running

    folder, outputs = options.output_dir, (*running.OUTPUTS, *report.OUTPUTS)
    inputs = [study.path, *(target.data_dir for target in study.targets.values())]
    inputs += [folder for source in study.sources.values() for folder in (source.model, source.multiscale)]
    places.check_folder("--output-dir", folder, inputs)
    places.check_state("--output-dir", [folder / name for name in outputs], folder / running.CONFIG, inputs)
    for name in (running.CONFIG, *outputs):
        places.check_no_input("--output-dir", folder / name, inputs)
    failures_beside(folder / running.CONFIG)
    places.lock(folder)


def say_failed_cells(results):
    """How many cells failed, and why the first did."""
    from keras_audio_transfer.study.evidence import counted

    first, *others = results.failed_cells
    why = results.cells.set_index("cell").at[first, "why"].removeprefix(f"{first}: ")
    beside = f" (and {counted(len(others), 'other')})" if others else ""
    text = f"{counted(len(results.failed_cells), 'cell')} failed, see why in cells.csv: {first}: {why}{beside}"
    print(cli.printable(text), file=sys.stderr)


@cli.command(arguments)
def main(options):
    from keras_audio_transfer.study import report, running, study_file
    from keras_audio_transfer.study.evidence import counted

    study = study_file.read(options.study)
    check(options, study)
    cluster = cli.cluster_of(options)
    if any(source.model for source in study.sources.values()):
        from keras_audio_transfer import extraction

        extraction.use_one_thread_a_clip(options.workers)
    bar = cli.Phases(options, *running.phases(study)).bar
    how = options.jobs, options.workers, options.only, bar, cluster, partial(cli.say, options)
    results = running.run(study, options.output_dir, *how)
    if options.only is None or not failures_beside(options.output_dir / running.CONFIG).exists():
        write_failures(options.output_dir / running.CONFIG, results.failed_clips)  # else it is of all targets
    if options.only is None:
        report.write(results.cells, results.measures, study, options.output_dir)
    else:
        numbers = {"run again and equal": results.n_before, "new": results.n_new}
        cli.show("; ".join(f"{what}: {counted(number, 'cell')}" for what, number in numbers.items()))
    cli.show(f"written: {options.output_dir}")
    code = cli.report_failures(results.failed_clips, options.output_dir / running.CONFIG)
    if results.failed_cells:
        say_failed_cells(results)
        return cli.SOME_FAILED
    return code
