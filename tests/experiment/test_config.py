"""The configuration of a run: one checker for Python, YAML and the command line, and nothing lost on the way."""

from __future__ import annotations

from dataclasses import FrozenInstanceError, replace
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from torch import nn

from cmkd import ModelConfig, OptimizerConfig, RunConfig, StudentConfig, TeacherConfig, TrainerConfig
from cmkd.cli.parsing import value
from cmkd.cli.run import parse, usage
from cmkd.errors import CmkdError
from cmkd.experiment.resolve import resolve
from cmkd.options import from_text


def test_saved_is_what_is_loaded(tmp_path: Path) -> None:
    config = RunConfig(
        data="digits(severity=0.3)",
        out=tmp_path / "out",
        methods=("none", "kd(temperature=2, weight=3)+0.5*ds"),
        teacher=TeacherConfig(size=16, checkpoint=Path("teacher.safetensors")),
        student=StudentConfig(model="thin_resnet(width=8)", label_fraction=0.25),
        optimizer=OptimizerConfig(name="sgd", learning_rate=0.1),
        trainer=TrainerConfig(batch_size=16),
        method_options={"ds": {"independence_weight": 2.0}},
    )
    config.save(tmp_path / "config.yaml")
    assert RunConfig.load(tmp_path / "config.yaml") == config


def test_the_home_of_the_user_is_expanded_in_every_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "config.yaml").write_text("{data: digits, out: ~/y, teacher: {checkpoint: ~/a.safetensors}}")
    loaded, there = RunConfig.load(tmp_path / "config.yaml"), tmp_path / "a.safetensors"
    assert (loaded.out, loaded.teacher.checkpoint) == (tmp_path / "y", there)
    assert RunConfig("digits", Path("~/x")).out == RunConfig("digits", "~/x").out == tmp_path / "x"  # type: ignore[arg-type]
    assert parse(["--config", "~/config.yaml", "--out=~/x"]).out == tmp_path / "x"
    assert from_text("~/x", Path | None) == value("--out", "~/x", Path) == tmp_path / "x"


def test_configurations_are_checked_like_dictionaries() -> None:
    given = RunConfig(data="digits", out=Path("there"), teacher=ModelConfig(checkpoint="a.safetensors"))  # type: ignore[arg-type]
    assert given.teacher == TeacherConfig(checkpoint=Path("a.safetensors"))
    with pytest.raises(CmkdError, match=r"trainer\.batch_size must be a whole number"):
        RunConfig(data="digits", out=Path("there"), trainer=TrainerConfig(batch_size="many"))  # type: ignore[arg-type]


def test_nested_dictionaries_become_configurations(tmp_path: Path) -> None:
    config = RunConfig(
        **yaml.safe_load("{data: digits, out: there, student: {label_fraction: 0.5}, methods: [kd, ds]}")
    )
    assert config.student == StudentConfig(label_fraction=0.5) and config.out == Path("there")
    assert config.expressions == ("kd", "ds")


def test_a_configuration_does_not_change() -> None:
    config = RunConfig(data="digits", out="out")
    with pytest.raises(FrozenInstanceError):
        config.seeds = 2  # type: ignore[misc]
    with pytest.raises(FrozenInstanceError):
        config.teacher.size = 2  # type: ignore[misc]


def test_a_model_alone_stands_for_its_configuration() -> None:
    module = nn.Linear(2, 2)
    assert RunConfig(data="digits", out="out", teacher=module).teacher.model is module
    assert RunConfig(data="digits", out="out", student="resnet18").student.model == "resnet18"


WRONG = [
    ({"seed": "zero"}, "seed must be a whole number, got 'zero'"),
    ({"seeds": 0}, "seeds is 0; it must be at least 1"),
    ({"trainer": {"batch_size": 1}}, "trainer.batch_size is 1; it must be at least 2"),
    ({"trainer": {"device": 2}}, "unknown option 'trainer.device': did you mean 'trainer.devices'"),
    ({"trainer": 3}, "trainer must be a group of options"),
    ({"optimizer": {"name": "adam"}}, "optimizer.name must be 'adamw' or 'sgd', got 'adam'"),
    ({"optimizer": {"ema": 1.0}}, "optimizer.ema is 1.0"),
    ({"student": {"label_fraction": 0}}, "student.label_fraction is 0; it must be above 0 and at most 1"),
    ({"label_fraction": 1.5}, "label_fraction is 1.5; it must be above 0 and at most 1"),
    ({"labels": 1}, "labels is 1; it must be at least 2"),
    ({"seed": -1}, "seed is -1; it must be at least 0 and at most 2147483647"),
    ({"optimizer": {"learning_rate": -1.0}}, "optimizer.learning_rate is -1.0; it must be above 0"),
    ({"optimizer": {"momentum": 5}}, "optimizer.momentum is 5; it must be at least 0 and below 1"),
    ({"optimizer": {"warmup": 5}}, "optimizer.warmup is 5; it must be at least 0 and at most 1"),
    ({"optimizer": {"clip_norm": -1}}, "optimizer.clip_norm is -1; it must be at least 0"),
    ({"augmentation": {"drop": 9}}, "augmentation.drop is 9; it must be at least 0 and below 1"),
    ({"trainer": {"cache_gb": -1}}, "trainer.cache_gb is -1; it must be at least 0"),
    ({"labels": 40, "label_fraction": 0.1}, "labels is 40 and label_fraction is 0.1; give one of them"),
    ({"methods": "kd,kd"}, "lists a method twice"),
    ({"methods": []}, "methods is empty"),
    ({"epoch": 3}, "did you mean 'epochs'"),
]


@pytest.mark.parametrize(("values", "says"), WRONG)
def test_a_wrong_value_is_refused_alike_everywhere(values: dict[str, object], says: str, tmp_path: Path) -> None:
    base = {"data": "digits", "out": "out"}
    file = tmp_path / "config.yaml"
    file.write_text(yaml.safe_dump(base | values))
    with pytest.raises(CmkdError) as from_yaml:
        RunConfig.load(file)
    assert says in str(from_yaml.value)
    with pytest.raises(CmkdError) as from_flag:
        parse(["--config", str(file)])
    assert str(from_flag.value) == str(from_yaml.value)
    if "epoch" not in values:  # an unknown keyword is Python's own TypeError
        with pytest.raises(CmkdError) as from_python:
            RunConfig(**base | values)  # type: ignore[arg-type]
        assert str(from_python.value) == str(from_yaml.value)


@pytest.mark.parametrize(
    ("text", "says"), [("- a list", "holds no options"), ("a: [", "cannot read"), (None, "does not exist")]
)
def test_a_file_that_is_no_configuration_is_one_line(text: str | None, says: str, tmp_path: Path) -> None:
    if text is not None:
        (tmp_path / "config.yaml").write_text(text)
    with pytest.raises(CmkdError, match=says) as caught:
        RunConfig.load(tmp_path / "config.yaml")
    assert "\n" not in str(caught.value)


def test_flags_come_before_the_file_and_methods_have_their_own_namespace(tmp_path: Path) -> None:
    file = tmp_path / "config.yaml"
    file.write_text("{data: digits, out: there, seeds: 2, teacher: resnet18, method_options: {kd: {weight: 3.0}}}")
    words = ["--config", str(file), "--seeds=5", "--teacher.size", "32", "--devices", "2"]
    words += ["--method_options.kd.temperature", "2", "--method_options.mlld.temperatures=[1, 2.5]"]
    config = parse([*words, "--methods", "kd(weight=3),mlld,none"])
    assert config.seeds == 5 and config.trainer.devices == 2
    assert config.teacher == TeacherConfig(model="resnet18", size=32)
    assert config.method_options == {"kd": {"weight": 3.0, "temperature": 2.0}, "mlld": {"temperatures": [1.0, 2.5]}}
    assert config.expressions == ("kd(weight=3)", "mlld", "none")


@pytest.mark.parametrize(
    ("text", "flag", "value"),
    [
        ("trainer:", "--trainer.threads", 2),
        ("teacher:", "--teacher.size", 32),
        ("method_options:", "--method_options.kd.weight", 2.0),
        ("method_options: {kd: }", "--method_options.kd.weight", 2.0),
    ],
)
def test_a_flag_of_a_group_that_a_file_leaves_empty(text: str, flag: str, value: float, tmp_path: Path) -> None:
    (tmp_path / "config.yaml").write_text(f"data: digits\nout: there\n{text}\n")
    found: Any = parse(["--config", str(tmp_path / "config.yaml"), flag, str(value)]).to_dict()
    for name in flag.lstrip("-").split("."):
        found = found[name]
    assert found == value


def test_a_flag_of_what_is_no_group_in_a_file(tmp_path: Path) -> None:
    (tmp_path / "config.yaml").write_text("{data: digits, out: there, trainer: 3}")
    with pytest.raises(CmkdError, match=r"trainer must be a group of options .* got 3"):
        parse(["--config", str(tmp_path / "config.yaml"), "--trainer.threads", "2"])


def test_options_of_an_own_method_in_a_package() -> None:
    own = "cmkd.methods.kd:KD"
    config = parse(["--data", "digits", "--out", "out", "--methods", own, f"--method_options.{own}.temperature", "2"])
    assert config.method_options == {own: {"temperature": 2.0}}


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["--teacher.sise", "3"], "unknown option --teacher.sise: did you mean --teacher.size"),
        (["--lr", "0.1"], "unknown option --lr: --help lists all options"),
        (["--method_options.kb.weight", "3"], "unknown method 'kb': did you mean 'kd'"),
        (["--method_options.kd.weight"], "needs a value"),
        (["--methods=kd", "--method_options.ds.kd_weight", "2"], "ds is not in --methods kd; add it, or leave"),
        (
            ["--methods=kd(temperature=3)", "--method_options.kd.temperature=2"],
            r"has no effect: --methods kd\(temperature=3\) sets temperature itself; give it in one place",
        ),
        (["--optimizer.momentum", "0.5"], "only sgd has it; leave it out, or name sgd"),
        (["--method_options.kd", "3"], "names no option of a method; write --method_options.NAME.OPTION VALUE"),
        (["--method_options.pk.mine:Own", "3"], "names no option of a method"),
        (["--seeds"], "expected one argument"),
        (["stray"], "unexpected argument 'stray'"),
    ],
)
def test_a_wrong_flag_is_one_line(words: list[str], says: str) -> None:
    with pytest.raises(CmkdError, match=says):
        parse(["--data", "digits", "--out", "out", *words])


def test_help_fits_two_screens_and_knows_every_option() -> None:
    text = usage()
    assert text.count("\n") < 80
    config = RunConfig(data="digits", out="out").to_dict()
    for name, held in config.items():
        flags = [f"--{name}.{inner}" for inner in held] if isinstance(held, dict) else [f"--{name}"]
        assert all(flag in text or flag.replace("student", "teacher") in text for flag in flags), flags


def test_replace_checks_again() -> None:
    with pytest.raises(CmkdError, match="seeds is 0"):
        replace(RunConfig(data="digits", out="out"), seeds=0)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_a_gpu_that_is_not_there_is_refused_before_the_data(tmp_path: Path) -> None:
    asked = RunConfig(data="nowhere", out=tmp_path, trainer=TrainerConfig(accelerator="gpu", devices=2))
    with pytest.raises(CmkdError, match=r"^--devices 2 needs as many GPUs, but torch finds 0; use fewer"):
        resolve(asked)


def test_weights_of_any_type_are_settings(tmp_path: Path) -> None:
    model = nn.Sequential(nn.Flatten(), nn.Linear(64, 10))
    model.register_buffer("scale", torch.ones(1, dtype=torch.bfloat16))
    asked = RunConfig(data="digits", out=tmp_path, methods="none", student=StudentConfig(model=model))
    before = resolve(asked).settings()["student"]["weights"]
    model.scale += 1
    assert resolve(asked).settings()["student"]["weights"] != before
