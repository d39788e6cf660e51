"""A scikit-learn classifier that learns from pairs and predicts from the poor modality alone.

It trains by a run, as a user does, so it sits above `cmkd.experiment` and not with the tools of `cmkd.deploy`. `fit`
alone imports Lightning, and drops its warning filter: processes that scikit-learn starts get the filters before this
package is imported, and so would import Lightning too early (see `cmkd._torchvision`).
"""

from __future__ import annotations

import tempfile
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any, Self

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.utils import check_random_state
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import check_consistent_length, check_is_fitted, column_or_1d

from cmkd.config import OWN_METHOD, RunConfig
from cmkd.data import CardInfo, PackExistsError, assign_splits, from_dataset
from cmkd.data.manifest.readers import read
from cmkd.data.text_table import plain_text
from cmkd.deploy.student import load_student
from cmkd.errors import CmkdError, unknown_name
from cmkd.types import Kind


class DistilledClassifier(ClassifierMixin, BaseEstimator):  # type: ignore[misc]  # scikit-learn ships no types
    """A run behind the interface of scikit-learn: `fit` trains a teacher and students, and keeps the recommended one.

    Pairs are a DataFrame of two columns, first the rich modality and then the poor one, named as the modalities. A cell
    is an array or the path of a file; an image is ``(channels, height, width)``. At prediction the poor column is
    enough, and so is anything that `cmkd.deploy.student.Student.predict` takes.

    Args:
        method: expression of a method, or several by comma, of which validation chooses one.
        seeds: students for each method; validation chooses one.
        preset: as in `RunConfig`.
        epochs: as in `RunConfig`.
        teacher: as in `RunConfig`: a model, or a dict of the fields of `TeacherConfig`.
        student: as in `RunConfig`: a model, or a dict of the fields of `StudentConfig`.
        kinds: modality -> kind. By default an array of one axis is a vector, and one of two or three is an image.
        fractions: of the pairs of `fit`, to train with, to validate and calibrate with, and to test with. The test
            pairs serve the report in `out` alone.
        out: folder of the run, which must be new; by default a temporary one, which is removed.
        options: other fields of `RunConfig`, such as ``{"min_precision": 0.95, "trainer": {"batch_size": 32}}``.
        random_state: seed of the split and the run, or numpy's generator; None draws a seed.

    Attributes:
        classes_: the labels, in the order of the probabilities.
        student_: the recommended `Student`, with calibration and reject option.
        results_: what ``results.json`` of the run holds.

    Example:
        >>> from sklearn.datasets import load_digits
        >>> images, digits = load_digits(n_class=3, return_X_y=True)
        >>> optical = images.reshape(-1, 1, 8, 8).astype("float32")
        >>> radar = optical * np.random.default_rng(0).gamma(2.0, 0.5, optical.shape)
        >>> pairs = pd.DataFrame({"optical": list(optical), "radar": list(radar)})
        >>> model = DistilledClassifier(epochs=2, random_state=1).fit(pairs[:200], digits[:200])
        >>> model.predict_proba(radar[200:]).shape, model.predict(pairs[200:]).shape, model.classes_
        ((337, 3), (337,), array([0, 1, 2]))
    """

    def __init__(
        self,
        method: str = OWN_METHOD,
        *,
        seeds: int = 1,
        preset: str = "quick",
        epochs: int | None = None,
        teacher: object = "auto",
        student: object = "auto",
        kinds: Mapping[str, Kind] | None = None,
        fractions: tuple[float, float, float] = (0.8, 0.15, 0.05),
        out: Path | str | None = None,
        options: Mapping[str, Any] | None = None,
        random_state: int | np.random.RandomState | None = 0,
    ) -> None:
        self.method = method
        self.seeds = seeds
        self.preset = preset
        self.epochs = epochs
        self.teacher = teacher
        self.student = student
        self.kinds = kinds
        self.fractions = fractions
        self.out = out
        self.options = options
        self.random_state = random_state

    def fit(self, X: pd.DataFrame, y: Sequence[Any] | NDArray[Any], groups: Sequence[Any] | None = None) -> Self:
        """Train on pairs.

        Args:
            X: the pairs.
            y: ``(n,)`` their labels, strings or whole numbers.
            groups: ``(n,)`` what must not be on both sides of the split, such as the vessel of a picture; a missing one
                (None, NaN, an empty text) for a pair on its own.

        Raises:
            CmkdError: anything wrong with the pairs, the labels, an option or the folder, in one line.
            ValueError: pairs, labels and groups differ in number, from scikit-learn.
        """
        classes, target = _labels(X, y, groups)
        for name in ("kinds", "options"):
            if not isinstance(getattr(self, name), Mapping | None):
                raise CmkdError(f"{name} must be a dict of names and values, got {getattr(self, name)!r}")
        rich, poor = map(str, X.columns)
        number = isinstance(self.random_state, int | np.integer)
        seed = int(self.random_state if number else check_random_state(self.random_state).randint(2**30))  # type: ignore[arg-type]
        names = None if groups is None else [plain_text(group) for group in groups]
        with self._folder() as out, warnings.catch_warnings():  # drops Lightning's filter
            from cmkd.experiment import Experiment
            from cmkd.experiment.resolve import check_methods

            config = self._config(out, seed)
            check_methods(config)  # before the pairs are written
            splits, _ = assign_splits(target, names, fractions=self.fractions, seed=config.seed)
            try:
                pack = from_dataset(
                    _Rows(X, target, splits, names, self.kinds or {}),
                    out / "data",
                    modalities=(rich, poor),
                    classes=[str(name) for name in classes],
                    kinds=self.kinds,
                    label=".label",
                    id=".id",
                    split=".split",
                    group=".group",
                    info=CardInfo("pairs", rich=rich, poor=poor),
                )
            except PackExistsError:
                raise CmkdError(f"'{out}' already holds a run: use a new out for each fit, or leave it out") from None
            results = Experiment(replace(config, data=pack), page=self.out is not None).run()
            student = load_student(out)
        # together and last, so that a call that fails leaves an earlier one whole
        self.classes_, self.poor_, self.results_, self.student_ = classes, poor, results, student
        return self

    def predict(self, X: Any) -> NDArray[Any]:  # noqa: ANN401  # pairs, or what Student.predict takes
        """Return the most probable label of each sample, ``(n,)``.

        Args:
            X: pairs, their poor column, or what `cmkd.deploy.student.Student.predict` takes.

        Raises:
            CmkdError: what is no sample of the poor modality.
        """
        probabilities = self.predict_proba(X)  # first, because it says what is not fitted
        found: NDArray[Any] = self.classes_[probabilities.argmax(axis=1)]
        return found

    def predict_proba(self, X: Any) -> NDArray[np.float64]:  # noqa: ANN401
        """Return the calibrated probabilities ``(n, classes)``; `X` as for `predict`."""
        check_is_fitted(self, "student_")
        if isinstance(X, pd.DataFrame):
            if self.poor_ not in X:
                raise CmkdError(f"no column '{self.poor_}'; the columns are {', '.join(map(str, X.columns))}")
            X = X[self.poor_]
        if isinstance(X, pd.Series):
            X = list(X)
            missing = next((place for place, cell in enumerate(X) if not _given(cell)), None)
            if missing is not None:
                raise CmkdError(f"pair {missing} has no '{self.poor_}': leave such pairs out")
        table = self.student_.predict(X)
        found: NDArray[np.float64] = table[[f"p_{name}" for name in self.student_.classes]].to_numpy()
        return found

    @contextmanager
    def _folder(self) -> Iterator[Path]:
        with tempfile.TemporaryDirectory() if self.out is None else nullcontext(self.out) as place:
            yield Path(place)

    def _config(self, out: Path, seed: int) -> RunConfig:
        own: dict[str, Any] = {
            name: value.item() if isinstance(value := getattr(self, name), np.generic) else value
            for name in ("seeds", "preset", "epochs", "teacher", "student")
        }
        own |= {"data": out / "data", "out": out, "methods": self.method, "seed": seed}
        others: dict[str, Any] = {"jobs": 1, "trainer": {}} | dict(self.options or {})
        for name in others:
            if name in own or name not in (known := [field.name for field in fields(RunConfig)]):
                raise unknown_name("key of options", name, set(known) - own.keys())
        if isinstance(others["trainer"], Mapping):
            others["trainer"] = {"progress": "none"} | dict(others["trainer"])
        return RunConfig(**own, **others)


@dataclass(frozen=True)
class _Rows:
    """The pairs as a map-style data set; no modality can be named as its other keys are."""

    pairs: pd.DataFrame
    labels: NDArray[np.int64]
    splits: Sequence[str]
    groups: Sequence[str] | None
    kinds: Mapping[str, Kind]

    def __len__(self) -> int:
        return len(self.pairs)

    def __getitem__(self, index: int) -> dict[str, Any]:
        cells = {str(name): self.pairs[name].iloc[index] for name in self.pairs.columns}
        loaded = {
            name: read(Path(cell), self.kinds.get(name)) if isinstance(cell, str | Path) else cell
            for name, cell in cells.items()
            if _given(cell)
        }
        about = {".label": int(self.labels[index]), ".split": self.splits[index]}
        return loaded | about | ({} if self.groups is None else {".group": self.groups[index]})


def _given(cell: object) -> bool:
    """Whether a cell holds a sample or its path; a missing modality is None or NaN."""
    return isinstance(cell, str | Path) or np.ndim(cell) > 0  # type: ignore[arg-type]  # of any object


def _labels(pairs: object, y: object, groups: object) -> tuple[NDArray[Any], NDArray[np.int64]]:
    """Return the classes, and the class of each pair.

    Raises:
        CmkdError: pairs or labels of another form.
    """
    if not isinstance(pairs, pd.DataFrame) or pairs.shape[1] != 2:
        got = f"{pairs.shape[1]} columns" if isinstance(pairs, pd.DataFrame) else type(pairs).__name__
        raise CmkdError(f"expected pairs as a DataFrame of two columns, the rich and then the poor modality; got {got}")
    if pairs.columns[0] == pairs.columns[1]:
        raise CmkdError(f"both columns of the pairs are named '{pairs.columns[0]}': rename one")
    for name in pairs.columns:
        if len(pairs) and not any(map(_given, pairs[name])):
            raise CmkdError(f"the column '{name}' holds no sample: give arrays, or paths of files")
    check_consistent_length(pairs, y, groups)
    labels = column_or_1d(y)
    missing = np.flatnonzero(pd.isna(labels))
    if len(missing):
        raise CmkdError(f"pair {missing[0]} has no label: leave such pairs out")
    check_classification_targets(labels)
    try:
        classes, target = np.unique(labels, return_inverse=True)
    except TypeError as error:
        raise CmkdError("the labels are of types that cannot be compared: make all of them text or numbers") from error
    if not len(classes):
        raise CmkdError("there are no pairs: give some of two classes or more")
    if len(classes) < 2:
        raise CmkdError(f"all labels are '{classes[0]}': a classifier needs two classes or more")
    return classes, target
