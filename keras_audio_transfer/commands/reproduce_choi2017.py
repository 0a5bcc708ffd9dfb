"""Score the features that Choi et al. 2017 published, and compare with their scores.

    python scripts/reproduce_choi2017.py transfer_learning_music --task all --output scores.csv --pictures pictures

The folder is a copy of https://github.com/keunwoochoi/transfer_learning_music. Every published combination is scored as
the paper did: nothing scaled, and the best of the grid on the very folds that are reported. --protocol nested adds the
column `nested`: the same folds, but parameters are chosen inside each training part, as it has to be for new clips.

A run that was killed continues where it stopped when it is started again with the same arguments.
"""

import hashlib
import shutil
from dataclasses import replace
from pathlib import Path

import pandas as pd

from keras_audio_transfer.commands import cli
from keras_audio_transfer.errors import InputError
from keras_audio_transfer.files import write_table
from keras_audio_transfer.pretrained import choi2017_results
from keras_audio_transfer.probing.cross_validation import CHOI2017, NESTED, PROTOCOLS, folds_of_2017
from keras_audio_transfer.probing.prober import Prober
from keras_audio_transfer.resume import Journal, check_settings

NEAR = 0.001


def arguments():
    parser = cli.parser(__doc__)
    parser.add_argument(
        "repository", type=Path, metavar="REPOSITORY_DIR", help="the folder with data_csv/, data_feats/"
    )
    parser.add_argument("--task", default="all", metavar="NAME", help=f"one of {', '.join(choi2017_results.NAMES)}")
    parser.add_argument("--output", type=Path, required=True, metavar="SCORES.csv", help="table to write")
    parser.add_argument(
        "--protocol", default=CHOI2017, help="choi2017, or nested for the honest scores beside the paper's"
    )
    parser.add_argument(
        "--pictures", type=Path, metavar="DIR", help="draw each task's ranking, and layers x tasks, here"
    )
    parser.add_argument("--jobs", type=int, default=2, help="combinations worked on at a time")
    return parser


def read(repository, task):
    """A task's features and the published scores."""
    return choi2017_results.read_task(repository, task), choi2017_results.published_scores(repository, task)


def probers_of(task, features, protocols, options):
    """{(task, protocol): its prober}, in the task's own folds or the paper's."""
    try:
        if (features.folds < 0).all() and (features.splits == "").all():
            features = replace(features, folds=folds_of_2017(features))
        return {
            (task, protocol): Prober(features, protocol, False, options.seed, options.jobs) for protocol in protocols
        }
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


def summary(task, rows):
    """How many scores are the published ones, and which are not."""
    far = [row for row in rows if not abs(row["difference"]) <= NEAR]  # NaN is far
    lines = [f"{task}: {len(rows) - len(far)} of {len(rows)} within {NEAR}"]
    for row in far:
        why = f"known exception: {row['known_exception']}" if row["known_exception"] else "NOT a known exception"
        lines.append(f"  {row['layers']}: published {row['published']:.4f}, ours {row['ours']:.4f}; {why}")
    if "nested" in rows[0]:
        drop = sum(row["ours"] - row["nested"] for row in rows) / len(rows)
        lines.append(f"  nested scores are {drop:.4f} lower in the mean")
    return "\n".join(lines)


def draw(folder, tables, published):
    """Each task's ranking with the published scores, and the heat map of all tasks."""
    from keras_audio_transfer import plots

    for suffix in ("png", "svg"):
        for task, table in tables.items():
            scores = pd.DataFrame(table)
            mfcc = scores.loc[scores["layers"] == choi2017_results.MFCC, "score"]
            lines = {choi2017_results.MFCC: mfcc.iloc[0]} if len(mfcc) else {}
            there = {"+".join(layers): value for layers, value in published[task].items()}
            title = f"{task}, as in Choi et al. 2017: parameters chosen on the reported folds"
            plots.ranked(scores, folder / f"{task}.{suffix}", title, lines, there)
        columns = {task: pd.DataFrame(table).set_index("layers")["score"] for task, table in tables.items()}
        title = "Published features, protocol of Choi et al. 2017: accuracy, or r2 for emoMusic"
        plots.heat_map(plots.side_by_side(columns), folder / f"tasks.{suffix}", title)


@cli.command(arguments)
def main(options):
    if options.protocol not in PROTOCOLS:
        raise InputError(f"--protocol: {options.protocol!r} is unknown; choose from {', '.join(PROTOCOLS)}")
    if options.jobs < 1:
        raise InputError(f"--jobs: {options.jobs} is not allowed; expected 1 or more")
    cli.refuse_folder(options.output)
    if options.pictures and options.pictures.is_file():
        raise InputError(f"--pictures: {options.pictures} is a file; name a folder")
    protocols = dict.fromkeys([CHOI2017, options.protocol])
    names = choi2017_results.find_tasks(options.repository, options.task)
    tasks = {task: read(options.repository, task) for task in names}
    probers = {}
    for task, (features, _) in tasks.items():
        probers |= probers_of(task, features, protocols, options)
    if options.pictures:
        options.pictures.mkdir(parents=True, exist_ok=True)
    unfinished = options.output.with_name(f"{options.output.name}.unfinished")
    unfinished.mkdir(parents=True, exist_ok=True)
    settings = {"task": options.task, "protocol": options.protocol, "seed": options.seed}
    settings |= {f"features of {task}": fingerprint(features) for task, (features, _) in tasks.items()}
    check_settings(unfinished / "settings.json", settings)

    steps = sum(prober.n_steps([*tasks[task][1]]) for (task, _), prober in probers.items())
    progress = cli.progress_bar(options, "probing", steps, unit="fit")(None)
    rows, tables = {}, {}
    for (task, protocol), prober in probers.items():
        published = tasks[task][1]
        prober.step = progress.update
        with Journal(unfinished / f"{task}.{protocol}.jsonl") as prober.record:
            for layers, row in zip(published, prober.rows([*published]), strict=True):
                if protocol == NESTED:
                    rows[task, layers]["nested"] = row["score"]
                else:
                    tables.setdefault(task, []).append(row)
                    rows[task, layers] = {
                        "task": task,
                        "layers": row["layers"],
                        "published": published[layers],
                        "ours": row["score"],
                        "difference": row["score"] - published[layers],
                        "known_exception": choi2017_results.TASKS[task].known_exception(layers),
                    }
                write(options.output, [*rows.values()])
    progress.close()
    if options.pictures:
        draw(options.pictures, tables, {task: published for task, (_, published) in tasks.items()})
    shutil.rmtree(unfinished)

    for task in tasks:
        print(summary(task, [row for (of, _), row in rows.items() if of == task]))
    near = sum(abs(row["difference"]) <= NEAR for row in rows.values())
    print(f"together: {near} of {len(rows)} within {NEAR}")
    print("As in the paper, parameters were chosen on the reported folds: published and ours are optimistic.")
    print(f"written: {options.output}")
