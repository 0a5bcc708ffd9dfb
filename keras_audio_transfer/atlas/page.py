"""One HTML file that shows what the layers of a network hear; it fetches nothing. Without TensorFlow."""

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from keras_audio_transfer.atlas import pictures
from keras_audio_transfer.atlas.units import Units, units_of
from keras_audio_transfer.audio.loading import or_reason, ordered_map
from keras_audio_transfer.datasets.clip import Clip
from keras_audio_transfer.errors import InputError
from keras_audio_transfer.feature_tables.table import FeatureTable
from keras_audio_transfer.files import atomic_write
from keras_audio_transfer.model_folder import Card
from keras_audio_transfer.report.page import citations
from keras_audio_transfer.report.players import SECONDS, Player, data_uri, player_of
from keras_audio_transfer.report.self_contained import SORTING, STYLE, self_contained
from keras_audio_transfer.study import measures

MEGABYTES = 8.0  # about the size of a page, unless a number of players is asked for
CLIPS_A_UNIT, MOST_UNITS = 5, 12
_DIGITS, _MOST_DIGITS = 2, 4  # after the point, of a silhouette: as few as tell which layer is the best
_HERE = Path(__file__).resolve().parent


@dataclass(frozen=True)
class Atlas:
    """What the page shows.

    Attributes:
        title: the model's name.
        card: of the model's folder.
        data: what the clips are called.
        table: the features of every layer; a label a clip.
        clips: to hear and see them.
        licence, citation: of the clips, which are in the page.
        failures: (clip, reason) of those that could not be read.
        seed: of the maps.
    """

    title: str
    card: Card
    data: str
    table: FeatureTable
    clips: Sequence[Clip]
    licence: str
    citation: str
    failures: Sequence[tuple[str, str]] = ()
    seed: int = 0


class Layer(NamedTuple):
    """A layer on the page.

    Attributes:
        name: of the layer.
        units: all that is said of them.
        shown: (class, unit) of those with players from the start, see `Units.best`.
        silhouette, fisher_ratio: how far its features keep the classes apart, see `measures`; NaN where they do not
            differ.
        picture: data URI of its map.
    """

    name: str
    units: Units
    shown: Sequence[tuple[int, int]]
    silhouette: float
    fisher_ratio: float
    picture: str


def write(path: Path, atlas: Atlas, n_players: int | None = None, workers: int = 2) -> None:
    """Write the page; the same input gives the same bytes.

    Args:
        path: of the HTML file.
        atlas: what it shows.
        n_players: clips to hear and see, in the order of `_named`; None for as many as the page holds in about
            `MEGABYTES`.
        workers: clips read at the same time.

    Raises:
        InputError: see `labels_of`.
    """
    labels, names = labels_of(atlas.table)
    layers = [_layer(name, values, labels, names, atlas.seed) for name, values in atlas.table.layers.items()]
    content = _content(atlas, layers, labels, names)
    named = _named(layers, content["open_layer"])
    why = "left out, to keep the page small" if n_players is None else f"--clips {n_players} asked for"
    data_of = partial(_data, atlas, layers, labels, names, named, why)
    room = MEGABYTES * 1e6 - len(_page(content | {"data": data_of({})}))
    content |= {"data": data_of(_players(atlas, named, n_players, room, workers))}
    with atomic_write(path) as partial_file:
        partial_file.write_bytes(_page(content))


def labels_of(table: FeatureTable) -> tuple[np.ndarray, list[str]]:
    """The label of each clip, from 0 on, and the names of those that clips have.

    Raises:
        InputError: the clips have not one label each, or all the same one; or they are less than four.
    """
    if table.is_regression or table.labels.ndim != 1 or (table.labels < 0).any():
        raise InputError(
            "labels: not every clip has exactly one; expected one label each, no number; choose other clips"
        )
    present, labels = np.unique(table.labels, return_inverse=True)
    if len(present) < 2 or len(table) < 4:
        what = f"{len(table)} clips that can be read have {len(present)} labels"
        raise InputError(f"labels: the {what}; expected four clips or more, of two labels or more; add some")
    return labels, [table.label_names[label] for label in present]


def _layer(name, values, labels, names, seed):
    units = units_of(values, labels, len(names), CLIPS_A_UNIT)
    picture = data_uri("image/png", pictures.class_map(values, labels, names, seed))
    apart = measures.centroid_silhouette(values, labels), measures.fisher_ratio(values, labels)
    return Layer(name, units, units.best()[:MOST_UNITS], *apart, picture)


def _named(layers, open_layer):
    """The rows of the clips that units name, the most wanted first.

    Those of the layer that is open from the start come first: the clip that excites each of its shown units most, then
    the next one of each, so that few players are spread over all that is seen first. Then come those that most of the
    units shown in any layer name, then those that any unit does.
    """
    shown, every = Counter(), Counter()
    for layer in layers:
        shown.update(layer.units.loudest[:, [unit for _, unit in layer.shown]].ravel().tolist())
        every.update(layer.units.loudest[:, ~layer.units.is_dead].ravel().tolist())
    first = [] if open_layer is None else open_layer.units.loudest[:, [unit for _, unit in open_layer.shown]].ravel()
    first = [*dict.fromkeys(map(int, first))]
    return first + sorted(every.keys() - {*first}, key=lambda row: (-shown[row], -every[row], row))


def _best(layers):
    """The layers that keep the classes apart best, and how many digits say so.

    More than one layer only where `_MOST_DIGITS` do not tell them apart.
    """
    best, digits = [], _DIGITS
    for digits in range(_DIGITS, _MOST_DIGITS + 1):
        printed = [_number(layer.silhouette, digits) for layer in layers]
        most = _number(max((layer.silhouette for layer in layers), default=np.nan), digits)
        best = [layer for layer, silhouette in zip(layers, printed, strict=True) if silhouette == most]
        if len(best) < 2:
            break
    return best, digits


def _players(atlas, named, n_players, room, workers):
    """Row -> its player, or why there is none."""
    clip_of, found = {clip.clip_id: clip for clip in atlas.clips}, {}
    clips = (clip_of[str(atlas.table.clip_ids[row])] for row in named[:n_players])
    made = ordered_map(partial(or_reason, player_of), clips, workers)
    for row, player in zip(named, made, strict=False):
        room -= sum(map(len, player[:2])) if isinstance(player, Player) else len(player)
        if n_players is None and room < 0:
            break
        found[row] = player
    return found


def _content(atlas, layers, labels, names) -> dict[str, Any]:
    """What the template is given, but for what its script is."""
    live = [layer for layer in layers if layer.shown]
    features = [*atlas.table.layers.values()]
    best_layers, digits = _best(live)
    similarity = np.array([[measures.linear_cka(one, other, debiased=True) for other in features] for one in features])
    return {
        "atlas": atlas,
        "layers": layers,
        "names": names,
        "best_layers": best_layers,
        "open_layer": max(best_layers, key=lambda layer: layer.silhouette, default=None),
        "digits": digits,
        "best_unit": max(live, key=lambda layer: layer.units.auc[layer.shown[0]], default=None),
        "n_clips": len(labels),
        "cka": data_uri("image/png", pictures.likeness(similarity, [layer.name for layer in layers])),
        "player_seconds": SECONDS,
        "citations": [*citations(atlas.card), atlas.citation],
    }


def _data(atlas, layers, labels, names, named, why, players: Mapping[int, Player | str]) -> dict[str, Any]:
    """What the script is given: each clip once, with its player; of each unit the numbers of its clips.

    `why`: what is said of a clip that `players` does not have.
    """
    number = {row: place for place, row in enumerate(named)}

    def clip(row):
        player = players.get(row, why)
        about = {"id": str(atlas.table.clip_ids[row]), "label": names[labels[row]]}
        return about | ({"why": player} if isinstance(player, str) else player._asdict())

    def unit(of_layer, index):
        best = int(of_layer.auc[:, index].argmax())
        rows, deviations = of_layer.loudest[:, index].tolist(), of_layer.deviations[:, index].round(1).tolist()
        return [index, names[best], round(of_layer.auc[best, index], 3), [number[row] for row in rows], deviations]

    live = [(layer.units, np.flatnonzero(~layer.units.is_dead).tolist()) for layer in layers]
    return {"clips": [clip(row) for row in named], "layers": [[unit(u, i) for i in indices] for u, indices in live]}


def _page(content):
    styles, scripts = [STYLE, _HERE / "atlas.css"], [SORTING, _HERE / "atlas.js"]
    filters = {"number": _number, "name_parts": _name_parts}
    return self_contained(_HERE / "atlas.html.jinja", content, filters, styles, scripts)


def _number(value, digits=_DIGITS):
    """– for what is not defined."""
    return "–" if np.isnan(value) else f"{value:.{digits}f}"


def _name_parts(name):
    """What a long name may be broken into: after "." and "_", where browsers do not break by themselves."""
    return re.split(r"(?<=[._])(?![._]|$)", name)
