"""Share a student on the Hugging Face Hub, or in a folder with the same layout, with the hub's own mixin."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any, Self

from cmkd.deploy.recommend import CARD
from cmkd.deploy.student import STUDENT, Student, load_student, model_file
from cmkd.errors import CmkdError, in_one_line, needs_extra
from cmkd.io import atomic, write_json, write_text
from cmkd.markdown import escape
from cmkd.models.checkpoint import read_about

with needs_extra("hub", "the Hugging Face Hub"):
    from huggingface_hub import EvalResult, ModelCard, ModelCardData, ModelHubMixin, snapshot_download

LIBRARY = "cmkd"
PAGE = "README.md"
"""Name of the model card on the hub."""
_TASKS = {"image": "image-classification", "vector": "tabular-classification"}
"""Kind of a modality -> the hub's name of the task."""


class HubStudent(ModelHubMixin):
    """A student's file and its model card, with the hub's methods ``push_to_hub`` and ``save_pretrained``.

    A repository holds ``student.safetensors``, ``README.md`` (the model card, with the metadata that the hub indexes)
    and ``config.json`` (the metadata of the model's file). No pickle is written or read.

    Args:
        path: a run's folder, which stands for the student that the run recommends; a folder of ``save_pretrained``; or
            a ``.safetensors`` file of a model.
        license: license of the weights, by its name on the hub (``cc-by-4.0``); by default the license on the card at
            `path`, if it states one.

    Raises:
        CmkdError: if there is no such file, or it is damaged or holds something else.

    Example:
        >>> HubStudent("runs/ships", license="cc-by-4.0").push_to_hub("me/ships")  # doctest: +SKIP
        >>> HubStudent.from_pretrained("me/ships").load().predict("tomorrow/ship.png")  # doctest: +SKIP
    """

    def __init__(self, path: Path | str, *, license: str | None = None) -> None:
        self.path = model_file(path)
        if self.path.suffix == ".onnx":
            raise CmkdError(f"'{path}': push the .safetensors file that it was exported from instead")
        self.license = license
        self.about = read_about(self.path)

    def load(self, *, device: str = "auto", module: object = None) -> Student:
        """Load the student for use; arguments as for `load_student`."""
        return load_student(self.path, device=device, module=module)

    @classmethod
    def from_pretrained(cls, pretrained_model_name_or_path: str | Path, **options: Any) -> Self:  # noqa: ANN401
        """Download a repository, or open a folder of ``save_pretrained``.

        Args:
            pretrained_model_name_or_path: a folder, or the repository's name (``me/ships``).
            options: options of the hub's mixin, such as ``revision``, ``token`` and ``local_files_only``.

        Raises:
            CmkdError: if there is no such folder or repository, it holds no student, or the hub cannot be reached.
        """
        with in_one_line(f"cannot load '{pretrained_model_name_or_path}', which is not a folder, from the hub"):
            return super().from_pretrained(pretrained_model_name_or_path, **options)

    def push_to_hub(self, repo_id: str, **options: Any) -> str:  # noqa: ANN401
        """Upload the student with its model card, and return the address of the commit.

        Args:
            repo_id: the repository's name (``me/ships``); it is created if there is none.
            options: ``private``, ``token``, ``branch``, ``commit_message`` and more, as in the hub's mixin.

        Raises:
            CmkdError: if the hub cannot be reached, or refuses the upload.
        """
        with in_one_line(f"cannot push to '{repo_id}'"):
            return super().push_to_hub(repo_id, **options)

    def generate_model_card(self, *_: object, **__: object) -> ModelCard:
        """Return the student's model card with the metadata that the hub indexes."""
        text, license = self._card_beside()
        task, accuracy = _TASKS.get(self.about["modality"]["kind"]), self.about.get("test_accuracy")
        data, results = str(self.about.get("data", {}).get("name", "")), None
        if accuracy is not None:
            measured = {"accuracy": accuracy, "expected calibration error": self.about["test"]["calibration_error"]}
            results = [
                EvalResult(task or "other", data, data, name, value, dataset_split="test")
                for name, value in measured.items()
            ]
        about = ModelCardData(
            library_name=LIBRARY,
            tags=["knowledge-distillation", "cross-modal", "model_hub_mixin"],
            license=self.license or license,
            pipeline_tag=task,
            model_name=f"{data} student",
            eval_results=results,
        )
        return ModelCard(f"---\n{about.to_yaml()}\n---\n\n{text.lstrip()}")

    def _card_beside(self) -> tuple[str, str | None]:
        """Return text and license of the card beside the file, which comes from a run or a repository."""
        if self.path.name == STUDENT and (run := self.path.with_name(CARD)).is_file():
            return run.read_text(encoding="utf-8"), None
        if self.path.name == STUDENT and (page := self.path.with_name(PAGE)).is_file():
            card = ModelCard(page.read_text(encoding="utf-8"), ignore_metadata_errors=True)
            return card.text, card.data.get("license")
        return f"# A classifier of {escape(self.about['modality']['name'])} samples\n", None

    def _save_pretrained(self, save_directory: Path) -> None:
        card = str(self.generate_model_card())  # before any file is replaced: the folder may be this student's
        with atomic(save_directory / STUDENT) as temporary:
            shutil.copyfile(self.path, temporary)
        write_json(save_directory / "config.json", self.about)
        write_text(save_directory / PAGE, card)

    @classmethod
    def _from_pretrained(cls, *, model_id: str, license: str | None = None, **options: Any) -> Self:  # noqa: ANN401
        if Path(model_id).is_dir():
            return cls(model_id, license=license)
        folder = Path(snapshot_download(model_id, allow_patterns=[STUDENT, PAGE], **options))
        if not (folder / STUDENT).is_file():
            raise CmkdError(f"the repository '{model_id}' holds no {STUDENT}: push one with HubStudent")
        return cls(folder, license=license)
