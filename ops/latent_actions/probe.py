"""What codes tell: how evenly they are used, and what a linear reading of them says of the ego's
motion. No network.

Legend: P pairs, K tokens, F features, T targets.
"""

import numpy as np

RIDGE = 1.0  # penalty on the weights of a probe; features are 0 or 1, or standardised


def perplexity(codes: np.ndarray, size: int) -> float:
    """Number of evenly used codes that would have the same entropy, 1..size."""
    share = np.bincount(codes.ravel(), minlength=size) / codes.size
    used = share[share > 0]
    return float(np.exp(-(used * np.log(used)).sum()))


def dead_codes(codes: np.ndarray, size: int) -> int:
    """Codes that never occur."""
    return int((np.bincount(codes.ravel(), minlength=size) == 0).sum())


def one_hot(codes_PK: np.ndarray, size: int) -> np.ndarray:
    """(P, K * size) float64: one indicator for each token and code."""
    return np.eye(size)[codes_PK].reshape(len(codes_PK), -1)


class Ridge:
    """A linear reading of features, fitted in closed form."""

    def __init__(
        self, features_PF: np.ndarray, targets_PT: np.ndarray, penalty: float = RIDGE
    ) -> None:
        self.mean_F, self.mean_T = features_PF.mean(0), targets_PT.mean(0)
        centred = features_PF - self.mean_F
        self.weights_FT = np.linalg.solve(
            centred.T @ centred + penalty * np.eye(centred.shape[1]),
            centred.T @ (targets_PT - self.mean_T),
        )

    def __call__(self, features_PF: np.ndarray) -> np.ndarray:
        """Predicted targets (P, T)."""
        return (features_PF - self.mean_F) @ self.weights_FT + self.mean_T


def r_squared(predicted_PT: np.ndarray, true_PT: np.ndarray) -> list[float | None]:
    """Share of each target's variance that is predicted; None for a target that does not vary."""
    error, spread = (
        ((predicted_PT - true_PT) ** 2).sum(0),
        ((true_PT - true_PT.mean(0)) ** 2).sum(0),
    )
    return [float(1 - e / s) if s > 1e-12 else None for e, s in zip(error, spread, strict=True)]


def thumbnails(images_PHW3: np.ndarray, side: int = 8) -> np.ndarray:
    """Block means of images as standardised features: what one frame alone could tell, (P, F)."""
    count, height, width, _ = images_PHW3.shape
    rows, columns = height // side * side, width // side * side
    blocks = images_PHW3[:, :rows, :columns].reshape(
        count, rows // side, side, columns // side, side, 3
    )
    return blocks.mean(axis=(2, 4)).reshape(count, -1) / 64
