"""The student alone with all labels: the control that shows what the hidden labels would add."""

from __future__ import annotations

from cmkd.methods.none import NoDistillation


class AllLabels(NoDistillation):
    """The student without a teacher, trained with all labels even if the run hides some; no terms.

    It equals `none` if all labels are visible and correct. It is a control and never counts as a gain.
    """

    name = "all_labels"
    sees_all_labels = True
