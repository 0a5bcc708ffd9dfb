"""The command `keras-audio-transfer VERB ...`: a verb for each of its neighbours here."""

import argparse
import os
import sys
from collections.abc import Sequence
from importlib import import_module
from types import ModuleType

from keras_audio_transfer import __version__
from keras_audio_transfer.commands import cli
from keras_audio_transfer.errors import unknown

PROGRAM = "keras-audio-transfer"
# Verb -> the first line of its module's docstring; the module itself is imported only when it is asked for.
VERBS = {
    "train": "Train a network on a data set and export it as a model folder.",
    "extract": "Compute the features of every layer for a data set, or for audio files and folders.",
    "mfcc": "Compute the MFCC baseline of Choi et al. 2017 for a data set, or for audio files and folders.",
    "prepare": "Prepare a data set: decode, check and resample its clips once, into shards of TFRecord with an index.",
    "probe": "Fit SVM probes on a features file: what does each layer know of the task?",
    "compare": "Which source? Probe several networks on the same clips, layer by layer and joined, beside the floors.",
    "atlas": "Show what every layer of a network hears in a data set, on one HTML page with sounds.",
    "transfer": "Transfer a trained network to another data set, and compare that with doing without.",
    "study": "What transfers, from where, at which depth? Sources x targets x features x clips x seeds, in one table.",
    "summarise-sources": "Make the tables of several comparisons of sources, from the folders that 'compare' writes.",
    "summarise-transfer": "Make tables and pictures of several transfers, from the results.csv of each.",
    "summarise-scale": "Work out what many hours of audio cost, from what `benchmark --growth` has measured.",
    "classify": "Make a classifier of your own sounds: a folder with a sub-folder of audio a class -> a model folder.",
    "predict": "Predict the class of audio files, with the SavedModel of a model folder that has scores.",
    "suggest": "Suggest which clips to label next, or whose label to check, for a model that 'classify' wrote.",
    "demo": "Try a model on a page in the browser: drop a recording or record one, and see its labels.",
    "export": "Export a model to a model folder, or add a version of its SavedModel to one.",
    "serve": "Serve a model folder over HTTP, as TensorFlow Serving's REST interface does, without Docker.",
    "models": "List the published networks that `import` knows: trained on what, good for what, how large, under which "
    "licence.",
    "import": "Turn a published network into a model folder, with every layer open.",
    "import-choi2017": "Turn the published weights of Choi et al. 2017 into a model folder.",
    "reproduce-choi2017": "Score the features that Choi et al. 2017 published, and compare with their scores.",
    "benchmark": "Measure the speed and memory that the documents quote, as ratios within one run.",
}


def help_text() -> str:
    """What `--help` prints."""
    verbs = "\n".join(f"  {verb:<20}{summary}" for verb, summary in VERBS.items())
    return (
        f"usage: {PROGRAM} [--help] [--version] VERB ...\n\n"
        "Transfer learning on audio: train or import a network, extract every layer's features, probe, fine-tune,\n"
        f"classify, serve.\n\nverbs:\n{verbs}\n\n"
        f"'{PROGRAM} VERB --help' shows a verb's arguments and their defaults. For example:\n\n"
        f"    {PROGRAM} classify my_sounds --output-dir mine\n\n"
        f"'python -m keras_audio_transfer VERB', and in a checkout 'python scripts/VERB.py', are the same.\n"
    )


def module_of(verb: str) -> ModuleType:
    """The module that does what a verb says.

    Raises:
        InputError: no such verb.
    """
    if verb not in VERBS:
        raise unknown("verb", verb, VERBS)
    return import_module(f"keras_audio_transfer.commands.{verb.replace('-', '_')}")


def main(argv: Sequence[str] | None = None) -> None:
    """Run the command line, and end the process with its exit code."""
    if "_ARGCOMPLETE" in os.environ:  # set by the shell, when it asks what a line may go on with
        complete(os.environ["COMP_LINE"])
    verb, *arguments = (sys.argv[1:] if argv is None else [*argv]) or ["--help"]
    if verb in ("-h", "--help"):
        cli.run(lambda: cli.show(help_text().removesuffix("\n")) or cli.DONE, PROGRAM)
    if verb == "--version":
        cli.run(lambda: cli.show(__version__) or cli.DONE, PROGRAM)
    verb = verb.replace("_", "-")
    name = f"{PROGRAM} {verb}" if verb in VERBS else PROGRAM
    cli.run(lambda: module_of(verb).main(arguments, name), name)


def complete(line: str) -> None:
    """Tell the shell what a line of this command may go on with, and end the process; needs the extra `completion`."""
    import argcomplete

    parser = argparse.ArgumentParser(PROGRAM)
    parser.add_argument("--version", action="store_true")
    verbs = parser.add_subparsers()
    for verb in VERBS:
        described = [module_of(verb).arguments()] if verb in line.split() else []
        verbs.add_parser(verb, parents=described, add_help=not described)
    argcomplete.autocomplete(parser)
