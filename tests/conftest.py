"""What several test modules share: the scripts as a user runs them, and one exported model."""

import gc
import json
import os
import pickle
import sys
from importlib import import_module
from pathlib import Path

import forked
import pytest
from filelock import FileLock

# Before anything imports TensorFlow. The kernels are those that the scripts choose, see `commands.cli`.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")
os.environ.setdefault("NVIDIA_TF32_OVERRIDE", "0")
# No test cuts the power, and waiting for the disk took a seventh of the time of some.
os.fsync = lambda handle: None
# A core for each of xdist's processes. (TensorFlow keeps its threads: how it rounds follows their number.)
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
# What the user has imported is not what is built on where no model is named.
os.environ["KERAS_AUDIO_TRANSFER_MODELS"] = os.devnull + "/none"

ROOT = Path(__file__).resolve().parents[1]

# They come first, so that all processes have work until the end; and before those that wait for the forked processes.
SLOWEST = ("test_backbones.py", "test_training.py", "test_finetuning.py", "test_flow.py", "test_saved_model.py")


def pytest_addoption(parser):
    """`--all`: the slow tests, too."""
    parser.addoption("--all", action="store_true", help="run all tests, also those marked slow")


def pytest_configure(config):
    """A marker expression (`-m slow`, or `-m ""` for all) or a test's id selects from all tests.

    The processes of xdist are given the options, but not the command line.
    """
    arguments = config.invocation_params.args
    if any(argument.startswith("-m") or "::" in argument for argument in arguments):
        config.option.all = True
    if getattr(config.option, "numprocesses", None):  # in the process that starts the others, while these collect
        forked.start()


def pytest_collection_modifyitems(config, items):
    """Leave the slow tests out of the default tier, and move the slowest files to the front."""
    if not config.option.all:
        config.hook.pytest_deselected(items=[item for item in items if item.get_closest_marker("slow")])
        items[:] = [item for item in items if not item.get_closest_marker("slow")]
    places = {name: place for place, name in enumerate(SLOWEST)}
    items.sort(key=lambda item: places.get(item.path.name, len(SLOWEST)))


def pytest_collection_finish(session):
    """Where tests import TensorFlow anyway: what they export is checked in copies of one process.

    The default tier goes without the optimisation of graphs, which takes longer than to run one once. The slow tests
    have it.
    """
    verification = sys.modules.get("keras_audio_transfer.export.verification")
    if verification:
        verification.run_alone = forked.alone
    forked.optimise = session.config.option.all
    tensorflow = sys.modules.get("tensorflow")
    if tensorflow and not session.config.option.all:
        tensorflow.config.optimizer.set_experimental_options({"disable_meta_optimizer": True})
    gc.collect()
    gc.freeze()  # the modules that were imported stay to the end: no need to look for garbage among them


def some_quick(values, quick):
    """The values of a parameter; the default tier has the quick ones only."""
    return [value if value in quick else pytest.param(value, marks=pytest.mark.slow) for value in values]


def run_main(name, *arguments):
    """Run a command's main function in this process; its exit code, or the InputError."""
    return import_module(f"keras_audio_transfer.commands.{name}").main([*map(str, arguments)])


def assert_refused(message, call):
    """The call raises an InputError of one line that begins so."""
    from keras_audio_transfer.errors import InputError

    with pytest.raises(InputError) as error:
        call()
    assert str(error.value).startswith(message)
    assert "\n" not in str(error.value)


def read_card(folder):
    """The JSON of a model folder's card.json."""
    return json.loads((folder / "card.json").read_text(encoding="utf-8"))


@pytest.fixture(scope="session")
def run_script():
    """Run `python scripts/NAME.py ARGUMENTS... --quiet` from the repository's root; returns the finished process."""

    def run(name, *arguments, before=""):
        return forked.script(ROOT / "scripts" / f"{name}.py", [*map(str, arguments), "--quiet"], before=before)

    return run


@pytest.fixture(scope="session")
def once(tmp_path_factory, worker_id):
    """Make a folder of the session, by the first of xdist's processes that wants it; what making it returned."""
    base = tmp_path_factory.getbasetemp()
    shared = base if worker_id == "master" else base.parent

    def made(name, make):
        folder, record = shared / name / name, shared / f"{name}.pickle"
        with FileLock(shared / f"{name}.lock"):
            if not record.exists():
                folder.parent.mkdir(exist_ok=True)
                record.write_bytes(pickle.dumps(make(folder)))
        return pickle.loads(record.read_bytes()), folder

    return made


@pytest.fixture(scope="session")
def trained(run_script, once):
    """The process that trained ConvNet-5 for no epochs on a tenth of the synthetic sounds, and its model folder."""
    arguments = "train", "--epochs", 0, "--clip-seconds", 0.25, "--output-dir"
    a_tenth = "from keras_audio_transfer.datasets import synthetic; synthetic.CLIPS_PER_CONDITION = 1\n"
    run, folder = once("random", lambda folder: run_script(*arguments, folder, before=a_tenth))
    assert run.returncode == 0, run.stderr
    return run, folder


@pytest.fixture(scope="session")
def model_dir(trained):
    """A model folder with random weights; not to be written to."""
    return trained[1]


@pytest.fixture(scope="session")
def exported(once):
    """The model folder of `networks.small_classifier`, as the training script writes one; not to be written to."""

    def export(folder):
        import networks
        from sounds import CONFIG

        from keras_audio_transfer.export.saved_model import write_model
        from keras_audio_transfer.files import atomic_write
        from keras_audio_transfer.model_folder import Card

        with atomic_write(folder) as partial:
            partial.mkdir()
            difference = write_model(partial, networks.small_classifier(), Card(CONFIG, labels=networks.LABELS, seed=7))
            (partial / "history.csv").write_text("epoch,loss\n1,0.5\n")
        return difference

    difference, folder = once("tones", export)
    assert difference <= 1e-4
    return folder
