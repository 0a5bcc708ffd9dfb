"""Pages of several transfers: what may be averaged, and a picture for each."""

import json
import shutil

import pytest
from conftest import ROOT, run_main

from keras_audio_transfer import finetuning_results as results
from keras_audio_transfer.errors import InputError
from keras_audio_transfer.training import plots as training_plots

SETTINGS = {
    "source": "0" * 64,
    "card_sha256": "1" * 64,
    "dataset": "folder",
    "clips": [8, 2, 2],
    "division": "no official folds or splits: 20% of the recordings scored (seed 0)",
    "clips_sha256": "2" * 64,
    "seed": 0,
    "epochs": 12,
    "backbone_learning_rate_factor": 1.0,
}


@pytest.fixture(autouse=True)
def drawn(monkeypatch):
    """The names of the pictures, which take long to draw."""
    names = []
    monkeypatch.setattr(training_plots, "transfer_curves", lambda rows, path, title: names.append(path.name))
    return names


def transfer(folder, seed=0, strategy="head", name="s", fractions=(0.5, 1.0), settings=SETTINGS, **changed):
    """The table of a transfer of one seed, with its settings beside it."""
    folder.mkdir()
    rows = [f"{name},t,net,False,{strategy},{f},{seed},{10 * f:.0f},0.5,0.5,0.5,0.5,4,60.0\n" for f in fractions]
    (folder / "results.csv").write_text("".join([",".join(results.COLUMNS) + "\n", *rows]))
    if settings is not None:
        (folder / "settings.json").write_text(json.dumps({**settings, "seed": seed, **changed}))
    return folder / "results.csv"


def summarise(*tables):
    page = tables[0].parent.parent / "page.md"
    assert run_main("summarise_transfer", *tables, "--page", page) == 0
    return page.read_text()


@pytest.mark.parametrize(
    ("page", "folders"), [("README.md", ["densenet*"]), ("stronger_source.md", ["speech_embedding.*", "yamnet.*"])]
)
def test_the_committed_pages_are_what_the_committed_tables_give(page, folders, tmp_path):
    folder = ROOT / "docs" / "mcmahan2018"
    shutil.copy(folder / page, tmp_path / page)
    tables = [table for name in folders for table in sorted(folder.glob(f"{name}/results.csv"))]
    assert run_main("summarise_transfer", *tables, "--page", tmp_path / page) == 0
    assert (tmp_path / page).read_text(encoding="utf-8") == (folder / page).read_text(encoding="utf-8")


def test_seeds_of_several_transfers_are_averaged(tmp_path):
    divided = SETTINGS["division"].replace("seed 0", "seed 1")  # another seed draws other clips
    older = {name: value for name, value in SETTINGS.items() if name not in ("card_sha256", "clips_sha256")}
    older["share_below_head"] = older.pop("backbone_learning_rate_factor")
    text = summarise(
        transfer(tmp_path / "a"),
        transfer(tmp_path / "b", seed=1, division=divided, clips_sha256="3" * 64),
        transfer(tmp_path / "older", seed=2, settings=older),
        transfer(tmp_path / "without", seed=3, settings=None),
        transfer(tmp_path / "other cell", strategy="scratch", epochs=20),
    )
    assert "| s | t | net | plain | head | 0.500 ± 0.000 (4) | 0.500 ± 0.000 (4) |" in text


@pytest.mark.parametrize(
    ("changed", "found"),
    [
        ({"epochs": 20}, "epochs was 12, is 20"),
        ({"source": "x"}, 'source was "000'),
        ({"card_sha256": "x"}, 'card_sha256 was "'),
        ({"dataset": "fsdd"}, 'dataset was "folder", is "fsdd"'),
        ({"clips": [8, 3, 1]}, "clips was [8, 2, 2], is [8, 3, 1]"),
        ({"division": "fold 1 scored"}, 'division was "'),
        ({"seed": 0, "clips_sha256": "x"}, 'clips_sha256 was "'),
        ({"learning_rate": 0.1}, "learning_rate was null, is 0.1"),
    ],
)
def test_seeds_of_other_settings_are_no_seeds_of_the_cell(changed, found, tmp_path):
    first, second = transfer(tmp_path / "a"), transfer(tmp_path / "b", **{"seed": 1, **changed})
    if changed.get("seed") == 0:  # the same division, for other trials
        second.write_text(second.read_text().replace(",0,", ",1,"))
    with pytest.raises(InputError) as error:
        summarise(first, second)
    what = f"{second}: holds seeds of a cell that {first} holds seeds of, with another setting"
    assert str(error.value).startswith(f"{what} ({found}")
    assert str(error.value).endswith("expected the same settings; summarise the two on pages of their own")
    assert not (tmp_path / "page.md").exists()


def test_settings_that_are_none(tmp_path):
    table = transfer(tmp_path / "a")
    (tmp_path / "a" / "settings.json").write_text("[]")
    with pytest.raises(InputError, match=r"settings\.json: not the settings of a run; remove it together with the"):
        summarise(table)


def test_a_table_is_read_once(tmp_path, monkeypatch):
    read, asked = results.read, []
    monkeypatch.setattr(results, "read", lambda paths: asked.extend(paths) or read(paths))
    tables = [transfer(tmp_path / str(seed), seed=seed) for seed in (0, 1)]
    summarise(*tables)
    assert asked == tables


def test_every_picture_has_a_name_of_its_own(tmp_path, drawn):
    summarise(*(transfer(tmp_path / str(i), name=name) for i, name in enumerate(["a-b", "a+b", "A_b", "plain"])))
    assert len({name.casefold() for name in drawn}) == 4
    assert "plain.t.net.png" in drawn
    assert all(name.casefold().startswith(("a_b.t.net.", "plain.")) for name in drawn)


@pytest.mark.parametrize("source", ["x" * 300, "\u6708" * 200])
def test_a_long_name_costs_no_picture(source, tmp_path, drawn):
    assert source in summarise(transfer(tmp_path / "a", name=source))
    (name,) = drawn
    (tmp_path / name).touch()


def test_a_picture_that_fails_costs_no_page(tmp_path, monkeypatch, capsys):
    def fail(*arguments):
        raise ValueError("too large")

    monkeypatch.setattr(training_plots, "transfer_curves", fail)
    assert "0.500" in summarise(transfer(tmp_path / "a"))
    assert capsys.readouterr().err == "no picture (ValueError: too large); please report it\n"
