"""A clip to hear and to see inside a page: MP3 and a picture of its mel spectrogram. Without TensorFlow."""

from base64 import b64encode
from io import BytesIO
from typing import NamedTuple

import soundfile

from keras_audio_transfer.audio.loading import load_waveform
from keras_audio_transfer.datasets.clip import Clip
from keras_audio_transfer.log_mel import log_mel
from keras_audio_transfer.mfcc import LOG_MEL

SECONDS = 10.0
_DECIBELS = 80.0


class Player(NamedTuple):
    """What a page needs to play and show a clip.

    Attributes:
        sound: data URI of an MP3, mono, 16 kHz.
        picture: data URI of a JPEG, frames wide and 64 mel bands (0 to 8 kHz) high, the loudest 80 dB.
        seconds: how long the sound is.
        is_cut: whether that is the clip's beginning only.
    """

    sound: str
    picture: str
    seconds: float
    is_cut: bool


def player_of(clip: Clip) -> Player:
    """The first `SECONDS` of a clip to hear and to see.

    MP3, because every browser plays it, those too old for Vorbis or Opus in Ogg files (Safari below 18.4), in a sixth
    of the bytes of FLAC where there is noise; JPEG, because a spectrogram takes an eighth of the bytes of PNG.

    Raises:
        InputError: the clip cannot be read, see `audio.loading.load_sound`.
    """
    from matplotlib.image import imsave  # takes a second

    waveform = load_waveform(clip, LOG_MEL.sample_rate, SECONDS)
    n_samples = round(SECONDS * LOG_MEL.sample_rate)
    is_cut, waveform = len(waveform) > n_samples, waveform[:n_samples]
    sound, picture = BytesIO(), BytesIO()
    soundfile.write(sound, waveform, LOG_MEL.sample_rate, format="MP3", bitrate_mode="VARIABLE", compression_level=0.7)
    decibels = log_mel(waveform, LOG_MEL)
    loudest = decibels.max()
    imsave(picture, decibels, vmin=loudest - _DECIBELS, vmax=loudest, cmap="cividis", origin="lower", format="jpeg")
    return Player(
        *(data_uri("audio/mpeg", sound.getvalue()), data_uri("image/jpeg", picture.getvalue())),
        *(len(waveform) / LOG_MEL.sample_rate, is_cut),
    )


def data_uri(kind: str, content: bytes) -> str:
    """The address of a content that is in the page itself; `kind`: its media type."""
    return f"data:{kind};base64,{b64encode(content).decode()}"
