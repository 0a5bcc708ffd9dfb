"""What all scripts share: common arguments, one-line errors, exit codes, progress on stderr. Without TensorFlow."""

import argparse
import logging
import os
import re
import sys
from collections.abc import Callable, Sequence
from functools import partial, wraps
from pathlib import Path

from tqdm import tqdm

from keras_audio_transfer import datasets
from keras_audio_transfer.audio import WaveformStore, readable_clips
from keras_audio_transfer.config import AudioConfig
from keras_audio_transfer.datasets.clip import AUDIO_SUFFIXES, Clip
from keras_audio_transfer.errors import InputError
from keras_audio_transfer.feature_table import FeatureTable
from keras_audio_transfer.files import write_failures

# TensorFlow's faster kernels, which it chooses by itself on some processors only. Read when TensorFlow is imported.
os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")

# Exit codes: everything done; some files failed and are listed; nothing done because of an InputError; interrupted.
DONE, SOME_FAILED, NOT_DONE, INTERRUPTED = 0, 1, 2, 130


def parser(description: str) -> argparse.ArgumentParser:
    """A parser with the arguments that every script takes; `--help` shows the script's docstring and all defaults."""
    summary, _, epilog = description.strip().partition("\n")
    result = _Parser(description=summary, epilog=epilog, formatter_class=_Formatter, allow_abbrev=False)
    result.add_argument("--seed", type=int, default=0, action=_Seed, help="of everything random")
    result.add_argument("--quiet", action="store_true", help="no progress, only results and errors")
    return result


class _Parser(argparse.ArgumentParser):
    """Says what is wrong as everything else does: in one line."""

    def error(self, message):
        raise InputError(f"{message.removeprefix('argument ')}; see --help")


class _Seed(argparse.Action):
    """NumPy's and scikit-learn's generators take no other numbers."""

    def __call__(self, parser, namespace, value, option_string=None):
        if not 0 <= value < 2**32:
            raise InputError(f"--seed: {value} is not allowed; expected 0 to {2**32 - 1}")
        setattr(namespace, self.dest, value)


class _Formatter(argparse.ArgumentDefaultsHelpFormatter, argparse.RawDescriptionHelpFormatter):
    """Shows the defaults that say something, and the epilog as it was written."""

    def _get_help_string(self, action):
        says_nothing = action.default is None or action.default is False or action.default == []
        return action.help if says_nothing else super()._get_help_string(action)


def command(arguments: Callable[[], argparse.ArgumentParser]) -> Callable:
    """Make a function of options a `main(argv)`; an InputError then names flags where the library named arguments.

    Args:
        arguments: makes the parser. `argv` is what it parses; None for the process's own arguments.
    """

    def decorate(body: Callable[[argparse.Namespace], int]) -> Callable:
        @wraps(body)
        def main(argv: Sequence[str] | None = None) -> int:
            parser = arguments()
            try:
                return body(parser.parse_args(argv))
            except InputError as error:
                raise InputError(_with_flags(str(error), parser)) from error

        return main

    return decorate


def _with_flags(message, parser):
    """`name: ...` at the beginning, and `name` in backticks, as the flag of that argument where there is one."""
    flags = {action.dest: action.option_strings[-1] for action in parser._actions if action.option_strings}
    return re.sub(r"^(\w+)(?=: )|`(\w+)`", lambda match: flags.get(match[1] or match[2], match[0]), message)


def add_dataset_arguments(arguments: argparse.ArgumentParser, default: str | None = None) -> None:
    """`--dataset`, `--data-dir`, `--download`."""
    names = ", ".join(datasets.DATASETS)
    arguments.add_argument("--dataset", metavar="NAME", default=default, help=f"one of {names}")
    arguments.add_argument(
        "--data-dir", type=Path, metavar="DIR", help="the folder its authors publish (manifest: the CSV file)"
    )
    arguments.add_argument("--download", action="store_true", help="fetch the data set into --data-dir first")


def load_clips(options: argparse.Namespace) -> list[Clip]:
    """The clips that `add_dataset_arguments` asked for, downloaded first if wished."""
    if options.download:
        if options.data_dir is None:
            raise InputError("--download: needs --data-dir, the folder to download to")
        datasets.download(options.dataset, options.data_dir, progress=not options.quiet)
    return datasets.load(options.dataset, options.data_dir)


def add_division_arguments(arguments: argparse.ArgumentParser) -> None:
    """`--test-fold`, `--validation-fraction`: see `parts.divide`."""
    arguments.add_argument(
        "--test-fold", type=int, help="fold to score on (data sets with folds); the highest if not given"
    )
    arguments.add_argument(
        "--validation-fraction",
        type=float,
        default=0.2,
        help="share of the training recordings held out for early stopping where there is no official validation split",
    )


def decode_clips(
    options: argparse.Namespace, name: str, clips: list[Clip], config: AudioConfig, output: Path, **store_arguments
) -> tuple[list[Clip], list[tuple[str, str]], WaveformStore, AudioConfig]:
    """Decode every clip once; those that cannot be read are listed in `failed.csv`.

    Args:
        options: with `clip_seconds` (None: the config's length, or that of the longest clip, whichever is shorter).
        name: what an error calls the clips.
        clips: of a data set.
        config: the front end.
        output: what the failures are listed beside.
        **store_arguments: see `WaveformStore`.

    Returns:
        The clips that can be read, (clip id, reason) of the others, the store, and the front end for their length.

    Raises:
        InputError: none can be read.
    """
    config = config.with_clip_seconds(options.clip_seconds)
    store = WaveformStore(config, **store_arguments)
    clips, failures, longest = readable_clips(clips, store, progress_bar(options, "decoding", len(clips)))
    write_failures(output, failures)
    if not clips:
        raise InputError(f"{name}: none of its {len(failures)} clips can be read; {failures[0][1]}")
    if options.clip_seconds is None:
        longest = max(longest, config.n_fft) / config.sample_rate  # clips shorter than a frame are filled
        config = config.with_clip_seconds(min(config.clip_seconds, longest))
    return clips, failures, store, config


def add_input_arguments(arguments: argparse.ArgumentParser) -> None:
    """A data set, or audio files and folders; and the features file to write."""
    arguments.add_argument(
        "inputs", type=Path, nargs="*", metavar="FILE_OR_FOLDER", help="audio, instead of a data set"
    )
    add_dataset_arguments(arguments)
    arguments.add_argument("--output", type=Path, required=True, metavar="FEATURES.npz", help="features file to write")
    arguments.add_argument("--workers", type=int, default=2, help="clips worked on at the same time")


def load_inputs(options: argparse.Namespace) -> tuple[list[Clip], list[str]]:
    """The clips that `add_input_arguments` asked for, and the names of their labels (or targets)."""
    if bool(options.inputs) == bool(options.dataset):
        raise InputError("inputs: expected either files and folders or --dataset, not both and not neither")
    if options.dataset is None:
        for flag, given in (("--data-dir", options.data_dir), ("--download", options.download)):
            if given:
                raise InputError(f"{flag}: belongs to a data set; name it with --dataset, or leave {flag} out")
        return clips_below(options.inputs), []
    clips = load_clips(options)
    names = datasets.target_names(options.dataset)
    return clips, names or datasets.label_names(clips, datasets.DATASETS[options.dataset].LABELS)


def check_output(options: argparse.Namespace) -> None:
    """Refuse what cannot end in a features file, before any work is done."""
    if options.workers < 1:
        raise InputError(f"--workers: {options.workers} is not allowed; expected at least 1")
    refuse_folder(options.output)
    if options.output.suffix != ".npz":
        raise InputError(f"--output: {options.output} does not end in .npz; name a features file")


def refuse_folder(output: Path) -> None:
    """Refuse a folder as the `--output` that is to be a file, before any work is done."""
    if output.is_dir():
        raise InputError(f"--output: {output} is a folder; name a file")


def write_features(options: argparse.Namespace, features: FeatureTable, failures: list[tuple[str, str]]) -> int:
    """Write the features file and `failed.csv` beside it; the exit code."""
    write_failures(options.output, failures)
    if len(features.clip_ids):
        features.save(options.output)
        print(f"written: {options.output} ({len(features.clip_ids)} clips, {len(features.layers)} layers)")
    else:
        say_not_written(options.output)
    return report_failures(failures, options.output)


def clips_below(inputs: list[Path]) -> list[Clip]:
    """One unlabelled clip per audio file; folders are searched to any depth. Clip ids are the paths as given."""
    clips = []
    for path in inputs:
        if path.is_dir():
            found = sorted(p for p in path.rglob("*") if p.suffix.lower() in AUDIO_SUFFIXES and p.is_file())
            if not found:
                raise InputError(f"{path}: holds no audio; expected {', '.join(AUDIO_SUFFIXES)} files; check the path")
            clips += [Clip(p.as_posix(), p) for p in found]
        else:
            clips.append(Clip(path.as_posix(), path))
    return [*{clip.clip_id: clip for clip in clips}.values()]


def progress_bar(options: argparse.Namespace, what: str, total: int, unit: str = "clip") -> Callable:
    """A function that wraps an iterator and reports its progress on stderr, unless `--quiet`."""
    return partial(tqdm, desc=what, total=total, unit=unit, disable=options.quiet, file=sys.stderr)


def say(options: argparse.Namespace, text: str) -> None:
    """Print a note on stderr, unless `--quiet`."""
    if not options.quiet:
        print(text, file=sys.stderr)


def say_not_written(output: Path) -> None:
    """Say on stderr that there is no result, so that an older file of that name is not taken for it."""
    print(f"not written: {output} (no clip could be read)", file=sys.stderr)


def report_failures(failures: list[tuple[str, str]], output: Path | None) -> int:
    """Name the failed files on stderr; the exit code that goes with them. `output`: None if there is no failed.csv."""
    for _, reason in failures:
        print(f"failed: {reason}", file=sys.stderr)
    if failures:
        see = "" if output is None else f", see {output.parent / 'failed.csv'}"
        print(f"{len(failures)} failed{see}", file=sys.stderr)
    return SOME_FAILED if failures else DONE


def run(main: Callable[[], int], name: str | None = None) -> None:
    """Run a command's `main` and end the process: an InputError becomes one line, everything else is a bug.

    Args:
        main: returns the exit code.
        name: what error messages begin with; the script's if not given.
    """
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")  # no TensorFlow chatter; set before it is imported
    logging.getLogger("tensorflow").setLevel("ERROR")
    name = name or Path(sys.argv[0]).name
    try:
        sys.exit(main())
    except InputError as error:
        print(f"{name}: error: {' '.join(str(error).split())}", file=sys.stderr)
        sys.exit(NOT_DONE)
    except OSError as error:  # no permission, no space left, a file where a folder is needed
        what = f"{error.filename}: {error.strerror}" if error.filename else error
        print(f"{name}: error: {what}", file=sys.stderr)
        sys.exit(NOT_DONE)
    except KeyboardInterrupt:
        print(f"{name}: interrupted", file=sys.stderr)
        sys.exit(INTERRUPTED)
