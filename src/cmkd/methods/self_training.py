"""Self-training: learn from an earlier student on all pairs; shows what unlabeled pairs add without a teacher."""

from __future__ import annotations

from cmkd.methods.kd import KD
from cmkd.types import Spec


class SelfTraining(KD):
    """Learn, on the poor modality of all pairs, from soft predictions of a student trained alone with the same seed.

    A control: like distillation, it uses the pairs without a label, but it does not use the rich modality. A run first
    trains the student alone and passes its predictions, averaged over augmented views, as the teacher's output. In a
    training loop of your own, pass the output of such a student as `teacher`. The term is the same as in `kd`.

    The predictions stay soft, without a confidence threshold: our choice. The weight is the best of 0.1,
    0.3 and 1 on validation with a tenth of the labels.

    Args:
        temperature: softens both distributions.
        weight: factor of the term; the cross-entropy has weight 1.
    """

    name = "self_training"
    kind = "control"
    paper = "Xie, Luong, Hovy, Le 2020, CVPR, arXiv 1911.04252 (here one round, of one size and without its noise)"
    bibtex = """@inproceedings{xie2020self, title={Self-Training with Noisy Student Improves ImageNet Classification},
  author={Xie, Qizhe and Luong, Minh-Thang and Hovy, Eduard and Le, Quoc V.}, booktitle={CVPR}, year={2020}}"""
    taught_by = "none"

    def __init__(self, student: Spec, teacher: Spec, *, temperature: float = 1.0, weight: float = 0.1) -> None:
        super().__init__(student, teacher, temperature=temperature, weight=weight)
