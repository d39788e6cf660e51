"""The student alone with all labels: the control that says what the hidden ones would give."""

from __future__ import annotations

from cmkd.methods.none import NoDistillation


class AllLabels(NoDistillation):
    """The student without a teacher, with every label of the data, where the run hides some; no terms.

    It is the same as `none` where all labels are visible and right. It is a control and never counts as a gain.
    """

    name = "all_labels"
    sees_all_labels = True
