"""What the documents say of the code is what the code is, and what they show runs."""

import contextlib
import io
import json
import re
import shlex
from importlib import import_module
from pathlib import Path
from typing import NamedTuple

import forked
import numpy as np
import pandas as pd
import pytest
import soundfile

import keras_audio_transfer as kat
from keras_audio_transfer.commands import pages, summarise_sources
from keras_audio_transfer.commands.main import VERBS
from keras_audio_transfer.config import PRESETS
from keras_audio_transfer.datasets import DATASETS

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "keras_audio_transfer"
NOTEBOOK = ROOT / "notebooks" / "first_steps.ipynb"
FILES = [*(ROOT / name for name in ("README.md", "CONTRIBUTING.md", "CHANGELOG.md", "saved_models/README.md"))]
FILES += sorted((ROOT / "docs").rglob("*.md"))
PAGES = {path.relative_to(ROOT).as_posix(): path.read_text(encoding="utf-8") for path in FILES}
# A comment of one line above a block says how it is tried; without one it is run.
NOT_RUN, NEW_PROCESS = "not run: ", "in a new process"
BLOCK = re.compile(
    r"^(?:<!-- (?P<mark>[^\n]+) -->\n)?```(?P<language>\w*)\n(?P<code>.*?)^```", re.MULTILINE | re.DOTALL
)


class Block(NamedTuple):
    """A code block of a page: the mark above it, '' for none; its language; its text."""

    mark: str
    language: str
    code: str


def blocks(page):
    return [Block(match["mark"] or "", match["language"], match["code"]) for match in BLOCK.finditer(PAGES[page])]


def commands(code):
    """The arguments of every `keras-audio-transfer` in shell code, a list each, the verb first."""
    lines = code.replace("\\\n", " ").splitlines()
    return [shlex.split(line, comments=True)[1:] for line in lines if line.startswith("keras-audio-transfer ")]


# Tables and lists


def table_cell(page, row, number):
    """A cell of the table row that begins with `row`."""
    line = next((line for line in PAGES[page].splitlines() if line.startswith(f"| {row} |")), None)
    assert line, f"{page}: no row {row} in its table; add one"
    return line.split("|")[number + 1].strip()


@pytest.mark.parametrize(("number", "name"), enumerate(PRESETS, 1))
def test_the_front_ends_numbers(number, name):
    config = PRESETS[name]

    def cell(row):
        return table_cell("docs/front_end.md", row, number)

    assert PAGES["docs/front_end.md"].split("\n| |")[1].split("|")[number - 1].strip() == f"`{name}`"
    assert cell("sample rate") == f"{config.sample_rate:,} Hz"
    assert cell("clip") == f"{config.clip_seconds:g} s = {config.n_samples:,} samples"
    hop = f"{config.n_fft}, {config.hop_length} samples ({1000 * config.hop_seconds:.1f} ms)"
    assert cell("STFT window, hop") == hop
    assert cell("mel bands") == f"{config.n_mels}, {config.mel_f_min:g} to {config.mel_f_max:g} Hz"
    assert cell("mel matrix") == "{} x {}".format(*config.mel_matrix_shape)
    assert cell("spectrogram") == f"{config.n_frames} frames x {config.n_mels} mels"


@pytest.mark.parametrize("name", DATASETS)
def test_every_data_set_stands_in_the_table_with_its_licence(name):
    said = [table_cell("docs/datasets.md", f"`{name}`", number) for number in (3, 4)]
    is_so = [DATASETS[name].LICENSE, "yes" if DATASETS[name].REMOTES else "no"]
    assert said == is_so, f"docs/datasets.md: {name} has another LICENSE, or other REMOTES"


def test_no_other_data_set_stands_in_the_table():
    table = PAGES["docs/datasets.md"].split("| `--dataset` |")[1].split("\n\n")[0]
    assert {*re.findall(r"^\| `(\w+)` \|", table, re.MULTILINE)} == {*DATASETS}


def test_every_layer_stands_in_the_table():
    from keras_audio_transfer import layers

    table = PAGES["docs/layers.md"].split("| layer | takes, gives | what for |\n")[1].split("\n\n")[0]
    listed = sorted(re.findall(r"^\| `(\w+)` \|", table, re.MULTILINE))
    missing = {*layers.__all__} - {*listed}
    assert not missing, f"the table of docs/layers.md lacks {', '.join(missing)}; add a row"
    assert listed == [*layers.__all__], "docs/layers.md names a layer that __all__ of layers.py does not; take it out"


def test_every_layer_of_the_file_stands_in_the_reference():
    from keras_audio_transfer import layers

    listed = {*re.findall(r"^ +- (\w+)$", PAGES["docs/reference/layers.md"], re.MULTILINE)}
    missing = {name for name in layers.__all__ if getattr(layers, name).__module__ == layers.__name__} - listed
    assert not missing, f"docs/reference/layers.md lacks {', '.join(missing)}; add it to the members of layers"


def test_every_signature_stands_in_the_table():
    from keras_audio_transfer.export import signatures

    table = PAGES["docs/serving.md"].split("| signature | takes | gives |\n")[1].split("\n\n")[0]
    listed = {*re.findall(r"^\| `(\w+)` \|", table, re.MULTILINE)}
    missing = {*signatures._INPUTS} - listed
    assert not missing, f"the table of signatures in docs/serving.md lacks {', '.join(missing)}; add a row"
    assert listed == {*signatures._INPUTS}


def file_map():
    """The files and folders of the package in the order of the file map: 'audio.py', 'export/', 'export/tflite.py'."""
    block = PAGES["docs/architecture.md"].split("\nkeras_audio_transfer/\n")[1].split("\nscripts/")[0]
    found, folders = [], []
    for line in block.splitlines():
        indent, name = re.match(r"( +)(\w+(?:\.py|/))", line).groups()
        folders = folders[: len(indent) // 2 - 1]
        found.append("".join([*folders, name]))
        folders.append(name)
    return found


def test_the_file_map_names_every_file_and_no_other():
    listed = file_map()
    assert len(set(listed)) == len(listed)
    files = {path.relative_to(PACKAGE).as_posix() for path in PACKAGE.rglob("*.py")}
    folders = {f"{path.parent.relative_to(PACKAGE).as_posix()}/" for path in PACKAGE.rglob("*.py")} - {"./"}
    of_folders = ("/__init__.py", "datasets/", "backbones/")  # of the last two each module is an entry of a table
    wanted = {name for name in files if not any(part in name for part in of_folders)} | folders
    assert not wanted - {*listed}, f"the file map of docs/architecture.md lacks {', '.join(wanted - {*listed})}; add it"
    assert not {*listed} - wanted, f"docs/architecture.md lists {', '.join({*listed} - wanted)}, which is not there"
    for script in (ROOT / "scripts").glob("*.py"):
        assert f"commands/{script.name}" in listed


def imports(path):
    """The modules of the package that a file names in its imports, wherever they stand: relative paths of files."""
    text = path.read_text(encoding="utf-8")
    if path == PACKAGE / "__init__.py":
        text += "".join(f"\nimport keras_audio_transfer.{name}" for name in {*kat._LAZY.values()})
    names = {*re.findall(r"^ *import keras_audio_transfer\.([\w.]+)", text, re.MULTILINE)}
    pattern = r"^ *from keras_audio_transfer(?:\.([\w.]+))? import (\([^)]*\)|[^\n]*)"
    for module, members in re.findall(pattern, text, re.MULTILINE):
        names |= {module, *(f"{module}.{name}".strip(".") for name in re.findall(r"\w+", members))}
    found = {f"{name.replace('.', '/')}{suffix}" for name in names if name for suffix in (".py", "/__init__.py")}
    return {name for name in found if (PACKAGE / name).is_file()} - {path.relative_to(PACKAGE).as_posix()}


def test_files_import_only_from_files_above_them():
    listed = file_map()
    assert listed.index("config.py") < listed.index("commands/cli.py")
    place = {name: number for number, name in enumerate(listed)}

    def place_of(name):
        return place[name] if name in place else place_of(f"{name.rstrip('/').rpartition('/')[0]}/")

    for path in PACKAGE.rglob("*.py"):
        name = path.relative_to(PACKAGE).as_posix()
        for imported in imports(path):
            is_listed_folder = place_of(imported) == place_of(name) and name not in place and imported not in place
            assert is_listed_folder or place_of(imported) < place_of(name), f"{name} imports {imported} from below"


def test_every_verb_is_mentioned_and_no_other():
    text = "\n".join(text for page, text in PAGES.items() if page != "CONTRIBUTING.md")  # its recipes add one
    named = {*re.findall(r"keras-audio-transfer ([a-z][a-z0-9-]*)", text)}
    assert named <= {*VERBS}, f"no such verb: {', '.join(named - {*VERBS})}"
    for verb in VERBS:
        assert verb in named or f"`{verb}`" in text, f"no document mentions {verb}"


@pytest.mark.parametrize(
    "page",
    [page for page in PAGES if "keras-audio-transfer " in PAGES[page] and page != "CONTRIBUTING.md"],
)
def test_every_flag_in_an_example_exists(page):
    def flags(verbs):
        parsers = [import_module(f"keras_audio_transfer.commands.{v.replace('-', '_')}").arguments() for v in verbs]
        return {flag for parser in parsers for flag in parser._option_string_actions}

    for verb, arguments in re.findall(r"keras-audio-transfer ([a-z][a-z0-9-]*)((?:\\\n|[^\n`])*)", PAGES[page]):
        for flag in re.findall(r"(?<![\w-])--[a-z][a-z0-9-]*", arguments):
            assert flag in flags([verb]), f"{page}: {verb} has no {flag}"
    for block in blocks(page):
        verbs = {*re.findall(r"keras-audio-transfer ([a-z][a-z0-9-]*)", block.code)}
        if verbs:
            for flag in re.findall(r"(?<![\w-])--[a-z][a-z0-9-]*", block.code):
                assert flag in flags(verbs), f"{page}: {flag} is a flag of none of {', '.join(verbs)}"


# Pages and links


def test_the_readme_is_short_and_has_the_test_command():
    readme = PAGES["README.md"]
    assert len(readme.splitlines()) <= 200
    (command,) = re.findall(r"<!-- test command -->\n```bash\n(.*?)\n```\n<!-- end -->", readme, re.DOTALL)
    assert command.endswith(".venv/bin/python -m pytest")
    assert "\n" not in command


def anchors(text):
    """The anchors of a page's headings, as GitHub and mkdocs make them."""
    prose = re.sub(r"^```.*?^```", "", text, flags=re.MULTILINE | re.DOTALL)
    titles = re.findall(r"^#+ (.*)", prose, re.MULTILINE)
    return {re.sub(r"[ -]+", "-", re.sub(r"[^\w\s-]", "", title).strip().lower()) for title in titles}


@pytest.mark.parametrize("page", PAGES)
def test_links_and_pictures_are_there(page):
    prose = re.sub(r"^```.*?^```", "", PAGES[page], flags=re.MULTILINE | re.DOTALL)
    for target in re.findall(r"\]\(([^)\s]+)\)", prose):
        if re.match(r"https?://", target):
            continue
        path, _, anchor = target.partition("#")
        file = (ROOT / page).parent / path if path else ROOT / page
        assert file.is_file(), f"{page}: links to {target}, which is not there"
        if page.startswith("docs/"):
            assert (ROOT / "docs") in file.resolve().parents, f"{page}: {target} is not part of the site"
        if anchor:
            assert anchor in anchors(file.read_text(encoding="utf-8")), f"{page}: {target} is no heading there"


def test_every_picture_is_shown():
    shown = {(ROOT / page).parent / name for page in PAGES for name in re.findall(r"!\[.*?\]\((.*?)\)", PAGES[page])}
    assert {path.resolve() for path in shown} == {*(ROOT / "docs").rglob("*.png")}


def test_the_site_has_every_page():
    nav = (ROOT / "mkdocs.yml").read_text(encoding="utf-8").split("\nnav:\n")[1]
    pages = {page[5:] for page in PAGES if page.startswith("docs/")}
    pages -= {page for page in pages if page.startswith("study/")}  # the site has their index.html
    assert sorted(re.findall(r"\S+\.md", nav)) == sorted(pages)


@pytest.mark.parametrize("name", ["esc10", "gtzan_mini", "emodb"])
@pytest.mark.parametrize("kind", ["musicnn", "vgg"])
def test_two_networks_that_are_the_same_with_random_weights_score_as_the_page_says(name, kind):
    scores = pd.read_csv(ROOT / "docs/sources" / name / "scores.csv").set_index(["source", "choice"])
    of_folds = [column for column in scores if column.startswith("fold_")]
    one, other = (scores.loc[f"{source}_{kind} (random)", of_folds] for source in ("MSD", "MTT"))
    both = ((choice, one[fold][choice], other[fold][choice]) for fold in of_folds for choice in one.index)
    differing = [(choice, a, b) for choice, a, b in both if a != b]
    said = "the last layers of the musicnn ones differ in one fold of ESC-10, 0.750 against 0.725: "
    assert said in " ".join(PAGES["docs/sources.md"].split())
    assert differing == ([("last layer", 0.75, 0.725)] if (name, kind) == ("esc10", "musicnn") else [])


def test_the_reference_has_the_public_interface():
    identifiers = [name for page in PAGES for name in re.findall(r"^::: ([\w.]+)", PAGES[page], re.MULTILINE)]
    assert len(set(identifiers)) == len(identifiers)
    of_api = re.findall(r"^::: ([\w.]+)", PAGES["docs/reference/api.md"], re.MULTILINE)
    assert {*kat.__all__} - {name.rpartition(".")[2] for name in of_api} == {"__version__", "datasets"}
    for name in identifiers:
        module, _, member = name.rpartition(".")
        try:
            documented = import_module(name)
        except ModuleNotFoundError:
            documented = getattr(import_module(module), member)
        assert documented.__doc__, f"{name} has no docstring"


def test_the_changelogs_moved_modules_are_where_it_says():
    table = PAGES["CHANGELOG.md"].split("| was | is |\n")[1].split("\n\n")[0]
    rows = re.findall(r"^\| `([\w.]+)` \| `([\w.]+)`(?:, `([\w.]+)`)* \|$", table, re.MULTILINE)
    assert len(rows) > 20
    for was, *places in rows:
        assert not (PACKAGE / f"{was.replace('.', '/')}.py").exists() or was in ("export",), was
        for place in filter(None, places):
            assert (PACKAGE / f"{place.replace('.', '/')}.py").is_file(), place


def test_the_versions_are_the_same_everywhere():
    setup = (ROOT / "setup.cfg").read_text(encoding="utf-8")
    assert f"\nversion: {kat.__version__}\n" in (ROOT / "CITATION.cff").read_text(encoding="utf-8")
    lowest, above = re.search(r"python_requires = >=3\.(\d+), <3\.(\d+)", setup).groups()
    for page in ("README.md", "docs/index.md"):
        assert f"Python 3.{lowest} to 3.{int(above) - 1} " in PAGES[page]


# What they show


@pytest.fixture(scope="module")
def repository(tmp_path_factory):
    """A folder that is to the commands what a checkout with data beside it is, and where they may write."""
    root = tmp_path_factory.mktemp("repository")
    (root / "scripts").symlink_to(ROOT / "scripts")
    (root / "saved_models").mkdir()
    (root / "saved_models/convnet5.urbansound8k").symlink_to(ROOT / "saved_models/convnet5.urbansound8k")
    classes = ("noise", "sine", "clicks")
    # With splits of its own: nested cross-validation would take most of the time.
    for split, numbers in (("train", range(5)), ("test", range(5, 7))):
        files = [f"{name}/{number}.wav" for name in classes for number in numbers]
        write_sounds(root / "my_sounds" / split, files, first=100 * numbers[0])
    write_sounds(root / "recordings", [f"{name}.wav" for name in classes])
    write_sounds(root, ["sine.wav"], seconds=5)
    samples, rate = soundfile.read(root / "sine.wav")
    soundfile.write(root / "night.flac", samples, rate)
    write_esc50(root / "data/ESC-50")
    write_urbansound8k(root / "data/UrbanSound8K")
    return root


def write_sounds(folder, names, seconds=1.0, rate=16000, first=0):
    """Noise, a sine or clicks, as the file's or folder's name begins with; wav files of slightly different sounds.

    `first` is the number of the first sound: those of one kind with one number are copies.
    """
    time = np.arange(round(seconds * rate)) / rate
    for number, name in enumerate(names, first):
        rng = np.random.default_rng(number)
        sounds = {
            "noise": rng.normal(0, 0.1, len(time)),
            "sine": 0.5 * np.sin(2 * np.pi * rng.uniform(300, 900) * time),
            "clicks": (np.arange(len(time)) % rng.integers(2000, 4000) == 0).astype(float),
        }
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        soundfile.write(path, sounds[re.match("[a-z]+", name)[0]], rate)


CATEGORIES = {"noise": "rain", "sine": "rooster", "clicks": "clock_tick"}
CLASSES = {"noise": "air_conditioner", "sine": "siren", "clicks": "jackhammer"}


def write_esc50(root):
    """ESC-50 with a clip of three of its classes in each of its five folds."""
    rows = ["filename,fold,target,category,esc10,src_file,take"]
    for sound, category in CATEGORIES.items():
        names = [f"{sound}{fold}.wav" for fold in range(1, 6)]
        write_sounds(root / "audio", names, 0.5)
        rows += [f"{name},{fold},0,{category},True,{sound}{fold},A" for fold, name in enumerate(names, 1)]
    (root / "meta").mkdir()
    (root / "meta/esc50.csv").write_text("\n".join(rows) + "\n", encoding="utf-8")


def write_urbansound8k(root):
    """UrbanSound8K with a few recordings of three of its classes in three folds."""
    rows = ["slice_file_name,fsID,start,end,salience,fold,classID,class"]
    for sound, label in CLASSES.items():
        for fold in (1, 2, 10):
            names = [f"{sound}{fold}-{number}.wav" for number in range(3)]
            write_sounds(root / f"audio/fold{fold}", names, 0.5)
            rows += [f"{name},{name[:-4]},0,0.5,1,{fold},0,{label}" for name in names]
    (root / "metadata").mkdir()
    (root / "metadata/UrbanSound8K.csv").write_text("\n".join(rows) + "\n", encoding="utf-8")


@pytest.fixture(scope="module")
def run_command(repository):
    """Run a `keras-audio-transfer` in the repository, once however many pages have it; what it prints."""
    printed = {}

    def run(arguments):
        verb, *rest = arguments
        if (key := tuple(arguments)) not in printed:
            script = repository / "scripts" / f"{verb.replace('-', '_')}.py"
            # What a page trains for forty epochs has nothing to learn from a handful of sounds.
            fewer = ["--epochs", "1"] if verb == "train" and "--epochs" not in rest else []
            finished = forked.script(script, [*rest, *fewer], timeout=600)
            assert finished.returncode == 0, f"{shlex.join(arguments)}: {finished.stderr}"
            printed[key] = finished.stdout
        return printed[key]

    return run


def run_python(code, namespace):
    """What Python code prints, in this process."""
    with contextlib.redirect_stdout(io.StringIO()) as printed:
        exec(compile(code, "example", "exec"), namespace)
    return printed.getvalue()


def run_in_new_process(code, folder):
    finished = forked.importing(code, ROOT, folder)
    assert finished.returncode == 0, finished.stderr
    return finished.stdout


def is_example(block):
    return block.language == "python" or (block.language == "bash" and "keras-audio-transfer " in block.code)


EXAMPLES = {page: [block for block in blocks(page) if is_example(block)] for page in PAGES}
# Its recipes are followed by test_contributing.py.
EXAMPLES = {page: found for page, found in EXAMPLES.items() if found and page != "CONTRIBUTING.md"}


def test_what_is_not_run_says_why():
    for page, found in EXAMPLES.items():
        for block in found:
            assert (
                not block.mark
                or block.mark == NEW_PROCESS
                or block.mark.startswith(NOT_RUN)
                or (block.mark == "serve commands")
            ), f"{page}: {block.mark}"
        for name in re.findall(r"<!-- not run: .*?(tests/\w+\.py)", PAGES[page]):
            assert (ROOT / name).is_file(), f"{page}: {name} is not there"
    run = [block for found in EXAMPLES.values() for block in found if not block.mark.startswith(NOT_RUN)]
    assert {"train", "extract", "probe", "classify", "predict", "export"} <= {
        arguments[0] for block in run if block.language == "bash" for arguments in commands(block.code)
    }


PYTHON, BASH = ("python",), ("bash",)
CASES = [pytest.param(page, PYTHON + BASH, marks=pytest.mark.slow, id=page) for page in EXAMPLES if page != "README.md"]
CASES += [pytest.param("README.md", BASH, marks=pytest.mark.slow, id="README.md, commands")]
CASES += [pytest.param("README.md", PYTHON, id="README.md, Python")]


@pytest.mark.parametrize(("page", "languages"), CASES)
def test_examples_run_and_print_what_they_say(page, languages, repository, run_command, monkeypatch):
    """In the order of the page; Python in one namespace a page, as in a notebook."""
    monkeypatch.chdir(repository)
    namespace = {}
    for block in EXAMPLES[page]:
        if block.mark.startswith(NOT_RUN) or block.language not in languages:
            continue
        if block.language == "bash":
            for arguments in commands(block.code):
                run_command(arguments)
        else:
            is_new = block.mark == NEW_PROCESS
            printed = run_in_new_process(block.code, repository) if is_new else run_python(block.code, namespace)
            assert printed.splitlines() == re.findall(r"  # -> (.*)", block.code)


def test_every_page_with_python_says_what_it_prints():
    for page, found in EXAMPLES.items():
        python = [block.code for block in found if block.language == "python" and not block.mark.startswith(NOT_RUN)]
        assert not python or re.search(r"  # -> ", "".join(python)), page
    assert {"README.md", "docs/python.md", "docs/layers.md", "docs/serving.md"} <= {*EXAMPLES}


@pytest.mark.slow
def test_classify_your_own_sounds_is_right(run_command):
    block, *others = EXAMPLES["docs/classify.md"]
    (of_recordings,) = (other for other in others if "--hop-seconds 1\n" in other.code)
    classify, predict = commands(block.code)
    run_command(classify)
    printed, in_time = run_command(predict), run_command(commands(of_recordings.code)[0])
    for name in ("noise", "sine", "clicks"):
        row = next(line for line in printed.splitlines() if f"{name}.wav" in line)
        assert row.split(f"{name}.wav")[1].split()[0].strip(",:") == name
        (*_, label, _) = next(line for line in in_time.splitlines() if f"{name}.wav" in line).split()
        assert label == name


# The notebook


def notebook_cells():
    notebook = json.loads(NOTEBOOK.read_text(encoding="utf-8"))
    assert notebook["nbformat"] == 4
    return [cell for cell in notebook["cells"] if cell["cell_type"] == "code"]


def test_the_notebook_holds_no_outputs_and_uses_the_public_interface():
    cells = notebook_cells()
    assert len(cells) >= 5
    for cell in cells:
        assert not cell["outputs"]
        assert cell["execution_count"] is None
    text = "".join("".join(cell["source"]) for cell in cells)
    assert {*re.findall(r"keras_audio_transfer[.\w]*", text)} == {"keras_audio_transfer"}
    assert {*re.findall(r"\bkat\.(\w+)", text)} <= {*kat.__all__}


@pytest.mark.slow
def test_the_notebook_runs_from_top_to_bottom(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MPLBACKEND", "agg")
    namespace = {}
    for cell in notebook_cells():
        run_python("".join(cell["source"]), namespace)
    assert len(namespace["scores"]) == 6


def test_the_tables_of_sources_are_made_from_the_committed_ones():
    tables = summarise_sources.tables_of(sorted((ROOT / "docs" / "sources").iterdir()))
    page = ROOT / "docs" / "sources.md"
    assert PAGES["docs/sources.md"] == pages.with_tables(page, tables, {})
    assert all(f"<!-- table: {name} -->" in PAGES["docs/sources.md"] for name in tables)
