"""Speech Commands: spoken English words of one second at 16 kHz, by thousands of speakers.

Version 0.01 has 64,727 clips of 30 words, version 0.02 has 105,829 clips of 35. `validation_list.txt` and
`testing_list.txt` name the clips of those splits, every other clip is for training, and there are no folds. `group`
is the speaker; no speaker is in two splits. The recordings in `_background_noise_` are no words and left out.

The download is the version that the folder is named after. The checksums are those that torchaudio gives.
"""

from pathlib import Path

from keras_audio_transfer.datasets.clip import Clip, Remote, require

CITATION = "P. Warden. Speech Commands: A Dataset for Limited-Vocabulary Speech Recognition. arXiv:1804.03209, 2018."
LICENSE = "CC BY 4.0"
_ADDRESS = "https://storage.googleapis.com/download.tensorflow.org/data"
REMOTES = {
    "speech_commands_v0.01": Remote(
        url=f"{_ADDRESS}/speech_commands_v0.01.tar.gz",
        checksum="sha256:743935421bb51cccdb6bdd152e04c5c70274e935c82119ad7faeec31780d811d",
        folder="",
    ),
    "speech_commands_v0.02": Remote(
        url=f"{_ADDRESS}/speech_commands_v0.02.tar.gz",
        checksum="sha256:af14739ee7dc311471de98f5f9d2c9191b18aedfe957f4a6ff791c709868ff58",
        folder="",
    ),
}
LABELS = (
    *("yes", "no", "up", "down", "left", "right", "on", "off", "stop", "go"),
    *("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine"),
    *("bed", "bird", "cat", "dog", "happy", "house", "marvin", "sheila", "tree", "wow"),
    *("backward", "follow", "forward", "learn", "visual"),  # new in version 0.02
)


def clips(data_dir: Path) -> list[Clip]:
    """Return the clips below `data_dir`, one sub-folder per word, in the order of their `clip_id`.

    Raises:
        InputError: a list of clips, or a clip on one of the lists, is missing.
    """
    remedy = f"get Speech Commands from {_ADDRESS}/speech_commands_v0.02.tar.gz, or have it downloaded (`download`)"
    lists = {"validation": "validation_list.txt", "test": "testing_list.txt"}
    require(data_dir, list(lists.values()), "speech_commands", remedy)
    listed = {
        clip_id: split
        for split, name in lists.items()
        for clip_id in (data_dir / name).read_text(encoding="utf-8").split()
    }
    require(data_dir, list(listed), "speech_commands", remedy)
    found = []
    for path in data_dir.glob("[!._]*/*.wav"):
        clip_id = f"{path.parent.name}/{path.name}"
        speaker = path.name.partition("_nohash_")[0]
        split = listed.get(clip_id, "train")
        found.append(Clip(clip_id, path, labels=(path.parent.name,), split=split, group=speaker))
    return sorted(found, key=lambda clip: clip.clip_id)
