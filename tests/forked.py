"""Scripts in processes that have TensorFlow already: its import takes longer than most of what tests let them do."""

import multiprocessing
import os
import runpy
import subprocess
import sys
from pathlib import Path

import bare

_VERIFICATION = "keras_audio_transfer.export.verification"
_CONTEXT = multiprocessing.get_context("forkserver")
_CONTEXT.set_forkserver_preload(
    [
        _VERIFICATION,
        "keras_audio_transfer.finetuning",
        "keras_audio_transfer.extraction",
        "keras_audio_transfer.export.saved_model",
        "keras_audio_transfer.probing.prober",
        "keras_audio_transfer.plots",
    ]
)


def run(script: Path, arguments: list[str], folder: Path, timeout: float) -> subprocess.CompletedProcess:
    """Run `python SCRIPT ARGUMENTS...` in that folder; what `subprocess.run` returns."""
    folder.mkdir(exist_ok=True)
    streams = folder / "stdout", folder / "stderr"
    process = _CONTEXT.Process(target=_become, args=(script, arguments, streams, dict(os.environ)))
    process.start()
    process.join(timeout)
    if process.exitcode is None:
        process.kill()
        raise subprocess.TimeoutExpired([script, *arguments], timeout)
    return subprocess.CompletedProcess(arguments, process.exitcode, *(path.read_text() for path in streams))


def _become(script, arguments, streams, environment):
    sys.modules[_VERIFICATION].run_alone = bare.run
    os.chdir(script.parents[1])
    os.environ.clear()
    os.environ.update(environment)
    for path, number in zip(streams, (1, 2), strict=True):
        os.dup2(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC), number)
    sys.argv = [str(script), *arguments]
    runpy.run_path(str(script), run_name="__main__")
