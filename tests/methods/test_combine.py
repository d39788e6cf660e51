"""Expressions, sums, checks of options, pages and plug-ins."""

from __future__ import annotations

import runpy
import subprocess
import sys
from pathlib import Path
from typing import ClassVar

import pytest
import torch
from torch import Tensor

from cmkd.cli.methods import main
from cmkd.errors import CmkdError
from cmkd.methods import METHODS, create
from cmkd.methods.base import Method
from cmkd.methods.combine import Sum, from_expression, taught_by
from cmkd.methods.pages import bibliography, pages, write_markdown
from cmkd.options import parameters
from cmkd.types import Batch, Output, Spec

from .rows import NARROW, WIDE, TinyModel, a_batch, output

SOURCE = Path(__file__).parents[2] / "src"
EXAMPLES = Path(__file__).parents[2] / "examples"


def test_single_name_is_the_method_itself() -> None:
    assert type(from_expression("kd", NARROW, WIDE)) is METHODS["kd"]
    assert isinstance(from_expression("0.5*kd", NARROW, WIDE), Sum)


def test_sum_weighs_and_names_terms() -> None:
    torch.manual_seed(0)
    both = from_expression("kd(temperature=2) + 0.5*kd + 2*rkd(angle_weight=0)", NARROW, WIDE)
    student, teacher, batch = output(NARROW, 6, 0), output(WIDE, 6, 1).detach(), a_batch(6, 4)
    terms = both(student, teacher, batch)
    assert list(terms) == ["kd", "kd_2", "rkd_distance", "rkd_angle"]
    alone = create("kd", NARROW, WIDE)(student, teacher, batch)["kd"]
    torch.testing.assert_close(terms["kd_2"], 0.5 * alone)
    distance = create("rkd", NARROW, WIDE)(student, teacher, batch)["rkd_distance"]
    torch.testing.assert_close(terms["rkd_distance"], 2.0 * distance)


def test_sum_passes_hooks_on_and_merges_needs() -> None:
    both = from_expression("crd(negatives=8) + dkd(warmup_epochs=4) + srrl", NARROW, WIDE)
    assert set(both.needs) == {"embedding", "index", "logits", "target"}
    assert not both.trains_teacher
    with pytest.raises(CmkdError, match="on_train_start"):
        both(output(NARROW, 4, 0), output(WIDE, 4, 1), a_batch(4, 4))
    both.setup(TinyModel(NARROW), TinyModel(WIDE))
    both.on_train_start(32)
    both.on_train_epoch_start(0)
    early = both(output(NARROW, 4, 0), output(WIDE, 4, 1), a_batch(4, 4))["dkd"]
    both.on_train_epoch_start(3)
    late = both(output(NARROW, 4, 0), output(WIDE, 4, 1), a_batch(4, 4))["dkd"]
    torch.testing.assert_close(late, 4.0 * early)


def test_teacher_gets_gradients_only_from_methods_that_train_it() -> None:
    both = from_expression("kd + c2kd(weight=0)", NARROW, WIDE)
    assert both.trains_teacher
    student, teacher = output(NARROW, 4, 0), output(WIDE, 4, 1)
    sum(both(student, teacher, a_batch(4, 4)).values()).backward()
    assert student.logits.grad is not None and student.logits.grad.any()
    assert teacher.logits.grad is not None and not teacher.logits.grad.any()


def test_control_in_a_sum_does_not_ask_for_the_teacher() -> None:
    assert not from_expression("2*none", NARROW, WIDE).uses_teacher
    assert from_expression("none+kd", NARROW, WIDE).uses_teacher
    assert from_expression("all_labels+kd", NARROW, WIDE).sees_all_labels
    assert not from_expression("none+kd", NARROW, WIDE).sees_all_labels


def test_defaults_give_way_to_the_expression() -> None:
    defaults = {"kd": {"temperature": 3.0, "weight": 2.0}}
    method = from_expression("kd(weight=1)", NARROW, WIDE, defaults)
    assert (method.temperature, method.weight) == (3.0, 1)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("kb", "did you mean 'kd'"),
        ("kd(temprature=2)", "did you mean 'temperature'"),
        ("kd(temperature=a)", "option temperature of kd must be a number, got 'a'"),
        ("kd(temperature=true)", "must be a number, got True"),
        ("kd(temperature=0)", "temperature must be above 0"),
        ("kd(temperature=1e999)", "must be a number, got inf"),
        ("crd(negatives=0.5)", "negatives of crd must be a whole number"),
        ("cc(paper_form=1)", "paper_form of cc must be true or false"),
        ("mlld(temperatures=[1, 'a'])", "temperatures of mlld must be"),
        ("mlld(temperatures=[])", "temperatures must be above 0"),
        ("1e999*kd", "weight of kd"),
        ("kd+", "cannot read"),
        ("kd(2)", "cannot read"),
        ("kd(temperature=1,temperature=9)", "cannot read"),
        ("kd(**{'temperature': 1})", "cannot read"),
        (f"{10**400}*kd", "cannot read"),
        ("uniformity(t=0)", "t must be above 0"),
        ("hypersphere(alignment_power=-1)", "alignment_power must be above 0"),
        ("srd(exponent=0.5)", "exponent must be above 1"),
        ("at(power=0.5)", "power must be at least 1"),
        ("crd(momentum=2)", "momentum must be at least 0 and below 1"),
        ("ft(ratio=1e300)", "ratio must be above 0 and at most 16"),
        ("ds(points=positions,pool=4)", "4 x 4 and the teacher has 3 x 3"),
        ("generalized(imitation=1)", "imitation must be"),
        ("vid(initial_variance=1e-5)", "initial_variance must be above eps, got 1e-05 and 1e-05"),
        ("fitnet(stage=5)", "stage 5 needs 6 feature maps"),
    ],
)
def test_bad_input_is_refused_in_one_line(text: str, message: str) -> None:
    with pytest.raises(CmkdError) as caught:
        from_expression(text, NARROW, WIDE)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", [name for name in METHODS if "temperature" in parameters(METHODS[name])])
def test_temperature_of_zero_is_refused(name: str) -> None:
    with pytest.raises(CmkdError, match=r"temperature.* above 0"):
        create(name, NARROW, WIDE, temperature=0.0)


@pytest.mark.parametrize("name", sorted(METHODS))
def test_model_without_maps_works_or_is_refused(name: str) -> None:
    bare, needs = Spec(4, 6), METHODS[name].needs
    if "feature_maps" in needs and name != "ofa":  # `ofa` works without exits
        with pytest.raises(CmkdError, match=name):
            create(name, bare, bare)
    else:
        create(name, bare, bare)


def test_every_page_says_what_each_option_is() -> None:
    for p in pages():
        assert p.idea.endswith((".", "terms.")) and len(p.idea) < 140, p.name
        for h in p.hyperparameters:
            assert h.text and h.type, f"{p.name}: {h.name}"


def test_markdown_pages(tmp_path: Path) -> None:
    written = write_markdown(tmp_path / "methods")
    assert sorted(p.name for p in (tmp_path / "methods").iterdir()) == sorted(p.name for p in written)
    assert len(written) == len(METHODS) + 1
    text = (tmp_path / "methods" / "kd.md").read_text()
    assert "| `temperature` | `float` | `2.0` |" in text and "@article{hinton2015" in text
    assert all(f"({name}.md)" in written[0].read_text() for name in METHODS)
    assert write_markdown(tmp_path / "methods") == written
    written[1].unlink()
    written[0].write_text("# My ships\n")
    with pytest.raises(CmkdError, match=r"index\.md' is not a page of methods"):
        write_markdown(tmp_path / "methods")
    assert written[0].read_text() == "# My ships\n" and not written[1].exists()


def test_bibliography_has_each_paper_once() -> None:
    text = bibliography(["none", "kd+0.5*rkd", "ttm", "wttm", "kd(temperature=2)"])
    assert [text.count(key) for key in ("hinton2015", "park2019", "zheng2024")] == [1, 1, 1]
    assert bibliography(["none"]) == ""
    assert bibliography(["elsewhere.losses:Hint", "gone"]) == "", (
        "what another machine had is neither imported nor cited"
    )


def test_command_lists_and_shows(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    main([])
    listed = capsys.readouterr().out
    assert all(f" {name} " in listed for name in METHODS)
    main(["rkd"])
    shown = capsys.readouterr().out
    assert "distance_weight" in shown and "1904.05068" in shown and "@inproceedings" in shown
    main(["--markdown", str(tmp_path / "pages")])
    assert (tmp_path / "pages" / "index.md").exists()
    with pytest.raises(CmkdError, match="did you mean"):
        main(["rdk"])


def test_example_of_an_own_method(capsys: pytest.CaptureFixture[str]) -> None:
    runpy.run_path(str(EXAMPLES / "own_method.py"), run_name="__main__")
    lines = capsys.readouterr().out.splitlines()
    losses = [float(line.split("loss ")[1].split(",")[0]) for line in lines]
    assert losses[-1] < losses[0]
    assert len((EXAMPLES / "own_method.py").read_text().splitlines()) < 65


def test_plug_in_that_does_not_load_is_named(tmp_path: Path) -> None:
    """The plug-in is found in a separate process that sees an installed package."""
    info = tmp_path / "echo_plugin-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: echo-plugin\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[cmkd.methods]\necho = echo_plugin:Echo\n")
    path = f"import sys; sys.path[:0] = [{str(tmp_path)!r}, {str(SOURCE)!r}]"
    code = f"{path}\nfrom cmkd.methods import METHODS\nMETHODS['echo']"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert "'echo_plugin:Echo' cannot be loaded; fix or uninstall it (ModuleNotFoundError" in done.stderr


@pytest.mark.parametrize("text", ["kd+discom_kd", "crodino_kd+0.5*fitnet"])
def test_a_method_with_a_teacher_of_its_own_is_not_added_to_those_that_use_the_runs(text: str) -> None:
    with pytest.raises(
        CmkdError, match="trains a teacher of its own and cannot be added to methods that use the run's"
    ):
        from_expression(text, NARROW, NARROW)


def test_what_reads_no_teacher_may_be_added_to_anything() -> None:
    assert taught_by("self_training+uniformity") == "none" == taught_by("0.1*none+self_training")
    assert taught_by("kd+uniformity") == "" == taught_by("uniformity")
    with pytest.raises(CmkdError, match="self_training has its own teacher"):
        taught_by("self_training+teacher_init")
    from_expression("kd+0.1*uniformity", NARROW, WIDE).check_logits_suffice()
    with pytest.raises(CmkdError, match="rkd reads embeddings"):
        from_expression("kd+rkd", NARROW, WIDE).check_logits_suffice()


def test_an_own_method_without_a_kind_is_a_control_and_an_unknown_hook_is_named(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    class Own(Method):
        required_hooks: ClassVar[dict[str, str]] = {"on_epoch_start": "it counts"}

        def forward(self, student: Output, teacher: Output, batch: Batch) -> dict[str, Tensor]:
            return {}

    assert Own.kind == "control"
    monkeypatch.setattr(type(METHODS), "find", lambda *_: Own)
    with pytest.raises(CmkdError, match="required_hooks names 'on_epoch_start'; the hooks are setup, on_train_start"):
        create("own", NARROW, WIDE)


def test_a_method_of_two_views_cannot_be_added_to_others() -> None:
    assert from_expression("2*fixmatch", NARROW, NARROW).strong_view
    with pytest.raises(CmkdError, match="fixmatch compares two views of the student"):
        from_expression("kd+fixmatch", NARROW, NARROW)
