"""What all scripts share: common arguments, one-line errors, exit codes, progress on stderr. Without TensorFlow."""

import argparse
import logging
import os
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path

from tqdm import tqdm

from keras_audio_transfer import datasets
from keras_audio_transfer.datasets.clip import Clip
from keras_audio_transfer.errors import InputError

# Exit codes: everything done; some files failed and are listed; nothing done because of an InputError; interrupted.
DONE, SOME_FAILED, NOT_DONE, INTERRUPTED = 0, 1, 2, 130


def parser(description: str) -> argparse.ArgumentParser:
    """A parser with the arguments that every script takes; `--help` shows the script's docstring and all defaults."""
    summary, _, epilog = description.strip().partition("\n")
    result = argparse.ArgumentParser(description=summary, epilog=epilog, formatter_class=_Formatter)
    result.add_argument("--seed", type=int, default=0, action=_Seed, help="of everything random")
    result.add_argument("--quiet", action="store_true", help="no progress, only results and errors")
    return result


class _Seed(argparse.Action):
    """NumPy's and scikit-learn's generators take no other numbers."""

    def __call__(self, parser, namespace, value, option_string=None):
        if not 0 <= value < 2**32:
            raise InputError(f"--seed: {value} is not allowed; expected 0 to {2**32 - 1}")
        setattr(namespace, self.dest, value)


class _Formatter(argparse.ArgumentDefaultsHelpFormatter, argparse.RawDescriptionHelpFormatter):
    """Shows the defaults that say something, and the epilog as it was written."""

    def _get_help_string(self, action):
        return action.help if action.default is None or action.default is False else super()._get_help_string(action)


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


def progress_bar(options: argparse.Namespace, what: str, total: int, unit: str = "clip") -> Callable:
    """A function that wraps an iterator and reports its progress on stderr, unless `--quiet`."""
    return partial(tqdm, desc=what, total=total, unit=unit, disable=options.quiet, file=sys.stderr)


def say(options: argparse.Namespace, text: str) -> None:
    """Print a note on stderr, unless `--quiet`."""
    if not options.quiet:
        print(text, file=sys.stderr)


def report_failures(failures: list[tuple[str, str]], output: Path) -> int:
    """Name the failed files on stderr; the exit code that goes with them."""
    for _, reason in failures:
        print(f"failed: {reason}", file=sys.stderr)
    if failures:
        print(f"{len(failures)} failed, see {output.parent / 'failed.csv'}", file=sys.stderr)
    return SOME_FAILED if failures else DONE


def run(main: Callable[[], int]) -> None:
    """Run a script's main function and end the process: an InputError becomes one line, everything else is a bug."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")  # no TensorFlow chatter; set before it is imported
    logging.getLogger("tensorflow").setLevel("ERROR")
    name = Path(sys.argv[0]).name
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
