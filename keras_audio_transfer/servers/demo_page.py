"""The page that `demo` shows: drop or record a sound, see what the model says. Gradio is imported by `build`."""

from base64 import b64encode
from collections.abc import Mapping
from functools import partial
from html import escape
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING

from keras_audio_transfer.audio.loading import or_reason
from keras_audio_transfer.datasets.clip import Clip
from keras_audio_transfer.model import Model
from keras_audio_transfer.report.players import player_of
from keras_audio_transfer.servers.demo_answer import Answer, answer

if TYPE_CHECKING:
    import gradio

KEPT_SECONDS = 300  # of an uploaded file: it is played and can be cut on the page meanwhile
MOST_SEGMENTS = 50  # that are listed
_STYLE = """<style>
h1 { overflow-wrap: anywhere; }
.heard { width: 100%; }
.heard, .heard tr, .heard td { border: none !important; padding: 2px 6px !important; }
.heard td { overflow-wrap: anywhere; }
.heard td:has(div) { width: 45%; }
.heard div { height: 0.8em; background: var(--color-accent); }
.example { display: block; width: 100%; max-width: 24rem; }
</style>"""
GONE = "It has been deleted in the meantime: drop it or record it again."
NOTHING = "Nothing was recorded or dropped yet. To record, allow this page to use the microphone."


def build(model: Model, top: int, max_file_mib: int, limits: Mapping[str, float], **hearing) -> "gradio.Blocks":
    """The page of a model.

    Args:
        model: with labels.
        top: labels that are shown, the best ones.
        max_file_mib: what the page says of the largest file; `launch` is what refuses a larger one.
        limits: known_at_least and probability_at_least, see `demo_answer.answer`; of a recording below one it is said
            that it is probably none of the labels.
        **hearing: `max_seconds`, `hop_seconds` and `examples` of `demo_answer.answer`; and `sounds` of `page_of`.
    """
    import gradio

    hear = partial(page_of, model=model, top=top, limits=limits, **hearing)
    up_to = f"Up to {hearing['max_seconds']:g} seconds and {max_file_mib} MiB"
    with gradio.Blocks(title=model.path.name, analytics_enabled=False, delete_cache=(30, KEPT_SECONDS)) as page:
        gradio.HTML(_heading(model))
        with gradio.Row():
            with gradio.Column(scale=2):
                sound = gradio.Audio(type="filepath", sources=["upload", "microphone"], label=up_to, buttons=[])
                button = gradio.Button("What is it?", variant="primary")
            with gradio.Column(scale=3):
                shown = gradio.HTML(_paragraph(NOTHING))
        gradio.HTML(_footer(model))
        gradio.on(
            [button.click, sound.upload, sound.stop_recording],
            hear,
            inputs=sound,
            outputs=shown,
            api_name="hear",
            concurrency_limit=1,
        )
    return page


def page_of(
    file: str | None,
    model: Model,
    top: int,
    limits: Mapping[str, float],
    sounds: Mapping[str, Clip] = MappingProxyType({}),
    **hearing,
) -> str:
    """What the page shows of a file, as HTML: the answer, or one sentence for what cannot be heard.

    `sounds`: clip id -> clip, of examples that can be played.
    """
    if file is None:
        return _paragraph(NOTHING)
    path = Path(file)
    if not path.exists():
        return _paragraph(GONE)
    heard = or_reason(lambda clip: answer(clip.path, model, **limits, **hearing), Clip(path.name, path))
    if isinstance(heard, str):  # names the file where Gradio keeps it
        return _paragraph(heard.replace(file, path.name))
    return as_html(heard, model, top, **limits) + _of_nearest(heard.nearest, sounds)


def as_html(heard: Answer, model: Model, top: int, known_at_least: float, probability_at_least: float = 0.0) -> str:
    """Labels with bars, what scores are, notes, the picture, and the segments."""
    from keras_audio_transfer.servers.demo_picture import picture

    parts = []
    if heard.known is not None and heard.known < known_at_least:
        parts.append(_paragraph("This is unlike everything the model was trained on.", bold=True))
    elif heard.known is not None and heard.labels["score"].max() < probability_at_least:
        rule = f"no label has a probability of {probability_at_least:.3f}, the model's limit"
        parts.append(_paragraph(f"This is probably none of the labels: {rule}.", bold=True))
    if heard.notes:
        parts.append(_paragraph(f"Notes: {'; '.join(heard.notes)}."))
    parts.append(_table(_label_rows(heard.labels.head(top), heard.are_probabilities)))
    over = f"; means over {heard.n_windows} windows" if heard.n_windows else ""
    parts.append(_paragraph(f"The scores are {heard.scores_are}{over}."))
    png = b64encode(picture(heard.waveform, model.card.audio, heard.segments)).decode()
    what = "mel spectrogram of the recording" + (", and below it the time of each label" if heard.segments else "")
    parts.append(f'<img src="data:image/png;base64,{png}" alt="{what}" style="width:100%">')
    if heard.n_windows:
        parts += _of_segments(heard)
    return "".join(parts)


def _label_rows(labels, are_probabilities):
    """A row a label: name, bar, number. Bars of what is no probability reach from the lowest score to the highest."""
    low, high = (0.0, 1.0) if are_probabilities else (min(0.0, labels["score"].min()), labels["score"].max())
    for label, score in zip(labels["label"], labels["score"], strict=True):
        share = (score - low) / (high - low) if high > low else 0.0
        yield escape(label), f'<div style="width:{share:.1%}"></div>', f"{score:.3f}"


def _of_segments(heard):
    """The list of segments, or that there are none."""
    if not heard.segments:
        return [_paragraph("No label is heard clearly enough for a segment.")]
    rows = [("start, s", "end, s", "label", "mean score")]
    rows += [
        (f"{start:.1f}", f"{end:.1f}", escape(label), f"{score:.3f}")
        for start, end, label, score in heard.segments[:MOST_SEGMENTS]
    ]
    more = len(heard.segments) - MOST_SEGMENTS
    return [_table(rows), *([_paragraph(f"and {more} more segments")] if more > 0 else [])]


def _of_nearest(nearest, sounds):
    """The clips most like a recording, to hear where they are there."""
    if not nearest:
        return ""
    lines = [
        f"<p>{escape(', '.join(labels))}: {escape(clip)}{_player(sounds.get(clip))}</p>" for clip, labels in nearest
    ]
    return _paragraph("Of the clips that it was trained on, most like this are:") + "".join(lines)


def _player(clip):
    if clip is None:
        return ""
    player = or_reason(player_of, clip)
    if isinstance(player, str):
        return escape(f" (no player: {player})")
    name = escape(clip.clip_id)
    return f'<audio class="example" controls preload="none" src="{player.sound}" aria-label="{name}"></audio>'


def _heading(model):
    labels = ", ".join(model.labels[:12]) + (", …" if len(model.labels) > 12 else "")
    about = f"Drop a recording, or record one: which of {len(model.labels)} labels is it? ({labels})"
    return f"{_STYLE}<h1>{escape(model.path.name)}</h1>{_paragraph(about)}"


def _footer(model):
    licences = "; ".join(model.card.licences()) or "not said in its card"
    kept = f"What you drop or record is deleted after about {KEPT_SECONDS // 60} minutes."
    return _paragraph(f"{kept} Licences of what the model has learnt from: {licences}.")


def _paragraph(text, bold=False):
    return f"<p>{f'<strong>{escape(text)}</strong>' if bold else escape(text)}</p>"


def _table(rows):
    """Rows of cells, which are HTML."""
    lines = "".join(f"<tr>{''.join(f'<td>{cell}</td>' for cell in row)}</tr>" for row in rows)
    return f'<table class="heard">{lines}</table>'
