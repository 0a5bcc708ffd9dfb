"""Extended Ballroom: 4,180 excerpts of 30 s, 13 dances, as the authors' script fetches them: one folder per dance.

Choi et al. 2017 score it by stratified 10-fold cross-validation: there are no official folds or splits. Repetitions of
a song are listed in the authors' `extendedballroom_v1.1.xml`, which is not read: there are no groups.

The authors publish no audio but a script that gets it from ballroomdancers.com.
"""

from pathlib import Path

from keras_audio_transfer.datasets.clip import Clip, clips_of_folders

CITATION = "U. Marchand, G. Peeters. The Extended Ballroom Dataset. ISMIR 2016, late-breaking session."
LICENSE = "audio: all rights reserved (ballroomdancers.com)"
REMOTES = {}
NO_DOWNLOAD = "all rights to the audio are reserved (ballroomdancers.com)"
LABELS = (
    *("Chacha", "Foxtrot", "Jive", "Pasodoble", "Rumba", "Salsa", "Samba", "Slowwaltz", "Tango", "Viennesewaltz"),
    *("Waltz", "Wcswing", "Quickstep"),
)


def clips(data_dir: Path) -> list[Clip]:
    """Return the clips {dance}/{number}.mp3, in the order of their `clip_id`.

    Raises:
        InputError: a dance's folder is missing or without audio.
    """
    remedy = "get it with the script of http://anasynth.ircam.fr/home/media/ExtendedBallroom"
    return clips_of_folders(data_dir, {dance: dance for dance in LABELS}, "extended_ballroom", remedy)
