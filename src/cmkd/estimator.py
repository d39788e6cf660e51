"""A scikit-learn classifier that learns from pairs and predicts from the poor modality alone.

It trains through a run, as a user does, so it sits above `cmkd.experiment` and not with the tools of `cmkd.deploy`.
Only `fit` imports Lightning, and it removes the warning filter that Lightning adds: scikit-learn passes the filters to
its worker processes before they import this package, so they would import Lightning too early (`cmkd._torchvision`).
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
    """A run with the interface of scikit-learn: `fit` trains a teacher and students, and keeps the recommended student.

    Pairs are a DataFrame of two columns named after the modalities, first the rich one and then the poor one. A cell
    is an array or the path of a file; an image is ``(channels, height, width)``. Prediction needs only the poor column,
    and also takes any input of `cmkd.deploy.student.Student.predict`.

    Args:
        method: expression of a method, or several separated by commas, of which validation chooses one.
        seeds: number of students per method; validation chooses one.
        preset: length of each training, as in `RunConfig`.
        epochs: largest number of epochs, as in `RunConfig`.
        teacher: a model, or a dict of the fields of `TeacherConfig`, as in `RunConfig`.
        student: a model, or a dict of the fields of `StudentConfig`, as in `RunConfig`.
        kinds: modality -> kind. By default an array with one axis is a vector, and one with two or three is an image.
        fractions: fractions of the pairs used for training, for validation and calibration, and for test. The test
            pairs are used only for the report in `out`.
        out: folder of the run, which must be new; by default a temporary one, which is removed.
        options: other fields of `RunConfig`, such as ``{"min_precision": 0.95, "trainer": {"batch_size": 32}}``.
        random_state: seed of the split and the run, or a NumPy ``RandomState``; None draws a seed.

    Attributes:
        classes_: the labels, in the order of the probabilities.
        student_: the recommended `Student`, with calibration and reject option.
        results_: the content of the run's ``results.json``.

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
            y: ``(n,)`` labels of the pairs, strings or integers.
            groups: ``(n,)`` groups that must not be split over train, validation and test, such as the vessel in a
                picture; None, NaN or an empty text for a pair without a group.

        Raises:
            CmkdError: the pairs, the labels, an option or the folder are invalid.
            ValueError: pairs, labels and groups differ in number (raised by scikit-learn).
        """
        classes, target = _labels(X, y, groups)
        for name in ("kinds", "options"):
            if not isinstance(getattr(self, name), Mapping | None):
                raise CmkdError(f"{name} must be a dict of names and values, got {getattr(self, name)!r}")
        rich, poor = map(str, X.columns)
        number = isinstance(self.random_state, int | np.integer)
        seed = int(self.random_state if number else check_random_state(self.random_state).randint(2**30))  # type: ignore[arg-type]
        names = None if groups is None else [plain_text(group) for group in groups]
        with self._folder() as out, warnings.catch_warnings():  # removes Lightning's filter
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
        # assigned together and last, so that a failed call leaves the results of an earlier one intact
        self.classes_, self.poor_, self.results_, self.student_ = classes, poor, results, student
        return self

    def predict(self, X: Any) -> NDArray[Any]:  # noqa: ANN401  # pairs, or what Student.predict takes
        """Return the most probable label of each sample, ``(n,)``.

        Args:
            X: pairs, their poor column, or what `cmkd.deploy.student.Student.predict` takes.

        Raises:
            CmkdError: an input is not a sample of the poor modality.
        """
        probabilities = self.predict_proba(X)  # first, because it raises if `fit` was not called
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
    """The pairs as a map-style data set; its other keys begin with a dot, so no modality has the same name."""

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
    """Return whether a cell holds a sample or its path; a missing modality is None or NaN."""
    return isinstance(cell, str | Path) or np.ndim(cell) > 0  # type: ignore[arg-type]  # it accepts any object


def _labels(pairs: object, y: object, groups: object) -> tuple[NDArray[Any], NDArray[np.int64]]:
    """Return the classes, and the class index of each pair.

    Raises:
        CmkdError: the pairs or labels have the wrong form.
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
