"""What all commands share: common arguments, ranges, one-line errors, exit codes. Without TensorFlow."""

import argparse
import logging
import math
import os
import re
import shlex
import sys
import traceback
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING

from keras_audio_transfer import datasets
from keras_audio_transfer.commands import places, progress
from keras_audio_transfer.commands.parsing import DeprecatedFlag, Formatter, Parser  # noqa: F401 - DeprecatedFlag for commands
from keras_audio_transfer.commands.places import check_file, check_folder, check_model_folder  # noqa: F401 - likewise
from keras_audio_transfer.commands.progress import Phases
from keras_audio_transfer.config import LONGEST_HOP, MOST_THREADS, SHORTEST_HOP, AudioConfig
from keras_audio_transfer.copies import keep_copies_together
from keras_audio_transfer.dask_cluster import WORKERS_IN, Cluster
from keras_audio_transfer.datasets import groups
from keras_audio_transfer.datasets.clip import Clip
from keras_audio_transfer.errors import InputError, is_full, readable
from keras_audio_transfer.files import write_failures
from keras_audio_transfer.model_folder import Card
from keras_audio_transfer.probing.layer_weights import CHANNELS, LAYER_WEIGHTS
from keras_audio_transfer.splits import divide

if TYPE_CHECKING:  # modules that take long to import are imported where they are needed
    from keras_audio_transfer.audio.loading import WaveformStore

# Read when TensorFlow is imported: faster kernels, which it takes on some processors only, and all digits on a GPU.
os.environ.update({"TF_ENABLE_ONEDNN_OPTS": "1", "NVIDIA_TF32_OVERRIDE": "0"} | {**os.environ})

# Exit codes: everything done; some files failed and are listed; nothing done because of an InputError; a bug
# (EX_SOFTWARE); interrupted.
DONE, SOME_FAILED, NOT_DONE, BUG, INTERRUPTED = 0, 1, 2, 70, 130


# ---- arguments: the parser, and what a value may be


def number(kind: Callable, allowed: Callable[[float], bool], expected: str) -> Callable[[str], float]:
    """An argument's `type`: a number in a range. Otherwise argparse's error names the flag, the value and the rule.

    Args:
        kind: int or float.
        allowed: whether a number is in the range.
        expected: the range in words.
    """

    def parse(text: str):
        try:
            value = kind(text)
        except ValueError:
            what = "a whole number" if kind is int else "a number"
            raise argparse.ArgumentTypeError(f"{text!r} is not {what}; expected {expected}") from None
        if not allowed(value):
            raise argparse.ArgumentTypeError(f"{text} is not allowed; expected {expected}")
        return value

    return parse


_MOST = 2**31 - 1  # what TensorFlow takes
positive_int = number(int, lambda value: 1 <= value <= _MOST, f"at least 1, at most {_MOST}")
at_a_time = number(int, lambda value: 1 <= value <= MOST_THREADS, f"1 to {MOST_THREADS}")
count = number(int, lambda value: 0 <= value <= _MOST, f"at least 0, at most {_MOST}")
fold = number(int, lambda value: value >= 0, "the number of a fold, at least 0")
seed = number(int, lambda value: 0 <= value < 2**32, f"0 to {2**32 - 1}")  # what NumPy's and scikit-learn's take
positive = number(float, lambda value: 0 < value < math.inf, "a number above 0")
hop = number(float, lambda value: SHORTEST_HOP <= value <= LONGEST_HOP, f"seconds from {SHORTEST_HOP} to {LONGEST_HOP}")
not_negative = number(float, lambda value: 0 <= value < math.inf, "at least 0")
seconds = number(float, lambda value: 0 < value <= 3600, "more than 0, up to 3600 seconds")
fraction = number(float, lambda value: 0 <= value < 1, "0 to below 1")
part = number(float, lambda value: 0 < value <= 1, "more than 0 and at most 1")
probability = number(float, lambda value: 0 <= value <= 1, "0 to 1")
share = number(float, lambda value: 0 < value < 1, "more than 0 and less than 1")
half = number(float, lambda value: 0 <= value <= 0.5, "0 to 0.5")


def parser(description: str) -> argparse.ArgumentParser:
    """A parser with the arguments that every command takes; `--help` shows its module's docstring and all defaults."""
    summary, _, epilog = description.strip().partition("\n")
    result = Parser(description=summary, epilog=epilog, formatter_class=Formatter, allow_abbrev=False)
    result.register("type", Path, places.path)
    result.add_argument("--seed", type=seed, default=0, help="of everything random")
    result.add_argument("--quiet", action="store_true", help="no progress, only results and errors")
    return result


def command(arguments: Callable[[], argparse.ArgumentParser]) -> Callable:
    """Make a function of options a `main(argv)`; an InputError then names flags where the library named arguments.

    Args:
        arguments: makes the parser. `argv` is what it parses; None for the process's own arguments. `prog` is what it
            calls the command in its help; None for the script's name.
    """

    def decorate(body: Callable[[argparse.Namespace], int]) -> Callable:
        @wraps(body)
        def main(argv: Sequence[str] | None = None, prog: str | None = None) -> int:
            parser = arguments()
            parser.prog = prog or parser.prog
            try:
                with places.of_command():
                    return body(places.with_copies(parser.parse_args(argv)))
            except InputError as error:
                raise InputError(_with_flags(str(error), parser)) from error

        return main

    return decorate


def _with_flags(message, parser):
    """`name: ...` at the beginning, and `name` in backticks, as the flag of that argument where there is one."""
    shown = [action for action in parser._actions if action.option_strings and action.help is not argparse.SUPPRESS]
    flags = {action.dest: action.option_strings[-1] for action in shown}
    return re.sub(r"^(\w+)(?=: )|`(\w+)`", lambda match: flags.get(match[1] or match[2], match[0]), message)


def add_model_argument(arguments: argparse.ArgumentParser, what: str) -> None:
    """`MODEL_DIR`: a model folder, or a name that stands for one."""
    names = "the word 'default' stands for the one that comes with the package, and 'yamnet' for yamnet once imported"
    text = f"{what}; {names}"
    arguments.add_argument("model_dir", type=places.model_folder, metavar="MODEL_DIR", help=text)


# ---- clips


def add_dataset_arguments(arguments: argparse.ArgumentParser, default: str | None = None) -> None:
    """`--dataset`, `--data-dir`, `--download`."""
    arguments.add_argument(
        "--dataset", metavar="NAME", choices=[*datasets.DATASETS], default=default, help="one of %(choices)s"
    )
    arguments.add_argument(
        "--data-dir", type=Path, metavar="DIR", help="the folder its authors publish (manifest: the CSV file)"
    )
    arguments.add_argument("--download", action="store_true", help="fetch the data set into --data-dir first")
    add_group_argument(arguments)


def add_group_argument(arguments: argparse.ArgumentParser) -> None:
    """`--group-by`."""
    text = (
        "a regular expression for paths: clips for which its first parentheses hold the same stand on one side always"
    )
    arguments.add_argument("--group-by", metavar="PATTERN", help=text)


def load_clips(options: argparse.Namespace) -> list[Clip]:
    """The clips that `add_dataset_arguments` asked for, downloaded first if wished."""
    if options.download:
        if options.data_dir is None:
            raise InputError("--download: needs --data-dir, the folder to download to")
        bar = progress.of_download(options, options.dataset)
        datasets.download(options.dataset, options.data_dir, progress=bar)
    clips = datasets.load(options.dataset, options.data_dir)
    if options.group_by is None and (pattern := groups.found(clips)):
        say(options, groups.may_be_cut(groups.grouped(clips, pattern), f"--group-by {shlex.quote(pattern)}"))
    return groups.grouped(clips, options.group_by)


def require_dataset(options: argparse.Namespace) -> None:
    """Refuse a command without a data set, where nothing else can be its input."""
    if options.dataset is None:
        raise InputError("--dataset: is missing; name one, or manifest or folder with --data-dir for clips of your own")


def name_of_clips(options: argparse.Namespace) -> str:
    """What pictures and pages call the data set; one of the user's own by its folder."""
    if options.data_dir is None or options.dataset not in ("folder", "manifest"):
        return options.dataset
    place = options.data_dir.resolve()
    return place.name if place.is_dir() else place.parent.name


@contextmanager
def naming_dataset(options: argparse.Namespace) -> Iterator[None]:
    """For checks of the clips that `load_clips` gave: an error says of which data set they are."""
    try:
        yield
    except InputError as error:
        raise InputError(f"{options.data_dir or options.dataset}: {error}") from error


def add_division_arguments(arguments: argparse.ArgumentParser, validation_type: Callable = half) -> None:
    """`--test-fold`, `--validation-fraction`: see `splits.divide`."""
    arguments.add_argument(
        "--test-fold",
        type=fold,
        metavar="N",
        help="fold to score on, of data sets with folds (default: the highest)",
    )
    arguments.add_argument(
        "--validation-fraction",
        type=validation_type,
        metavar="F",
        default=0.2,
        help="fraction of the training recordings held out for early stopping where there is no official validation "
        "split",
    )
    add_duplicates_argument(arguments)


def check_division(options: argparse.Namespace, clips: list[Clip]) -> None:
    """Refuse a data set that cannot be divided as `add_division_arguments` asked, before its clips are decoded."""
    divide(clips, options.test_fold, options.validation_fraction, options.seed)


def decode_clips(
    options: argparse.Namespace,
    name: str,
    clips: list[Clip],
    config: AudioConfig,
    output: Path | None,
    phases: Phases,
    **store_arguments,
) -> "tuple[list[Clip], list[tuple[str, str]], WaveformStore, AudioConfig]":
    """Decode every clip once, in the phase 'decoding'; those that cannot be read are listed in `failed.csv`.

    Args:
        options: with `clip_seconds` (None: the config's length, or that of the longest clip, whichever is shorter) and
            `allow_duplicates`.
        name: what an error calls the clips.
        clips: of a data set.
        config: the front end.
        output: what the failures are listed beside; None: nowhere.
        phases: of the run.
        **store_arguments: see `WaveformStore`.

    Returns:
        The clips that can be read, (clip id, reason) of the others, the store, and the front end for their length.

    Raises:
        InputError: none can be read; or copies are in several classes or parts.
    """
    from keras_audio_transfer.audio.loading import WaveformStore, readable_clips

    config = config.with_clip_seconds(options.clip_seconds)
    store = WaveformStore(config, **store_arguments)
    clips, failures, longest = readable_clips(clips, store, phases.bar("decoding", len(clips)))
    if output is not None:
        write_failures(output, failures)
    if not clips:
        raise InputError(f"{name}: none of its {len(failures)} clips can be read; {failures[0][1]}")
    clips = keep_copies_together(clips, options.allow_duplicates)
    say_notes(options, [clip.notes for clip in clips])
    if options.clip_seconds is None:
        config = config.for_clips(longest / config.sample_rate)
    return clips, failures, store, config


def add_duplicates_argument(arguments: argparse.ArgumentParser) -> None:
    """`--allow-duplicates`."""
    arguments.add_argument(
        "--allow-duplicates",
        action="store_true",
        help="go on where copies of a recording have several labels, or are in several splits or folds",
    )


def add_workers_argument(arguments: argparse.ArgumentParser) -> None:
    """`--workers`."""
    arguments.add_argument("--workers", type=at_a_time, metavar="N", default=2, help="clips worked on at the same time")


def add_scheduler_argument(arguments: argparse.ArgumentParser, what: str) -> None:
    """`--scheduler`, `--workers-in`."""
    text = f"of a Dask cluster, whose workers {what}, such as tcp://10.0.0.1:8786 (default: this machine)"
    arguments.add_argument("--scheduler", metavar="ADDRESS", help=text)
    text = "how long the cluster may be without workers, such as until they have got through a queue"
    arguments.add_argument("--workers-in", type=seconds, metavar="S", default=WORKERS_IN, help=text)


def cluster_of(options: argparse.Namespace) -> Cluster | None:
    """The cluster that `add_scheduler_argument` asked for."""
    if options.scheduler is None:
        return None
    return places.closed_at_the_end(Cluster(options.scheduler, options.workers_in))


def add_jobs_argument(arguments: argparse.ArgumentParser) -> None:
    """`--jobs`, of probes."""
    arguments.add_argument(
        "--jobs", type=at_a_time, metavar="N", default=2, help="combinations of layers worked on at a time"
    )


def add_layer_weights_argument(arguments: argparse.ArgumentParser) -> None:
    """`--layer-weights`, of probes."""
    text = (
        "how much a layer counts where layers are joined, one of %(choices)s. channels: in proportion to its channels; "
        "equal: as much as any other; chosen: whichever of the two does better where parameters are chosen"
    )
    arguments.add_argument("--layer-weights", metavar="NAME", choices=LAYER_WEIGHTS, default=CHANNELS, help=text)


def label_names(clips: list[Clip]) -> list[str]:
    """The names of the labels (or targets) of the clips that `load_clips` gave."""
    dataset = clips[0].dataset  # of a prepared one, that which was prepared
    return datasets.target_names(dataset) or datasets.label_names(clips, datasets.DATASETS[dataset].LABELS)


# ---- what is said


def printable(text: str) -> str:
    """One line of text without what would control a terminal: names of files and classes may hold anything.

    >>> printable("a\x1b[31mb\nc")
    'a\\x1b[31mb\\nc'
    """
    kept = (c if c.isprintable() else c.encode("unicode_escape", "backslashreplace").decode() for c in readable(text))
    return "".join(kept)


def show(text: str) -> None:
    """Print a result on stdout, at once unless `places.held_back`. Where nobody reads on (`| head`), work goes on."""
    try:
        if not places.held_back(text, show):
            print("\n".join(map(printable, text.split("\n"))), flush=True)
    except BrokenPipeError:
        with open(os.devnull, "wb") as nowhere:  # also for what is in the buffer when the process ends
            os.dup2(nowhere.fileno(), sys.stdout.fileno())


def say(options: argparse.Namespace, text: str) -> None:
    """Print a note on stderr, unless `--quiet`."""
    if not options.quiet:
        print(printable(text), file=sys.stderr, flush=True)


class _OneLine(logging.Formatter):
    """What the library warns of names files and classes, too."""

    def format(self, record: logging.LogRecord) -> str:
        return printable(super().format(record))


@contextmanager
def picture() -> Iterator[None]:
    """For the drawing of a picture beside a result: where it fails, that is said, and the result stays."""
    try:
        yield
    except InputError:
        raise
    except Exception as error:
        if isinstance(error, OSError) and error.filename:  # its folder may stand for one that is to be
            error.filename = Path(error.filename).name
        first, *_ = f"{error}".splitlines() or [""]
        remedy = "" if isinstance(error, OSError) else "; please report it"  # a full disk is no bug
        print(f"no picture ({type(error).__name__}: {printable(first[:200])}){remedy}", file=sys.stderr)


def say_notes(options: argparse.Namespace, notes: Iterable[Sequence[str]]) -> None:
    """Say on stderr, in one line, what was found when clips were read. `notes`: of each clip."""
    notes = [*notes]
    counts = Counter(note for of_clip in notes for note in of_clip)
    if counts:
        what = "; ".join(f"{number} of {len(notes)} {note}" for note, number in counts.most_common())
        say(options, f"notes on clips: {what}")


def say_licences(options: argparse.Namespace, card: Card) -> None:
    """Say on stderr, in one line, under which licences the data stand that a model has learnt from."""
    if licences := card.licences():
        say(options, f"licences: {'; '.join(licences)}")


def say_not_written(output: Path) -> None:
    """Say on stderr that there is no result, so that an older file of that name is not taken for it."""
    print(f"not written: {printable(str(output))} (no clip could be read)", file=sys.stderr)


def report_failures(failures: list[tuple[str, str]], output: Path | None) -> int:
    """Name the failed files on stderr; the exit code that goes with them. `output`: None if there is no failed.csv."""
    for _, reason in failures:
        print(f"failed: {printable(reason)}", file=sys.stderr)
    if failures:
        see = "" if output is None else f", see {printable(str(output.parent / 'failed.csv'))}"
        print(f"{len(failures)} failed{see}", file=sys.stderr)
    return SOME_FAILED if failures else DONE


def run(main: Callable[[], int], name: str | None = None) -> None:
    """Run a command's `main` and end the process: an InputError becomes one line, everything else is a bug.

    Args:
        main: returns the exit code.
        name: what error messages begin with; the script's if not given.
    """
    _open_what_is_closed()
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")  # no TensorFlow chatter; set before it is imported
    logging.getLogger("tensorflow").setLevel("ERROR")
    if hasattr(sys.stdout, "reconfigure"):  # a name may have letters that a pipe's encoding lacks
        sys.stdout.reconfigure(errors="backslashreplace")
    if logging.lastResort is not None:
        logging.lastResort.setFormatter(_OneLine())
    name = name or Path(sys.argv[0]).name
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        print(f"{name}: interrupted", file=sys.stderr)
        sys.exit(INTERRUPTED)
    except Exception as error:
        if (what := _not_a_bug(error)) is not None:
            print(f"{name}: error: {printable(' '.join(what.split()))}", file=sys.stderr)
            sys.exit(NOT_DONE)
        traceback.print_exc()
        kind = f"{type(error).__name__}: {printable(' '.join(str(error).split()))[:300]}"
        what = "please report the lines above, with the command and what `--version` says"
        print(f"{name}: internal error: {kind}; this is a bug: {what}", file=sys.stderr)
        sys.exit(BUG)


def _open_what_is_closed():
    """Where a standard stream was closed, the next file that is opened would have its number, and get what is said."""
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # gets the lowest number that is free: this one
            setattr(sys, name, open(number, "r" if number == 0 else "w", closefd=False))  # noqa: SIM115 - to the end


def _not_a_bug(error):
    """What is wrong, in a line, where it is the input or the machine; None for a bug of ours."""
    if isinstance(error, InputError):
        return str(error)
    if is_full(error):
        where = f"{error.filename}: " if isinstance(error, OSError) and error.filename else ""
        return f"{where}no space left on the device; free some, or name another place for the output"
    if isinstance(error, FileNotFoundError) and not error.filename:
        with suppress(FileNotFoundError):
            return os.getcwd() and str(error)  # a library's, that says what is not there
        return "the current folder is no longer there; go to another"
    if isinstance(error, OSError):  # no permission, a file where a folder is needed
        return f"{error.filename}: {error.strerror}" if error.filename else str(error)
    if isinstance(error, MemoryError) or "can't start new thread" in str(error):
        return f"not enough memory or threads ({error}); give it less at a time, or close other programs"
    return None
