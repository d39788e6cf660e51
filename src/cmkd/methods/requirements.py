"""Checks of a method's options and of the shapes of student and teacher."""

from __future__ import annotations

from collections.abc import Sequence

from cmkd.errors import CmkdError
from cmkd.types import Spec


class Requirements:
    """Checks for the constructor of a method; each raises a `CmkdError` that says what to change.

    Attributes:
        student_spec: shapes of the student's output.
        teacher_spec: shapes of the teacher's output.
    """

    name: str
    student_spec: Spec
    teacher_spec: Spec

    def require_positive(self, **values: float) -> None:
        """Refuse hyperparameters that are not above 0."""
        for name, value in values.items():
            if not value > 0:
                raise CmkdError(f"{self.name}: {name} must be above 0, got {value}")

    def require_classes(self, least: int) -> None:
        """Refuse a student with fewer than `least` classes, for which the terms would be constant."""
        if self.student_spec.classes < least:
            raise CmkdError(
                f"{self.name}: needs at least {least} classes, got {self.student_spec.classes}: with fewer its term is "
                "constant; use a method such as kd"
            )

    def require_channels(self, least: int, channels: int) -> None:
        """Refuse a teacher whose number of `channels` is below `least`, for which the terms would be constant."""
        if channels < least:
            raise CmkdError(
                f"{self.name}: needs a teacher with at least {least} channels, got {channels}: with fewer its term is "
                "constant; use a method such as fitnet"
            )

    def require_same_classes(self) -> None:
        """Refuse a teacher that was trained on different classes."""
        if not self.student_spec.same_classes(self.teacher_spec):
            ours, theirs = self.student_spec.classes, self.teacher_spec.classes
            counted = f"{ours} classes and the teacher {theirs}" if ours != theirs else f"{ours} classes of other names"
            raise CmkdError(
                f"{self.name}: the student has {counted}, so logits cannot be matched; use a method that compares "
                "features or relations, such as pkt or ds(kd_weight=0,independence_features=embedding)"
            )

    def require_stage(self, stage: int, *, of_teacher: bool = True) -> tuple[int, ...]:
        """Return the channels of one map for student and teacher; refuse specs that lack this map.

        Args:
            stage: index of the map, shallow to deep; negative values count from the deepest.
            of_teacher: whether the teacher's map is read too.
        """
        count, specs = max(stage + 1, -stage), (self.student_spec, self.teacher_spec)[: 1 + of_teacher]
        if 0 < min(len(spec.map_shapes) for spec in specs) < count:
            raise CmkdError(
                f"{self.name}: stage {stage} needs {count} feature maps, {self._held(of_teacher)}; choose stage=-1, "
                "the deepest map"
            )
        self.require_maps(count, of_teacher=of_teacher)
        return tuple(spec.map_shapes[stage][0] for spec in specs)

    def _held(self, of_teacher: bool) -> str:
        held = f"student has {len(self.student_spec.map_shapes)}"
        return held + f" and teacher {len(self.teacher_spec.map_shapes)}" * of_teacher

    def smaller_size(self, stage: int) -> tuple[int, int]:
        """Return the smaller height and the smaller width of a stage's two maps, as `match_resolution` uses them."""
        (_, *ours), (_, *theirs) = self.student_spec.map_shapes[stage], self.teacher_spec.map_shapes[stage]
        return min(ours[0], theirs[0]), min(ours[1], theirs[1])

    def require_positions(self, stages: Sequence[int]) -> None:
        """Refuse stages whose smaller maps all have one position, for terms that compare patterns over positions."""
        if all(max(self.smaller_size(stage)) == 1 for stage in stages):
            raise CmkdError(
                f"{self.name}: compares positions, but the smaller map of teacher and student has only one; use models "
                "with larger maps, or a method that compares features or relations, such as fitnet or sp"
            )

    def require_maps(self, count: int = 1, *, of_teacher: bool = True) -> None:
        """Refuse a student with fewer than `count` feature maps, and with `of_teacher` also such a teacher."""
        specs = (self.student_spec, self.teacher_spec)[: 1 + of_teacher]
        if min(len(spec.map_shapes) for spec in specs) < count:
            raise CmkdError(
                f"{self.name}: needs at least {count} feature maps, {self._held(of_teacher)}; choose a model with "
                f"{'feature maps' if count == 1 else 'more feature maps'}, or name those of your own with cmkd.wrap"
            )
