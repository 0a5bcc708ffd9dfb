"""Score the features that Choi et al. 2017 published, and compare with their scores.

    keras-audio-transfer reproduce-choi2017 transfer_learning_music --task all --output scores.csv --pictures pictures

The folder is a copy of https://github.com/keunwoochoi/transfer_learning_music. Every published combination is scored as
the paper did: nothing scaled, and the best of the grid on the very folds that are reported. --protocol nested adds the
column `nested`: the same folds, but parameters are chosen inside each training part, as it has to be for new clips.

A row is shown as soon as it is known. No time is said to be left: some combinations take many times as long as others.
A run that was killed continues where it stopped when it is started again with the same arguments.
"""

import hashlib
import shutil
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

from keras_audio_transfer.commands import cli, places
from keras_audio_transfer.errors import InputError
from keras_audio_transfer.files import beside, write_table
from keras_audio_transfer.pretrained import choi2017_results
from keras_audio_transfer.probing.cross_validation import CHOI2017, NESTED, PROTOCOLS, folds_of_2017
from keras_audio_transfer.resume import Journal, check_settings

NEAR = 0.001
AT_A_TIME = 6  # combinations: more share inner products, fewer are known earlier
UNFINISHED, SETTINGS = ".unfinished", "settings.json"


def arguments():
    parser = cli.parser(__doc__)
    parser.add_argument(
        "repository", type=Path, metavar="REPOSITORY_DIR", help="the folder with data_csv/, data_feats/"
    )
    parser.add_argument(
        "--task", metavar="NAME", choices=choi2017_results.NAMES, default="all", help="one of %(choices)s"
    )
    parser.add_argument("--output", type=Path, required=True, metavar="SCORES.csv", help="table to write")
    parser.add_argument(
        "--protocol",
        metavar="NAME",
        choices=PROTOCOLS,
        default=CHOI2017,
        help="one of %(choices)s; nested: the honest scores beside the paper's",
    )
    parser.add_argument(
        "--pictures", type=Path, metavar="DIR", help="draw each task's ranking, and layers x tasks, here"
    )
    cli.add_jobs_argument(parser)
    return parser


def check_places(options):
    """Refuse outputs that cannot be written or would destroy something, and keep other runs away."""
    folders = (options.repository / name for name in ("data_csv", "data_feats", "result_transfer"))
    data = (path for folder in folders for path in folder.rglob("*"))
    places.check_file("--output", options.output, data)
    if options.pictures:
        places.check_folder("--pictures", options.pictures)
    unfinished = beside(options.output, UNFINISHED)
    places.check_state("--output", [unfinished], unfinished / SETTINGS, [options.repository])
    places.lock(options.output, "file")


def read(repository, task):
    """A task's features and the published scores."""
    return choi2017_results.read_task(repository, task), choi2017_results.published_scores(repository, task)


def probers_of(task, features, protocols, options):
    """{protocol: its prober}, in the task's own folds or the paper's."""
    from keras_audio_transfer.probing.prober import Prober

    try:
        if (features.folds < 0).all() and (features.splits == "").all():
            features = replace(features, folds=folds_of_2017(features))
        return {protocol: Prober(features, protocol, False, options.seed, options.jobs) for protocol in protocols}
    except InputError as error:
        raise InputError(f"{task}: {error}") from error


def fingerprint(features):
    digest = hashlib.sha256()
    about = (features.clip_ids, features.labels, features.folds, features.splits)
    for array in (*features.layers.values(), *about):
        digest.update(f"{array.dtype} {array.shape}".encode() + array.tobytes())
    return digest.hexdigest()


def write(path, rows):
    """The table of the rows that are finished; where there are nested scores, with their column."""
    header = ["task", "layers", "published", "ours", "difference"]
    header += ["nested"] if any("nested" in row for row in rows) else []
    write_table(
        path,
        [*header, "known_exception"],
        [[row.get(name, "") for name in [*header, "known_exception"]] for row in rows],
    )


def is_far(difference):
    return not abs(difference) <= NEAR  # NaN is far


def of_row(row):
    nested = f", nested {row['nested']:.4f}" if "nested" in row else ""
    return f"{row['layers']}: published {row['published']:.4f}, ours {row['ours']:.4f}{nested}"


def summary(task, rows):
    """How many scores are the published ones, and which are not."""
    far = [row for row in rows if is_far(row["difference"])]
    lines = [f"{task}: {len(rows) - len(far)} of {len(rows)} within {NEAR}"]
    for row in far:
        why = f"known exception: {row['known_exception']}" if row["known_exception"] else "NOT a known exception"
        lines.append(f"  {of_row(row)}; {why}")
    if "nested" in rows[0]:
        drop = sum(row["ours"] - row["nested"] for row in rows) / len(rows)
        lines.append(f"  nested scores are {drop:.4f} lower in the mean")
    return "\n".join(lines)


def draw(folder, tables, published):
    """Each task's ranking with the published scores, and the heat map of all tasks."""
    import pandas as pd

    from keras_audio_transfer import plots

    for task, table in tables.items():
        scores = pd.DataFrame(table)
        mfcc = scores.loc[scores["layers"] == choi2017_results.MFCC, "score"]
        lines = {choi2017_results.MFCC: mfcc.iloc[0]} if len(mfcc) else {}
        there = {"+".join(layers): value for layers, value in published[task].items()}
        title = f"{task}, as in Choi et al. 2017: parameters chosen on the reported folds"
        plots.ranked(scores, folder / f"{task}.*", title, lines, there)
    columns = {task: pd.DataFrame(table).set_index("layers")["score"] for task, table in tables.items()}
    title = "Published features, protocol of Choi et al. 2017: accuracy, or r2 for emoMusic"
    plots.heat_map(plots.side_by_side(columns), folder / "tasks.*", title)


def open_journals(options, tasks):
    """The folder of what an unfinished run has computed; refuses that of another run."""
    unfinished = beside(options.output, UNFINISHED)
    unfinished.mkdir(parents=True, exist_ok=True)
    settings = {"task": options.task, "protocol": options.protocol, "seed": options.seed}
    settings["combinations at a time"] = AT_A_TIME  # what is computed of one depends on the others
    settings |= {f"features of {task}": fingerprint(features) for task, (features, _) in tasks.items()}
    check_settings(unfinished / SETTINGS, settings)
    return unfinished


def score_task(options, task, published, probers, journals, finished):
    """Score every combination; show each, and write the table, as soon as it is known.

    Args:
        options: of the command.
        task: its name.
        published: combination -> score.
        probers: of `probers_of`.
        journals: the folder of `open_journals`.
        finished: rows of the tasks before.

    Returns:
        The rows of the table to write, and those of the prober as in the paper.
    """
    rows, table, wanted = {}, [], [*published]
    with ExitStack() as journals_open:
        for protocol, prober in probers.items():
            prober.record = journals_open.enter_context(Journal(journals / f"{task}.{protocol}.jsonl"))
        for start in range(0, len(wanted), AT_A_TIME):
            some = wanted[start : start + AT_A_TIME]
            cli.say(options, f"{task}: combinations {start + 1} to {start + len(some)} of {len(wanted)}")
            for protocol, prober in probers.items():
                for layers, row in zip(some, prober.rows(some), strict=True):
                    if protocol == NESTED:
                        rows[layers]["nested"] = row["score"]
                    else:
                        table.append(row)
                        rows[layers] = compared(task, layers, row, published[layers])
                    write(options.output, [*finished, *rows.values()])
                    if protocol == options.protocol:  # the last one
                        cli.show(f"{task} {of_row(rows[layers])}")
    return [*rows.values()], table


def compared(task, layers, row, published):
    difference = row["score"] - published
    return {
        "task": task,
        "layers": row["layers"],
        "published": published,
        "ours": row["score"],
        "difference": difference,
        "known_exception": choi2017_results.TASKS[task].known_exception(layers) if is_far(difference) else "",
    }


@cli.command(arguments)
def main(options):
    check_places(options)
    names = choi2017_results.find_tasks(options.repository, options.task)
    tasks = {task: read(options.repository, task) for task in names}
    protocols = dict.fromkeys([CHOI2017, options.protocol])
    probers = {task: probers_of(task, features, protocols, options) for task, (features, _) in tasks.items()}
    journals = open_journals(options, tasks)
    phases, rows, tables = cli.Phases(options, *tasks), [], {}
    for task, (_, published) in tasks.items():
        phases.begin(task)
        of_task, tables[task] = score_task(options, task, published, probers[task], journals, rows)
        cli.show(summary(task, of_task))
        rows += of_task
    near = sum(not is_far(row["difference"]) for row in rows)
    cli.show(f"together: {near} of {len(rows)} within {NEAR}")
    cli.show("As in the paper, parameters were chosen on the reported folds: published and ours are optimistic.")
    if options.pictures:
        options.pictures.mkdir(parents=True, exist_ok=True)
        with cli.picture():
            draw(options.pictures, tables, {task: published for task, (_, published) in tasks.items()})
    shutil.rmtree(journals)
    cli.show(f"written: {options.output}")
    return cli.DONE
