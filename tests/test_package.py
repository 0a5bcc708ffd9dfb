"""What holds for the package as a whole: who imports whom, what works without TensorFlow, who prints."""

import ast
import graphlib
import json
import keyword
import re
import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "keras_audio_transfer"
SOURCES = sorted(PACKAGE.rglob("*.py"))
SCRIPTS = sorted((ROOT / "scripts").glob("*.py"))

# Those that need TensorFlow; every other module works without it, and imports it only where it is needed.
WITH_TENSORFLOW = {
    *("backbones.applications", "backbones.blocks", "backbones.convnet5", "backbones.densenet40"),
    *("backbones.resnet18", "backbones.sbcnn", "export.batchnorm_folding", "export.chunked_inference"),
    *("export.graph_rewriting", "export.saved_model", "export.signatures", "export.tflite", "export.verification"),
    *("export.variants", "export.wav", "extraction", "extractor", "finetuning", "hear", "layers"),
    *("training.distribution", "training.fitting", "training.heads", "training.input_pipeline"),
    *("export.patchwise", "pretrained.choi2017", "pretrained.musicnn", "pretrained.openl3", "pretrained.panns"),
    *("pretrained.efficientnet_lite", "pretrained.pytorch"),
    *("pretrained.source", "pretrained.speech_embedding", "pretrained.vggish", "pretrained.yamnet", "resampling"),
    *("certainty_layers", "one_vs_rest_layers", "servers.rest_server", "signature_loading", "spectrogram"),
    *("svm_layers", "tensor_float_32", "tensorflow_alone"),
}
FRAMEWORKS = ("tensorflow", "keras", "kapre", "tensorflow_io")
# Imports modules one after the other, and prints which frameworks each asks for; to import them takes longer than all
# else, so they are refused.
_IMPORT_EACH = f"""
import importlib, json, sys
asked = []

class Refusing:
    def find_spec(self, name, *_):
        if name.partition(".")[0] in {FRAMEWORKS}:
            asked.append(name.partition(".")[0])
            raise ImportError(f"{{name}} is refused")

sys.meta_path.insert(0, Refusing())
brought = {{}}
for name in sys.argv[1:]:
    asked.clear()
    try:
        importlib.import_module(name)
    except ImportError:
        if not asked:
            raise
    brought[name] = sorted({{*asked}})
print(json.dumps(brought))
"""


def name_of(source):
    parts = source.relative_to(ROOT).with_suffix("").parts
    return ".".join(part for part in parts if part != "__init__")


MODULES = {name_of(source): source for source in SOURCES}


@cache
def tree_of(source):
    return ast.parse(source.read_text(encoding="utf-8"), filename=source.name)


@cache
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


@pytest.fixture(scope="module")
def brought():
    """Module -> the frameworks that its import asks for, of one process that imports all but `WITH_TENSORFLOW`."""
    names = [name for name in MODULES if name.partition(".")[2] not in WITH_TENSORFLOW | {"__main__"}]
    assert len(names) == len(MODULES) - len(WITH_TENSORFLOW) - 1, "WITH_TENSORFLOW names a module that is not there"
    command = [sys.executable, "-c", _IMPORT_EACH, *names, "keras_audio_transfer.extractor", *FRAMEWORKS]
    run = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr
    return json.loads(run.stdout)


@pytest.mark.parametrize("module", [name for name in MODULES if name.partition(".")[2] not in WITH_TENSORFLOW])
def test_works_without_tensorflow(module, brought):
    """Of commands, too: help and most errors come at once."""
    found = brought.get(module, [])
    assert not found, (
        f"{module} brings in {', '.join(found)}: import it inside functions, or name {module.partition('.')[2]} in "
        "WITH_TENSORFLOW"
    )


def test_the_others_do_import_it(brought):
    # The check above can fail.
    assert brought["keras_audio_transfer.extractor"] == ["keras"]  # the first that is refused
    assert all(brought[name] == [name] for name in FRAMEWORKS)


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda script: script.stem)
def test_a_script_is_its_command_and_nothing_else(script):
    docstring, *_ = ast.get_docstring(tree_of(PACKAGE / "commands" / script.name)).splitlines()
    module = script.stem
    imports = f"from keras_audio_transfer.commands import {', '.join(sorted(['cli', module]))}\n"
    if keyword.iskeyword(module):  # then no statement can import it
        imports = (
            "from keras_audio_transfer.commands import cli\nfrom keras_audio_transfer.commands.main import module_of\n"
        )
        module = f'module_of("{module}")'
    assert script.read_text(encoding="utf-8") == (
        f'"""{docstring}"""\n\n{imports}\nif __name__ == "__main__":\n    cli.run({module}.main)\n'
    )


def test_there_are_no_import_cycles():
    graph = {name: imported_by(source) & MODULES.keys() - {name} for name, source in MODULES.items()}
    assert sum(map(len, graph.values())) > 30
    order = [*graphlib.TopologicalSorter(graph).static_order()]  # a CycleError names the modules
    assert order.index("keras_audio_transfer.config") < order.index("keras_audio_transfer.audio.loading")


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


@pytest.mark.parametrize("source", [s for s in SOURCES if s.parent.name != "commands"], ids=name_of)
def test_the_library_does_not_print(source):
    tree = tree_of(source)
    allowed = []
    if source == PACKAGE / "training" / "fitting.py":
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


def test_functions_and_modules_stay_readable():
    """Docstrings count: what cannot be described in a screen or two does too much."""
    lengths = {
        f"{name_of(source)}.{node.name}": node.end_lineno - node.lineno + 1
        for source in SOURCES
        for node in ast.walk(tree_of(source))
        if isinstance(node, ast.FunctionDef)
    }
    assert {name: length for name, length in lengths.items() if length > 90} == {}
    modules = {name: len(source.read_text(encoding="utf-8").splitlines()) for name, source in MODULES.items()}
    assert {name: length for name, length in modules.items() if length > 450} == {}
