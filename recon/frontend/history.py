"""Filtered states of a track that wait to be smoothed."""

from __future__ import annotations

from collections import deque

import numpy as np
from numpy.typing import NDArray

from .loops import smooth_first


class History:
    """States of one track, oldest first; kept as arrays, as the smoother takes them."""

    def __init__(self) -> None:
        self._known: deque[tuple[int, str]] = deque()  # frame and flag
        self._means = np.empty((16, 2))
        self._covariances = np.empty((16, 2, 2))
        self._steps = np.empty(16)

    def __len__(self) -> int:
        return len(self._known)

    @property
    def oldest(self) -> int | None:
        """Frame of the oldest state, None where there is no state."""
        return self._known[0][0] if self._known else None

    def add(
        self, frame: int, mean: NDArray[np.float64], covariance: NDArray[np.float64], step_variance: float, flag: str
    ) -> None:
        """Add the state after a frame.

        Parameters
        ----------
        mean, covariance : (2,) and (2, 2), row and column in bins of the field.
        step_variance : of the walk to this state, bins^2 an axis. flag : why the frame is not to be used, or "".
        """
        count = len(self._known)
        if count == len(self._steps):
            self._means, self._covariances, self._steps = (
                np.concatenate([kept, np.empty_like(kept)]) for kept in (self._means, self._covariances, self._steps)
            )
        self._means[count], self._covariances[count], self._steps[count] = mean, covariance, step_variance
        self._known.append((frame, flag))

    def take(self) -> tuple[NDArray[np.float64], NDArray[np.float64], str]:
        """Take out the oldest state, smoothed by all later ones: mean (2,), covariance (2, 2) and its flag.

        Raises
        ------
        IndexError : there is none.
        """
        _, flag = self._known.popleft()
        count = len(self._known) + 1
        mean, covariance = smooth_first(self._means[:count], self._covariances[:count], self._steps[:count])
        for kept in (self._means, self._covariances, self._steps):
            kept[: count - 1] = kept[1:count]
        return mean, covariance, flag
