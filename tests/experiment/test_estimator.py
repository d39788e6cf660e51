"""`DistilledClassifier` among scikit-learn's own tools."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from sklearn.base import clone, is_classifier
from sklearn.datasets import load_digits
from sklearn.exceptions import NotFittedError
from sklearn.model_selection import cross_val_score
from sklearn.utils import estimator_checks

from cmkd import CmkdError, DistilledClassifier, load_student
from cmkd.data import Pack

SMALL = "thin_resnet(width=4,stages=1)"


def small(**changes: object) -> DistilledClassifier:
    given: dict[str, Any] = {
        "epochs": 2,
        "teacher": SMALL,
        "student": SMALL,
        "options": {"trainer": {"batch_size": 16}},
    }
    return DistilledClassifier(**given | changes)


@pytest.fixture(scope="module")
def digits() -> tuple[pd.DataFrame, np.ndarray]:
    """Return ninety pairs of three digits, and the names of the digits as labels."""
    images, labels = load_digits(n_class=3, return_X_y=True)
    optical = images[:90].reshape(-1, 1, 8, 8).astype(np.float32)
    radar = optical * np.random.default_rng(0).gamma(4.0, 0.25, optical.shape)
    return pd.DataFrame({"optical": list(optical), "radar": list(radar)}), np.array(["nil", "one", "two"])[labels[:90]]


@pytest.fixture(scope="module")
def fitted(digits: tuple[pd.DataFrame, np.ndarray], tmp_path_factory: pytest.TempPathFactory) -> DistilledClassifier:
    out = tmp_path_factory.mktemp("fitted") / "run"
    return small(epochs=15, teacher="auto", student="auto", out=out).fit(*digits)


@pytest.mark.parametrize("missing", [None, float("nan"), pd.NA, ""])
def test_a_missing_group_is_a_pair_on_its_own(
    digits: tuple[pd.DataFrame, np.ndarray], tmp_path: Path, missing: object
) -> None:
    groups = [f"vessel {k // 2}" if k < 20 else missing for k in range(90)]
    small(epochs=1, out=tmp_path / "run").fit(*digits, groups=groups)
    index = Pack.open(tmp_path / "run" / "data").index
    assert set(index["group"][20:]) == {""}
    assert set(index["split"][20:]) == {"train", "validation", "test"}


def test_two_columns_of_one_name_are_refused(digits: tuple[pd.DataFrame, np.ndarray]) -> None:
    pairs = digits[0].set_axis(["radar", "radar"], axis=1)
    with pytest.raises(CmkdError, match="both columns of the pairs are named 'radar': rename one"):
        small().fit(pairs, digits[1])


@pytest.mark.parametrize(
    "check",
    [
        estimator_checks.check_estimator_cloneable,
        estimator_checks.check_estimator_repr,
        estimator_checks.check_estimator_tags_renamed,
        estimator_checks.check_get_params_invariance,
        estimator_checks.check_no_attributes_set_in_init,
        estimator_checks.check_parameters_default_constructible,
        estimator_checks.check_set_params,
        estimator_checks.check_valid_tag_types,
    ],
    ids=lambda check: check.__name__,
)
def test_it_is_an_estimator(check: Any) -> None:  # noqa: ANN401
    check("DistilledClassifier", DistilledClassifier())


def test_it_is_cross_validated(
    digits: tuple[pd.DataFrame, np.ndarray],
    tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    assert is_classifier(small())
    scores = cross_val_score(small(), *digits, cv=2)
    assert scores.shape == (2,) and np.isfinite(scores).all()
    assert list(tmp_path.iterdir()) == []  # the folders of the runs are removed
    assert capfd.readouterr() == ("", "")


def test_it_learns_and_needs_the_poor_modality_alone(
    fitted: DistilledClassifier, digits: tuple[pd.DataFrame, np.ndarray]
) -> None:
    pairs, labels = digits
    assert fitted.classes_.tolist() == ["nil", "one", "two"]
    assert fitted.score(pairs, labels) > 0.7  # chance is 1/3
    expected = fitted.predict_proba(pairs)
    assert expected.shape == (90, 3)
    np.testing.assert_allclose(expected.sum(1), 1.0)
    assert fitted.predict(pairs).tolist() == fitted.classes_[expected.argmax(1)].tolist()
    for poor in (pairs[["radar"]], pairs["radar"], list(pairs["radar"]), np.stack(pairs["radar"].tolist())):
        np.testing.assert_array_equal(fitted.predict_proba(poor), expected)
    copy = pickle.loads(pickle.dumps(fitted))
    np.testing.assert_array_equal(copy.predict_proba(pairs), expected)


def test_the_run_is_kept_where_it_was_asked_for(
    fitted: DistilledClassifier, digits: tuple[pd.DataFrame, np.ndarray]
) -> None:
    out = Path(str(fitted.out))
    assert (out / "report.html").exists() and fitted.results_["recommended"]["method"] == "ds"
    assert load_student(out).predict(digits[0]["radar"].iloc[0])["class"][0] == fitted.predict(digits[0][:1])[0]
    with pytest.raises(CmkdError, match="already holds a run: use a new out for each fit, or leave it out"):
        clone(fitted).fit(*digits)


def test_equal_random_states_give_equal_probabilities(digits: tuple[pd.DataFrame, np.ndarray]) -> None:
    pairs, labels = digits
    found = [small(random_state=seed).fit(pairs, labels).predict_proba(pairs) for seed in (1, 1, 2)]
    np.testing.assert_array_equal(found[0], found[1])
    assert not np.array_equal(found[0], found[2])


def test_groups_stay_whole_and_cells_may_be_files_or_missing(
    digits: tuple[pd.DataFrame, np.ndarray], tmp_path: Path
) -> None:
    pairs, labels = digits[0].copy(), digits[1]
    for k, image in enumerate(pairs["radar"]):
        np.save(tmp_path / f"{k}.npy", image)
    pairs["radar"] = [str(tmp_path / f"{k}.npy") for k in range(len(pairs))]
    pairs.at[5, "optical"] = None
    groups = np.arange(90) // 3
    model = small(out=tmp_path / "run", epochs=1).fit(pairs, labels, groups=groups)
    index = pd.read_parquet(next((tmp_path / "run" / "data").glob("index*.parquet")))
    assert (index.groupby("group")["split"].nunique() == 1).all() and index["split"].nunique() == 3
    np.testing.assert_allclose(model.predict_proba(pairs[:7]), model.predict_proba(digits[0][:7]), atol=1e-6)


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"method": "kb"}, "unknown method 'kb'"),
        ({"seeds": 0}, "seeds is 0; it must be at least 1"),
        ({"preset": "fast"}, "preset must be"),
        ({"options": {"sed": 1}}, "unknown key of options 'sed'"),
        ({"options": {"seeds": 1}}, "unknown key of options 'seeds'"),
        ({"options": {"trainer": {"batch": 1}}}, "unknown option 'trainer.batch'"),
        ({"teacher": "thin_resnt"}, "thin_resnt"),
        ({"kinds": {"lidar": "image"}}, "no item has the modality 'lidar'"),
        ({"kinds": {"radar": "imag"}}, "unknown kind 'imag'"),
        ({"fractions": (1.0, 0.0, 0.0)}, "must be three positive numbers"),
        ({"fractions": "abc"}, "must be three positive numbers"),
        ({"fractions": 0.8}, "must be three positive numbers"),
        ({"kinds": "image"}, "kinds must be a dict"),
        ({"options": "trainer"}, "options must be a dict"),
        ({"random_state": -1}, "seed is -1"),
        ({"random_state": 2**40}, f"seed is {2**40}"),
    ],
)
def test_wrong_options_are_one_line(
    changes: dict[str, Any], says: str, digits: tuple[pd.DataFrame, np.ndarray]
) -> None:
    with pytest.raises(CmkdError, match=says) as caught:
        small(**changes).fit(*digits)
    assert "\n" not in str(caught.value)


def test_a_fit_that_fails_changes_nothing_and_leaves_its_folder_free(
    digits: tuple[pd.DataFrame, np.ndarray], tmp_path: Path
) -> None:
    pairs, labels = digits
    model = small(epochs=np.int64(1)).fit(pairs, labels)  # GridSearchCV passes numpy numbers
    expected = model.predict(pairs)
    model.set_params(method="kdd", out=tmp_path / "run")
    with pytest.raises(CmkdError, match="unknown method 'kdd'"):
        model.fit(pairs, np.array(["a", "b", "c"])[np.unique(labels, return_inverse=True)[1]])
    assert model.predict(pairs).tolist() == expected.tolist()
    assert not (tmp_path / "run").exists()
    model.set_params(method="kd").fit(pairs, labels)


def test_wrong_pairs_and_labels_are_one_line(
    fitted: DistilledClassifier, digits: tuple[pd.DataFrame, np.ndarray]
) -> None:
    pairs, labels = digits
    wrong: list[tuple[Any, Any, str]] = [
        (pairs["radar"], labels, "a DataFrame of two columns, the rich and then the poor modality; got Series"),
        (pairs[["radar"]], labels, "got 1 columns"),
        (pairs.rename(columns={"radar": "my radar"}), labels, "modality name 'my radar' must be a word"),
        (pairs.set_axis([0, 1], axis=1), labels, "that begins with no digit"),
        (pairs.assign(radar=0.5), labels, "the column 'radar' holds no sample"),
        (pairs, labels[:5], "inconsistent numbers of samples"),
        (pairs, np.linspace(0, 1, 90), "Unknown label type"),
        (pairs, [None, *labels[1:]], "pair 0 has no label"),
        (pairs, ["one"] * 90, "all labels are 'one'"),
        (pairs[:0], labels[:0], "there are no pairs"),
        (pairs, ["one\udcff", "two"] * 45, r"the class 'one\\udcff' has characters that are not UTF-8"),
        (pairs.assign(radar="absent.png"), labels, "absent.png does not exist"),
    ]
    for given, target, says in wrong:
        with pytest.raises(ValueError, match=says) as caught:
            small().fit(given, target)
        assert "\n" not in str(caught.value)
    with pytest.raises(NotFittedError):
        small().predict(pairs)
    with pytest.raises(CmkdError, match="no column 'radar'; the columns are optical"):
        fitted.predict(pairs[["optical"]])
    for nothing in (None, np.nan):
        holed = pairs.assign(radar=[*pairs["radar"][:7], nothing, *pairs["radar"][8:]])
        with pytest.raises(CmkdError, match="pair 7 has no 'radar': leave such pairs out"):
            fitted.predict(holed)
