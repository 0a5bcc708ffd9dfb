"""Code in copies of processes that have TensorFlow already: its import takes longer than most of what tests let run.

A test session has three such processes, which start when a test first asks, and end with it. In the one for `alone`
Keras, kapre and this package cannot be imported: what is exported is checked there. The one for `script` has them all,
and the one for `importing` all but this package: a changed copy of it can be tried there.
"""

import json
import os
import select
import signal
import socket
import socketserver
import subprocess
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Sequence
from importlib import import_module
from multiprocessing import forkserver, resource_tracker, util
from pathlib import Path

from filelock import FileLock

# Whether TensorFlow optimises graphs there, which takes longer than to run one once: not in the default tier.
optimise = True
# The number of the test session's first process, for all that it starts. Also xdist's processes inherit it.
_SESSION = os.environ.setdefault("KAT_TEST_SESSION", str(os.getpid()))
_PLACE = Path(tempfile.gettempdir()) / f"kat_test_{_SESSION}"
_SECONDS_TO_START = 240
_ALONE, _WITHOUT_PACKAGE, _WITH_PACKAGE = "alone", "without_package", "with_package"
# What the package and its tests import of others, as far as it takes long.
_OTHERS = ["keras", "kapre", "librosa", "matplotlib.figure", "pandas", "pytest", "sklearn.svm", "soundfile"]
_VERIFICATION = "keras_audio_transfer.export.verification"
_IMPORTED = [
    _VERIFICATION,
    "keras_audio_transfer.finetuning",
    "keras_audio_transfer.extraction",
    "keras_audio_transfer.export.saved_model",
    "keras_audio_transfer.probing.prober",
    "keras_audio_transfer.plots",
    "librosa.feature.spectral",  # last: where it was never imported before, it compiles itself for half a minute
]
_RUN_SCRIPT = "import runpy, sys; runpy.run_path(sys.argv[0], run_name='__main__')"
# Before a script that exports a model, for a test of no other signatures: all take several times as long.
FEW_SIGNATURES = """
from keras_audio_transfer.export import signatures
for name in {*signatures._INPUTS} - {"serving_default", "as_trained", "info"}:
    del signatures._INPUTS[name]
"""
_DO_NOT_OPTIMISE = """
import tensorflow as tf
tf.config.optimizer.set_experimental_options({"disable_meta_optimizer": True})
"""
_RUN_MODULE = "import runpy, sys; runpy.run_module(sys.argv[0], run_name='__main__', alter_sys=True)"
# Before code that imports the package itself; the first place on the path is the folder of this file.
_LOOK_FOR_PACKAGE = """
import sys
assert not any(name.partition(".")[0] == "keras_audio_transfer" for name in sys.modules)
sys.path[:1] = [%r]
"""


def alone(code: str, *arguments: str | Path) -> subprocess.CompletedProcess:
    """Run Python code where only TensorFlow is; it finds the arguments in `sys.argv[1:]`. As `subprocess.run`."""
    return _run(_ALONE, code, ["-c", *arguments], Path.cwd(), timeout=300)


def script(path: Path, arguments: list[str], timeout: int = 300, before: str = "") -> subprocess.CompletedProcess:
    """Run `python PATH ARGUMENTS...` in the folder above the script's; after that many seconds it is killed.

    `before` is code that runs in the process first.
    """
    return _run(_WITH_PACKAGE, before + _RUN_SCRIPT, [path, *arguments], path.parents[1], timeout)


def killed(path: Path, arguments: list[str], when: Callable[[], bool]) -> subprocess.CompletedProcess:
    """Run a script as `script` does, and kill it (SIGKILL) once `when()` is true: its exit code is then -9."""
    return _run(_WITH_PACKAGE, _RUN_SCRIPT, [path, *arguments], path.parents[1], timeout=300, kill_when=when)


def importing(
    code: str, package_at: Path, folder: Path, environment: dict | None = None, arguments: Sequence = ("-c",)
) -> subprocess.CompletedProcess:
    """Run Python code in a folder, where the package is not imported yet, but is what lies at that place.

    `environment` and `arguments` are its variables (None for those of here) and its `sys.argv`.
    """
    code = _LOOK_FOR_PACKAGE % str(package_at) + code
    return _run(_WITHOUT_PACKAGE, code, arguments, folder, timeout=900, environment=environment)


def module(name: str, arguments: list[str], folder: Path, environment: dict) -> subprocess.CompletedProcess:
    """Run `python -m NAME ARGUMENTS...` in a folder, with this environment: the package is the one that lies there.

    TensorFlow optimises no graphs there.
    """
    return importing(_DO_NOT_OPTIMISE + _RUN_MODULE, folder, folder, environment, [name, *arguments])


def start() -> None:
    """Start the three processes, if none of the session has yet; they take a while to be ready."""
    with FileLock(f"{_PLACE}.lock"):
        if not Path(f"{_PLACE}.pid").exists():
            process = subprocess.Popen([sys.executable, __file__, _PLACE, _SESSION], start_new_session=True)
            Path(f"{_PLACE}.pid").write_text(str(process.pid))


def _run(where, code, arguments, folder, timeout, environment=None, kill_when=None):
    start()
    address = Path(f"{_PLACE}.{where}")
    with FileLock(f"{_PLACE}.lock"):
        deadline = time.monotonic() + _SECONDS_TO_START
        while not address.exists():
            is_late = time.monotonic() > deadline or _has_ended(Path(f"{_PLACE}.pid").read_text())
            assert not is_late, f"{__file__} does not start; run it alone to see why"
            time.sleep(0.05)
    with socket.socket(socket.AF_UNIX) as connection:
        connection.connect(str(address))
        with connection.makefile("rw") as stream:
            variables = dict(os.environ) if environment is None else environment
            request = code, [*map(str, arguments)], str(folder), timeout, variables, optimise
            print(json.dumps(request), file=stream, flush=True)
            process = int(stream.readline())
            if kill_when and _waits_for(kill_when, connection):
                os.kill(process, signal.SIGKILL)
                answer = stream.readline() or json.dumps([-signal.SIGKILL, "", ""])
                while Path(f"/proc/{process}").exists():  # until the server has noticed, it seems to live
                    time.sleep(0.01)
            else:
                answer = stream.readline() or json.dumps([-1, "", f"it crashed, or took more than {timeout} s"])
    return subprocess.CompletedProcess([*arguments], *json.loads(answer))


def _has_ended(process):
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(") ")[2].startswith("Z")
    except FileNotFoundError:
        return True


def _waits_for(condition, connection):
    """Wait until the condition is true; False if the process at the other end has ended before."""
    while not condition():
        if select.select([connection], [], [], 0.005)[0]:
            return False
    return True


# ---- the three processes


class _Handler(socketserver.StreamRequestHandler):
    """Runs in a process of its own."""

    def handle(self):
        code, sys.argv, folder, timeout, environment, optimised = json.loads(self.rfile.readline())
        self.wfile.write(b"%d\n" % os.getpid())
        signal.alarm(timeout)
        if not optimised:
            exec(_DO_NOT_OPTIMISE)
        os.chdir(folder)
        os.environ.clear()
        os.environ.update(environment)
        with tempfile.TemporaryFile("w+") as stdout, tempfile.TemporaryFile("w+") as stderr:
            os.dup2(stdout.fileno(), 1)
            os.dup2(stderr.fileno(), 2)
            answer = [_exit_code_of(code)]
            for stream, file in ((sys.stdout, stdout), (sys.stderr, stderr)):
                stream.flush()
                file.seek(0)
                answer.append(file.read())
        self.wfile.write(json.dumps(answer).encode() + b"\n")


def _exit_code_of(code):
    try:
        exec(code, {"__name__": "__main__"})
    except SystemExit as end:
        if end.code is None or isinstance(end.code, int):
            return end.code or 0
        print(end.code, file=sys.stderr)
        return 1
    except BaseException:
        traceback.print_exc()
        return 1
    return 0


class _Server(socketserver.ForkingMixIn, socketserver.UnixStreamServer):
    max_children = 8

    def service_actions(self):
        """Called 20 times a second."""
        super().service_actions()
        try:
            os.kill(int(sys.argv[2]), 0)
        except ProcessLookupError:
            for path in Path(tempfile.gettempdir()).glob(f"kat_test_{sys.argv[2]}.*"):
                path.unlink(missing_ok=True)
            util._run_finalizers()  # of multiprocessing: its folder
            os._exit(0)


def _share_forkserver():
    """The processes that scripts let multiprocessing fork are copies of this one, too.

    Else each script starts a process to fork them from, which imports TensorFlow once more.
    """

    def copy(path, arguments, descriptors):
        process = os.fork()
        if process == 0:
            low, high = sorted(descriptors)
            for others in ((3, low), (low + 1, high), (high + 1, os.sysconf("SC_OPEN_MAX"))):
                os.closerange(*others)  # it lives for as long as someone else has one of them open
            try:
                forkserver.main(*descriptors, [])
            finally:
                os._exit(0)  # nothing of what the other process has to do at its end
        return process

    resource_tracker.ensure_running()
    start_python, util.spawnv_passfds = util.spawnv_passfds, copy
    forkserver.ensure_running()
    util.spawnv_passfds = start_python
    forkserver._forkserver.ensure_running = lambda: None  # it waits for a child, which only this process has


def _serve(where):
    address = f"{sys.argv[1]}.{where}"
    server = _Server(f"{address}.new", _Handler)
    os.rename(f"{address}.new", address)  # now it can be connected to
    server.serve_forever(0.05)


if __name__ == "__main__":
    import tensorflow  # noqa: F401 - the copies find it imported

    if os.fork() == 0:
        sys.modules.update({"keras": None, "kapre": None, "keras_audio_transfer": None})
        _serve(_ALONE)
    for name in _OTHERS:
        import_module(name)
    if os.fork() == 0:
        _serve(_WITHOUT_PACKAGE)
    for name in _IMPORTED:
        import_module(name)
    sys.modules[_VERIFICATION].run_alone = alone
    _share_forkserver()
    _serve(_WITH_PACKAGE)
