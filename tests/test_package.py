"""What holds for the package as a whole: who imports whom, what works without TensorFlow, who prints."""

import ast
import graphlib
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "keras_audio_transfer"
SOURCES = sorted(PACKAGE.rglob("*.py"))
SCRIPTS = sorted((ROOT / "scripts").glob("*.py"))

WITHOUT_TENSORFLOW = [
    "cli",
    "collecting",
    "config",
    "datasets",
    "decoding",
    "download",
    "errors",
    "files",
    "mfcc",
    "model_folder",
    "parts",
    "plots",
    "probes",
    "serving_client",
    "serving_kit",
    "transfer_plan",
    "transfer_results",
]

_IMPORT = "import sys, importlib; importlib.import_module(sys.argv[1])"
_RUN_WITHOUT_MAIN = "import sys, runpy; sys.path.insert(0, 'scripts'); runpy.run_path(sys.argv[1])"
_REPORT = "; print(*sorted({'tensorflow', 'keras', 'kapre', 'tensorflow_io'} & {*sys.modules}))"


def name_of(source):
    parts = source.relative_to(ROOT).with_suffix("").parts
    return ".".join(part for part in parts if part != "__init__")


MODULES = {name_of(source): source for source in SOURCES}


def tree_of(source):
    return ast.parse(source.read_text(encoding="utf-8"), filename=source.name)


def imported_by(source):
    """Dotted names of what a file imports, wherever in the file; of the package's modules the very one."""
    found = set()
    for node in ast.walk(tree_of(source)):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{source.name}, line {node.lineno}: a relative import"
            for alias in node.names:
                submodule = f"{node.module}.{alias.name}"
                found.add(submodule if submodule in MODULES else node.module)
    return found


def frameworks_after(code, argument):
    run = subprocess.run(
        [sys.executable, "-c", code + _REPORT, argument], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert run.returncode == 0, run.stderr
    return run.stdout.split()


@pytest.mark.parametrize("module", WITHOUT_TENSORFLOW)
def test_works_without_tensorflow(module):
    assert frameworks_after(_IMPORT, f"keras_audio_transfer.{module}") == []


def test_the_others_do_import_it():
    # The check above can fail.
    assert {"keras", "kapre", "tensorflow"} <= {*frameworks_after(_IMPORT, "keras_audio_transfer.extractor")}


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda script: script.stem)
def test_scripts_import_tensorflow_only_when_they_need_it(script):
    # Help and most errors come at once.
    assert frameworks_after(_RUN_WITHOUT_MAIN, str(script.relative_to(ROOT))) == []


def test_there_are_no_import_cycles():
    graph = {name: imported_by(source) & MODULES.keys() - {name} for name, source in MODULES.items()}
    assert sum(map(len, graph.values())) > 30
    order = [*graphlib.TopologicalSorter(graph).static_order()]  # a CycleError names the modules
    assert order.index("keras_audio_transfer.config") < order.index("keras_audio_transfer.audio")


def test_a_cycle_would_be_found():
    with pytest.raises(graphlib.CycleError, match="cycle"):
        [*graphlib.TopologicalSorter({"a": {"b"}, "b": {"c"}, "c": {"a"}}).static_order()]


@pytest.mark.parametrize("source", SOURCES, ids=name_of)
def test_the_package_imports_neither_scripts_nor_tests(source):
    outside = {"scripts", "tests", "conftest", "pytest", "hypothesis", *(script.stem for script in SCRIPTS)}
    assert not {name.partition(".")[0] for name in imported_by(source)} & outside


def test_one_file_imports_kapre():
    importers = {
        name for name, source in MODULES.items() if any(n.split(".")[0] == "kapre" for n in imported_by(source))
    }
    assert importers == {"keras_audio_transfer.spectrogram"}


def print_lines(tree):
    return [
        node.lineno
        for node in ast.walk(tree)
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "print"
    ]


@pytest.mark.parametrize("source", [s for s in SOURCES if s.name != "cli.py"], ids=name_of)
def test_the_package_does_not_print(source):
    tree = tree_of(source)
    allowed = []
    if source.name == "training.py":
        (epoch_line,) = (node for node in tree.body if isinstance(node, ast.ClassDef) and node.name == "EpochLine")
        allowed = print_lines(epoch_line)
        assert allowed
    if source.name == "serving_client.py":  # a script as well, for machines without the package
        (main,) = (node for node in tree.body if isinstance(node, ast.FunctionDef) and node.name == "main")
        allowed = print_lines(main)
        assert allowed
    assert print_lines(tree) == allowed


@pytest.mark.parametrize("source", SOURCES, ids=name_of)
def test_user_errors_are_no_asserts(source):
    # `python -O` removes them.
    assert not [node.lineno for node in ast.walk(tree_of(source)) if isinstance(node, ast.Assert)]


_MACHINE_PATH = re.compile(r"(?<![\w.$}:/])/(?:home|root|tmp|work|workspace|mnt|media|Users)/\w|\b[A-Z]:\\\w")


def test_no_paths_of_one_machine():
    texts = [*SOURCES, *SCRIPTS, *(ROOT / "tests").glob("*.py"), ROOT / "setup.cfg", *ROOT.glob("*.md")]
    texts += [*(ROOT / "saved_models").rglob("*.md"), *(ROOT / "saved_models").rglob("*.json")]
    found = [
        f"{text.relative_to(ROOT)}, line {number}"
        for text in texts
        for number, line in enumerate(text.read_text(encoding="utf-8").splitlines(), 1)
        if _MACHINE_PATH.search(line)
    ]
    assert found == []


@pytest.mark.parametrize("path", ["/" + "home/ada/x.wav", "/" + "tmp/x", "C:" + "\\Users"])
def test_a_path_of_one_machine_would_be_found(path):
    assert _MACHINE_PATH.search(f'open("{path}")')
