"""A user's own modules and data are trained in Python and by the command, loaded again, or refused if unsuitable."""

from __future__ import annotations

import runpy
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from lightning.pytorch.callbacks import Callback
from torch import Tensor, nn

import cmkd
from cmkd import CmkdError, Experiment, ModelConfig, RunConfig, TeacherConfig, TrainerConfig, load_model, models, wrap
from cmkd.cli import main
from cmkd.data import Pack
from cmkd.data.map_style import check_made_from, from_dataset
from cmkd.types import Modality

EXAMPLES = Path(__file__).parents[2] / "examples"
QUIET = TrainerConfig(logger="none", progress="none", batch_size=32)


class Own(nn.Module):
    """A small convolutional classifier."""

    def __init__(self, classes: int = 3, width: int = 4) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Conv2d(1, width, 3, padding=1), nn.BatchNorm2d(width), nn.ReLU())
        self.head = nn.Linear(width, classes)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.body(x).mean((2, 3)))


class Pairs:
    """Data set of ninety pairs of bright and noisy squares."""

    def __len__(self) -> int:
        return 90

    def __getitem__(self, index: int) -> dict[str, object]:
        generator = np.random.default_rng(index)
        rich = generator.normal(index % 3, 0.2, (1, 8, 8)).astype(np.float32)
        poor = (rich + generator.normal(0, 1, rich.shape)).astype(np.float32)
        split = ("train", "train", "validation", "test")[index // 3 % 4]
        return {"rich": rich, "poor": poor, "label": index % 3, "split": split}


class Rooted(Pairs):
    def __init__(self, root: int) -> None:
        self.root = root


class Broken(Own):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return {}["a"]


def broken() -> nn.Module:
    return {}["a"]


def config(out: Path, **changes: object) -> RunConfig:
    given: dict[str, object] = {
        "data": Pairs(), "out": out, "methods": "none,fitnet(stage=-1)", "seeds": 1, "epochs": 1, "trainer": QUIET,
        "teacher": TeacherConfig("rich", wrap(Own(), feature_maps=["body"])),
        "student": ModelConfig("poor", wrap(Own(width=3), feature_maps=["body.0"])),
    }  # fmt: skip
    return RunConfig(**given | changes)  # type: ignore[arg-type]


class Count(Callback):
    """Callback that counts epochs."""

    def __init__(self) -> None:
        self.epochs = 0

    def on_train_epoch_end(self, *_: object) -> None:
        self.epochs += 1


def test_own_modules_and_data_train_load_and_predict(tmp_path: Path) -> None:
    asked = config(tmp_path / "out")
    teacher = {name: value.clone() for name, value in asked.teacher.model.state_dict().items()}
    first, second = Count(), Count()
    results = Experiment(asked, (first, second)).run()
    assert (first.epochs, second.epochs) == (3, 3)
    assert results["complete"] and (tmp_path / "out" / "report.html").exists()
    assert asked == config(tmp_path / "out", data=asked.data, teacher=asked.teacher, student=asked.student)
    for name, value in asked.teacher.model.state_dict().items():  # the caller's module is not trained
        torch.testing.assert_close(value, teacher[name], rtol=0, atol=0)

    path = tmp_path / "out" / results["students"][1]["checkpoint"]
    with pytest.raises(CmkdError, match="holds weights of your own module"):
        load_model(path)
    with pytest.raises(CmkdError, match="do not fit"):
        load_model(path, module=Own(width=5))
    radar = torch.from_numpy(np.stack([Pairs()[i]["poor"] for i in range(6)]))
    outputs = []
    for module in (Own(width=3), wrap(Own(width=3)), lambda classes: Own(classes, width=3)):
        model, about = load_model(path, module=module)
        outputs.append(model(radar))
        assert about["classes"] == ["0", "1", "2"]
    assert outputs[0].feature_maps[0].shape == (6, 3, 8, 8) and outputs[0].embedding.shape == (6, 3)
    for output in outputs[1:]:
        torch.testing.assert_close(output.logits, outputs[0].logits, rtol=0, atol=0)


@pytest.mark.usefixtures("without_page")
def test_a_run_with_own_modules_resumes_and_other_weights_do_not_enter(tmp_path: Path) -> None:
    asked = config(tmp_path / "out", methods="none")
    Experiment(asked).run()
    more = Experiment(cmkd.RunConfig(**{**vars(asked), "methods": "none,fitnet(stage=-1)"})).run()
    assert [s["method"] for s in more["students"]] == ["none", "fitnet(stage=-1)"]
    torch.manual_seed(1)
    with pytest.raises(CmkdError, match=r"was started with student\.weights="):
        Experiment(config(tmp_path / "out", teacher=asked.teacher)).run()


@pytest.mark.usefixtures("without_page")
def test_data_of_ones_own_take_options(tmp_path: Path) -> None:
    asked = config(tmp_path / "out", data="experiment.test_own:Rooted(root=3)", methods="none")
    assert Experiment(asked).run()["complete"]


def test_a_folder_made_from_other_data_is_not_entered(tmp_path: Path) -> None:
    class Fewer(Pairs):
        def __len__(self) -> int:
            return 60

    Experiment(config(tmp_path / "out", methods="none")).run()
    with pytest.raises(CmkdError, match="made from 90 pairs, now there are 60"):
        Experiment(config(tmp_path / "out", data=Fewer())).run()

    class Changed(Pairs):
        def __init__(self, name: str, random: bool = False) -> None:
            self.name, self.random = name, random

        def __getitem__(self, index: int) -> dict[str, object]:
            item, other = super().__getitem__(index), super().__getitem__((index + 1) % 90)
            drawn = np.random.default_rng().normal(size=(1, 8, 8)).astype(np.float32)
            return item | {self.name: drawn if self.random else other[self.name]}

    for name in ("poor", "label"):
        with pytest.raises(CmkdError, match="made from another data set: item 0 has changed; choose another --out"):
            Experiment(config(tmp_path / "out", data=Changed(name))).run()
    drawn = Changed("poor", random=True)
    check_made_from(Pack.open(tmp_path / "out" / "data"), drawn)  # random items cannot be compared, so accepted


def test_a_changed_label_is_found_where_the_names_of_classes_are_digits(tmp_path: Path) -> None:
    class Named(Pairs):
        classes = ("2", "1", "0")

        def __init__(self, shift: int = 0) -> None:
            self.shift = shift

        def __getitem__(self, index: int) -> dict[str, object]:
            return super().__getitem__(index) | {"label": (index + self.shift) % 3}

    pack = from_dataset(Named(), tmp_path / "pack")
    check_made_from(pack, Named())
    with pytest.raises(CmkdError, match="item 0 has changed"):  # from position 0, named "2", to position 2
        check_made_from(pack, Named(shift=2))


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"teacher": TeacherConfig("rich", Own(classes=4))}, "has 4 classes, but the data have 3"),
        ({"teacher": TeacherConfig("rich", nn.Flatten())}, "no nn.Linear"),
        ({"teacher": TeacherConfig("rich", nn.Sequential(nn.Flatten(), nn.Linear(9, 3)))}, "fails on an input"),
        ({"teacher": TeacherConfig("rich", Broken())}, r"Broken fails on an input .* \(KeyError: 'a'\)"),
        ({"teacher": TeacherConfig("rich", broken)}, r"broken cannot be called .* \(KeyError: 'a'\)"),
        ({"teacher": TeacherConfig("rich", 5)}, "a model must be a name"),
        ({"teacher": TeacherConfig("rich", lambda: 3)}, "a model must be a name"),
        ({"teacher": Own()}, "the teacher has no modality"),
        ({"teacher": TeacherConfig("rich", "no_module:Net")}, "cannot import 'no_module'"),
        ({"teacher": TeacherConfig("rich", "torch.nn:Linera")}, "did you mean 'Linear'"),
        ({"data": 5}, "data"),
        ({"data": "no_module:Pairs"}, "cannot import 'no_module'"),
        (
            {"data": "experiment.test_own:Rooted"},
            r"experiment.test_own:Rooted cannot be called with no options \(TypeE",
        ),
        ({"data": "experiment.test_own:Rooted(depth=3)"}, r"cannot be called with depth \(TypeError"),
        (
            {"methods": "crodino_kd", "teacher": TeacherConfig("rich", Own(), checkpoint=Path("a"))},
            "of its own: leave it",
        ),
    ],
)
def test_what_does_not_fit_is_one_line(changes: dict[str, object], says: str, tmp_path: Path) -> None:
    with pytest.raises(CmkdError, match=says) as caught:
        Experiment(config(tmp_path / "out", **changes)).run()
    assert "\n" not in str(caught.value)


def test_what_a_method_asks_of_the_student_is_asked_before_the_teacher_is_trained(tmp_path: Path) -> None:
    bare = Own(width=3)
    bare.head = nn.Linear(bare.head.in_features, bare.head.out_features, bias=False)
    with pytest.raises(CmkdError, match="simkd: the student's classifier must be one linear layer with a bias"):
        Experiment(config(tmp_path / "out", student=ModelConfig("poor", wrap(bare)), methods="simkd")).run()
    assert not (tmp_path / "out" / "teacher").exists()


def test_layers_are_named_or_refused() -> None:
    x = torch.zeros(2, 1, 8, 8)
    with pytest.raises(CmkdError, match="unknown layer of Own 'bodi'"):
        wrap(Own(), feature_maps=["bodi"])
    with pytest.raises(CmkdError, match="must return logits"):
        wrap(Own(), classifier="body.0")(x)
    unused = Own()
    unused.spare = nn.Linear(2, 2)
    with pytest.raises(CmkdError, match="layer 'spare' of Own did not run"):
        wrap(unused)(x)
    recurrent = nn.Sequential(nn.Flatten(2), nn.LSTM(64, 4), nn.Flatten())
    with pytest.raises(CmkdError, match=r"layer '1' must return a feature map .*, got tuple: name another layer"):
        wrap(recurrent, classifier="2", feature_maps=["1"])(x)
    output = wrap(unused, classifier="head", feature_maps=["body.0", "body"])(x)
    assert [m.shape for m in output.feature_maps] == [(2, 4, 8, 8)] * 2
    assert not unused.head._forward_pre_hooks  # hooks are removed after each call


def test_a_network_that_returns_more_than_its_logits_is_told_how_to_take_part() -> None:
    class Answer(Own):
        """Network that returns a dict, as those of transformers do."""

        def forward(self, x: torch.Tensor) -> dict[str, torch.Tensor]:  # type: ignore[override]
            return {"logits": super().forward(x)}

    with pytest.raises(
        CmkdError, match=r"Answer must return its logits as a tensor \(batch, classes\), got dict: give"
    ):
        wrap(Answer())(torch.zeros(2, 1, 8, 8))


def test_layers_that_work_in_place_leave_what_was_read_as_it_was() -> None:
    first, flat, head = nn.Conv2d(1, 4, 3), nn.Flatten(), nn.Sequential(nn.ReLU(inplace=True), nn.Linear(144, 3))
    x = torch.randn(2, 1, 8, 8)
    output = wrap(nn.Sequential(first, nn.ReLU(inplace=True), flat, head), feature_maps=["0"])(x)
    torch.testing.assert_close(output.feature_maps[0], first(x))
    output = wrap(nn.Sequential(first, flat, head), classifier="2")(x)
    torch.testing.assert_close(output.embedding, flat(first(x)))


def test_an_own_module_sees_standardized_inputs() -> None:
    seen = []

    class Look(Own):
        def forward(self, x: Tensor) -> Tensor:
            seen.append(x)
            return super().forward(x)

    modality = Modality("rich", "image", (1, 8, 8), "uint8", (10.0,), (2.0,))
    model = models.build(Look(), modality, classes=3)
    model(torch.full((2, 1, 8, 8), 14, dtype=torch.uint8))
    torch.testing.assert_close(seen[-1], torch.full((2, 1, 8, 8), 2.0))


def test_the_example_runs_and_so_does_its_command(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(EXAMPLES)
    monkeypatch.setattr(sys, "argv", ["own_models_and_data.py", str(tmp_path / "python")])
    runpy.run_path("own_models_and_data.py", run_name="__main__")
    assert "test accuracy" in capsys.readouterr().out
    words = (
        Path("own_models_and_data.py").read_text().split("    cmkd ")[1].split('"""')[0].replace("\\\n", " ").split()
    )
    words[words.index("runs/own")] = str(tmp_path / "command")
    words[words.index("--epochs") + 1] = "1"
    monkeypatch.setattr(sys, "path", [place for place in sys.path if place])  # as in a process of the command
    assert main(words) == 0 and (tmp_path / "command" / "report.html").exists()


def test_a_folder_keeps_the_labels_that_it_was_started_with(tmp_path: Path) -> None:
    pack = cmkd.data.from_dataset(Pairs(), tmp_path / "pack")
    small = {
        "teacher": TeacherConfig("rich", model="thin_resnet(width=4,stages=2)"),
        "student": ModelConfig("poor", model="thin_resnet(width=4,stages=2)"),
    }

    def run(data: Pack) -> None:
        config = RunConfig(data=data, out=tmp_path / "out", methods="none", seeds=1, epochs=1, trainer=QUIET, **small)  # type: ignore[arg-type]
        Experiment(config, page=False).run()

    run(pack.withhold(0.5))
    with pytest.raises(CmkdError, match="was started with"):
        run(pack)
