"""Install and test the package in every combination of versions, and write what came out into docs/versions.md.

    python .ci/matrix.py test                     # every cell, the default tier of the tests
    python .ci/matrix.py test --cell "3.11 io" --keep -- tests/test_layers.py
    python .ci/matrix.py resolve                  # what pip takes on other platforms

A cell is a fresh virtual environment and a fresh clone of HEAD. Its row is written when it is done, so that an
interrupted run goes on with the same command: cells whose row is of this commit and these tests are not run again.
Exits with 1 where a cell failed or has no interpreter. Standard library only.
"""

import argparse
import configparser
import datetime
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
import xml.etree.ElementTree as ElementTree
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
DOCUMENT = ROOT / "docs" / "versions.md"
PYTHONS = ("3.10", "3.11", "3.12", "3.13")
DEFAULT_TIER = "default tier"


@dataclass(frozen=True)
class Cell:
    """One combination: an interpreter, the extras, and what differs from pip's own choice.

    Attributes:
        python: minor version of the interpreter.
        extras: of this package.
        lowest: install the lowest version that each of our ranges allows.
        beyond: packages to install afterwards, whatever the ranges say.
    """

    python: str
    extras: str = "test"
    lowest: bool = False
    beyond: tuple[str, ...] = ()


CELLS = {
    **{python: Cell(python) for python in PYTHONS},
    "3.11 io": Cell("3.11", extras="test,io"),
    "3.10 lowest": Cell("3.10", lowest=True),
    "3.13 beyond": Cell("3.13", beyond=("tensorflow==2.21.*", "keras==3.15.*")),
}

# Name in the table -> tags of the wheels that may be installed there, and the Pythons that TensorFlow has wheels for.
PLATFORMS = {
    "Windows x86-64": (("win_amd64",), PYTHONS),
    "macOS 12, Apple silicon": (("macosx_12_0_arm64",), PYTHONS),
    "macOS 12, Intel": (("macosx_12_0_x86_64",), ("3.10", "3.11", "3.12")),
    "Linux aarch64": (("manylinux2014_aarch64", "manylinux_2_27_aarch64", "manylinux_2_28_aarch64"), PYTHONS),
}


def run(*command: str | Path, cwd: Path = ROOT, log: Path | None = None) -> subprocess.CompletedProcess:
    """Run a command; what it says goes to the end of a log, if one is named, else is returned."""
    if log is None:
        return subprocess.run([*map(str, command)], cwd=cwd, capture_output=True, text=True, check=False)
    with log.open("a", encoding="utf-8") as stream:
        print("+", *command, file=stream, flush=True)
        environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
        return subprocess.run(
            [*map(str, command)], cwd=cwd, env=environment, stdout=stream, stderr=subprocess.STDOUT, check=False
        )


def interpreter(python: str) -> Path | None:
    """Where Python of that minor version is: on the PATH, or among pyenv's."""
    pyenv = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv")) / "versions"
    found = [path / "bin" / "python" for path in sorted(pyenv.glob(f"{python}.*"))]
    on_path = shutil.which(f"python{python}")
    # On the PATH there may be a shim of pyenv's that only says that no such version is chosen.
    for path in [*([Path(on_path)] if on_path else []), *reversed(found)]:
        if run(path, "-c", "import sys; print(*sys.version_info[:2], sep='.')").stdout.strip() == python:
            return path
    return None


def lowest_versions() -> str:
    """The lower end of each range in setup.cfg, as pip's constraints."""
    config = configparser.ConfigParser()
    config.read(ROOT / "setup.cfg", encoding="utf-8")
    lines = config["options"]["install_requires"].strip().splitlines()
    pairs = [re.match(r"([\w-]+) *>=([\d.]+)", line) for line in lines]
    return "".join(f"{pair[1]}=={pair[2]}\n" for pair in pairs if pair)


def rows_between_marks(name: str) -> dict[str, list[str]]:
    """The rows of a table in the document: their first columns -> all columns."""
    block = DOCUMENT.read_text(encoding="utf-8").split(f"<!-- {name} -->\n")[1].split("<!-- end -->")[0]
    rows = [[column.strip() for column in line.strip("| \n").split("|")] for line in block.splitlines()]
    return {row[0]: row for row in rows[2:] if len(row) > 1}


def write_table(name: str, header: list[str], rows: list[list[str]]) -> None:
    """Put a table between the document's marks of that name."""
    lines = [header, ["---"] * len(header), *rows]
    table = "".join(f"| {' | '.join(line)} |\n" for line in lines)
    before, rest = DOCUMENT.read_text(encoding="utf-8").split(f"<!-- {name} -->\n")
    after = rest.split("<!-- end -->", 1)[1]
    DOCUMENT.write_text(f"{before}<!-- {name} -->\n{table}<!-- end -->{after}", encoding="utf-8")


def installed(python: Path) -> dict[str, str]:
    """Package -> version in an environment."""
    listed = json.loads(run(python, "-m", "pip", "list", "--format=json").stdout)
    return {package["name"].lower().replace("_", "-"): package["version"] for package in listed}


def counts(report: Path) -> dict[str, int]:
    """Passed, failed and skipped tests, from pytest's JUnit file."""
    suites = ElementTree.parse(report).getroot().findall("testsuite")
    total = {name: sum(int(suite.get(name)) for suite in suites) for name in ("tests", "failures", "errors", "skipped")}
    failed = total["failures"] + total["errors"]
    return {"passed": total["tests"] - failed - total["skipped"], "failed": failed, "skipped": total["skipped"]}


def newest_pip(python: str | Path, venv: Path, log: Path | None = None) -> Path:
    """Make an environment; its Python. Older versions of pip take minutes to find what the newest finds at once."""
    inside = venv / "bin" / "python"
    run(python, "-m", "venv", venv, log=log)
    run(inside, "-m", "pip", "install", "--quiet", "--upgrade", "pip", log=log)
    return inside


def install(cell: Cell, python: Path, folder: Path, log: Path) -> Path | None:
    """Make the cell's environment, and a clone of HEAD; the environment's Python, None where pip refuses."""
    run("git", "clone", "--quiet", ROOT, folder / "checkout", log=log)
    inside = newest_pip(python, folder / "venv", log)
    constraints = folder / "constraints.txt"
    constraints.write_text(lowest_versions() if cell.lowest else "")
    wanted = ["-c", constraints, "-e", f".[{cell.extras}]"]
    if run(inside, "-m", "pip", "install", "--quiet", *wanted, cwd=folder / "checkout", log=log).returncode:
        return None
    if cell.beyond and run(inside, "-m", "pip", "install", "--quiet", *cell.beyond, log=log).returncode:
        return None
    return inside


def test_cell(name: str, tests: list[str], work: Path, keep: bool) -> list[str] | None:
    """Run the tests in one cell.

    Returns:
        Its row after the name: versions and counts; None where it could not be installed or reported nothing.
    """
    cell = CELLS[name]
    python = interpreter(cell.python)
    if python is None:
        print(f"{name}: no Python {cell.python} on this machine", file=sys.stderr)
        return None
    folder = work / name.replace(" ", "-")
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    log, report = work / f"{folder.name}.log", folder / "report.xml"
    log.unlink(missing_ok=True)
    print(f"{name}: {python}, log in {log}", file=sys.stderr)
    inside = install(cell, python, folder, log)
    if inside is not None:
        run(inside, "-m", "pytest", f"--junitxml={report}", *tests, cwd=folder / "checkout", log=log)
    row = None
    if report.is_file():
        versions, result = installed(inside), counts(report)
        full = run(inside, "-c", "import platform; print(platform.python_version())").stdout.strip()
        found = [versions[package] for package in ("tensorflow", "keras", "numpy")]
        row = [full, *found, *(str(result[kind]) for kind in ("passed", "failed", "skipped"))]
    if not keep:
        shutil.rmtree(folder)
    return row


def test(options: argparse.Namespace) -> int:
    """Run the cells asked for, and write a row each."""
    commit = run("git", "rev-parse", "--short", "HEAD").stdout.strip()
    tests = f"`{shlex.join(options.tests)}`" if options.tests else DEFAULT_TIER
    header = [
        "cell",
        "Python",
        "TensorFlow",
        "Keras",
        "numpy",
        "passed",
        "failed",
        "skipped",
        "tests",
        "commit",
        "date",
    ]
    failed = []
    for name in options.cell or CELLS:
        rows = rows_between_marks("matrix")
        if name in rows and not options.redo and rows[name][-3:-1] == [tests, commit]:
            print(f"{name}: done before", file=sys.stderr)
        else:
            row = test_cell(name, options.tests, options.work_dir, options.keep)
            if row is None:
                failed.append(name)
                continue
            rows = rows_between_marks("matrix")  # once more: another run may have written meanwhile
            rows[name] = [name, *row, tests, commit, datetime.date.today().isoformat()]
            write_table("matrix", header, [rows[cell] for cell in CELLS if cell in rows])
            print(f"{name}: {' '.join(rows[name])}", file=sys.stderr)
        if rows[name][header.index("failed")] != "0":
            failed.append(name)
    if failed:
        print(f"failed: {', '.join(failed)}", file=sys.stderr)
    return int(bool(failed))


def resolve(options: argparse.Namespace) -> int:
    """Ask pip what it would install on each platform, from wheels alone, and write a row each.

    pip judges the platform by the wheels' tags, and markers such as `sys_platform` by the machine it runs on.
    """
    rows, failed = [], []
    with tempfile.TemporaryDirectory() as folder:
        checkout, report = Path(folder) / "checkout", Path(folder) / "report.json"
        run("git", "clone", "--quiet", ROOT, checkout)
        pip = [newest_pip(sys.executable, Path(folder) / "venv"), "-m", "pip"]
        built = run(*pip, "wheel", "--quiet", "--no-deps", "--wheel-dir", folder, checkout)
        if built.returncode:
            sys.exit(f"no wheel: {built.stderr}")
        (wheel,) = Path(folder).glob("*.whl")
        for platform, (tags, pythons) in PLATFORMS.items():
            for python in pythons:
                wanted = ["--only-binary=:all:", "--python-version", python]
                wanted += [argument for tag in tags for argument in ("--platform", tag)]
                dry = ["--dry-run", "--ignore-installed", "--target", Path(folder) / "x", "--report", report]
                answer = run(*pip, "install", "--quiet", *dry, *wanted, wheel)
                print(f"{platform}, Python {python}: {'found' if not answer.returncode else answer.stderr}")
                if answer.returncode:
                    failed.append(f"{platform}, Python {python}")
                    rows.append([platform, python, *["none"] * 4])
                    continue
                packages = [item["metadata"] for item in json.loads(report.read_text(encoding="utf-8"))["install"]]
                versions = {package["name"].lower(): package["version"] for package in packages}
                chosen = [versions[name] for name in ("tensorflow", "keras", "numpy")]
                rows.append([platform, python, *chosen, str(len(packages))])
    write_table("platforms", ["platform", "Python", "TensorFlow", "Keras", "numpy", "packages"], rows)
    if failed:
        print(f"nothing to install: {'; '.join(failed)}", file=sys.stderr)
    return int(bool(failed))


def main() -> int:
    """Run the command line; the exit code."""
    parser = argparse.ArgumentParser(
        description=__doc__.partition("\n")[0],
        epilog=__doc__.partition("\n")[2],
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = parser.add_subparsers(required=True, metavar="test|resolve")
    tested = commands.add_parser("test", help="run tests in every cell")
    tested.add_argument("--cell", action="append", choices=CELLS, help="only this one; may be given several times")
    tested.add_argument("--redo", action="store_true", help="run cells again that were done at this commit")
    tested.add_argument("--keep", action="store_true", help="keep the environments, about 2 GB each")
    tested.add_argument("--work-dir", type=Path, default=ROOT / "build" / "matrix", help="for environments and logs")
    tested.add_argument("tests", nargs="*", help="arguments for pytest, after --; its default tier if none are given")
    tested.set_defaults(function=test)
    commands.add_parser("resolve", help="ask pip what it takes on other platforms").set_defaults(function=resolve)
    options = parser.parse_args()
    return options.function(options)


if __name__ == "__main__":
    sys.exit(main())
