"""How much a clip is like those that a classifier has heard. Without TensorFlow."""

from dataclasses import dataclass, field, replace

import numpy as np

MOST_COMPONENTS = 64  # more made no difference to strong networks' features, and fewer some to weak ones'
_CLIPS_A_COMPONENT = 4


@dataclass(frozen=True)
class Familiarity:
    """The distance of features to the nearest class's mean, and how many held-out clips of the classes were farther.

    The distance is Mahalanobis's, with one covariance for all classes (Lee et al. 2018, "A simple unified framework for
    detecting out-of-distribution samples and adversarial attacks"), of which the largest components are kept and the
    rest is taken for equal (Tipping and Bishop 1999, probabilistic PCA): there are more channels than clips.

    Attributes:
        means: of the classes, (classes, channels).
        components: directions in which clips differ from their class's mean, of length 1, (components, channels).
        variances: of these, (components,).
        rest: the variance in every other direction.
        distances: of held-out clips of the classes, ascending, (clips,).
    """

    means: np.ndarray
    components: np.ndarray
    variances: np.ndarray
    rest: float
    distances: np.ndarray = field(default_factory=lambda: np.zeros(0))

    def distance(self, features: np.ndarray) -> np.ndarray:
        """Squared distances: (clips, channels) -> float64 (clips,)."""
        nearest = np.full(len(features), np.inf)
        for mean in self.means:
            beyond = features - mean
            squares = np.square(beyond @ self.components.T) @ (1 / self.variances - 1 / self.rest)
            nearest = np.minimum(nearest, np.square(beyond).sum(axis=1) / self.rest + squares)
        return nearest

    def known(self, features: np.ndarray) -> np.ndarray:
        """The share of held-out clips that were at least as far: (clips, channels) -> float64 (clips,), in [0, 1].

        It and they are counted together, as for a conformal p-value (Vovk et al. 2005): of a clip like those heard it
        is below p with a probability of p. Between two of their distances it is interpolated; beyond the last, where
        counting says no more, it falls in inverse proportion to the squared distance.
        """
        distances, (at, shares) = self.distance(features), self.knots()
        beyond = np.divide(at[-1], distances, out=np.ones_like(distances), where=distances > at[-1])
        return np.interp(distances, at, shares) * beyond

    def knots(self) -> tuple[np.ndarray, np.ndarray]:
        """Distances, ascending from 0, and the shares there, from 1: (clips + 1,) each."""
        n_clips = len(self.distances)
        return np.concatenate([[0.0], self.distances]), 1 - np.arange(n_clips + 1) / (n_clips + 1)

    def with_distances(self, distances: np.ndarray) -> "Familiarity":
        """The same, with the distances of held-out clips."""
        return replace(self, distances=np.sort(distances))


def fit(features: np.ndarray, labels: np.ndarray) -> Familiarity:
    """Means and covariance; the distances of held-out clips are still to be given.

    Args:
        features: scaled as the SVM takes them, (clips, channels).
        labels: (clips,).
    """
    from sklearn.decomposition import PCA  # takes a second to import

    classes, of_class = np.unique(labels, return_inverse=True)
    means = np.stack([features[of_class == number].mean(axis=0) for number in range(len(classes))])
    beyond = features - means[of_class]
    n_components = max(1, min(MOST_COMPONENTS, len(features) // _CLIPS_A_COMPONENT, features.shape[1] - 1))
    with np.errstate(invalid="ignore"):  # where no clip differs from its class, whose shares of variance are not used
        pca = PCA(n_components, random_state=0).fit(beyond)
    smallest = np.finfo(np.float32).eps * max(pca.explained_variance_[0], 1.0)  # where clips do not differ at all
    rest = max(float(pca.noise_variance_), smallest)
    return Familiarity(means, pca.components_, np.maximum(pca.explained_variance_, rest), rest)
