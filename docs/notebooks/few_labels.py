# %% [markdown]
# # Few labels, many pairs
#
# Labels are expensive, but pairs are cheap: two sensors that look at the same place produce them automatically. Here,
# teacher and students learn from the same few labels. All other training pairs have none and serve only distillation.

# %%
from pathlib import Path
from tempfile import mkdtemp

import matplotlib.pyplot as plt

import cmkd

home = Path(mkdtemp())


def run(labels: int | None, methods: str) -> dict[str, float]:
    """Train a teacher and students, and return the accuracy of each on the test pairs."""
    config = cmkd.RunConfig(
        data="digits",
        out=home / f"labels-{labels}",
        methods=methods,
        seeds=1,
        epochs=8,
        labels=labels,
        trainer=cmkd.TrainerConfig(progress="none"),
    )
    results = cmkd.Experiment(config, page=False).run()
    return {row["method"]: row["mean"] for row in results["summary"]} | {"teacher": results["teacher"]["test_accuracy"]}


# %% [markdown]
# ## 20 and 160 of 1,077 labels
#
# `none` is the student alone. The dotted line is the student alone with every label. It shows what the missing labels
# would be worth.

# %%
counts = (20, 160)
found = {count: run(count, "none,kd") for count in counts}
ceiling = run(None, "none")["none"]

figure, axis = plt.subplots(figsize=(6, 3))
for method, color in (("teacher", "#999999"), ("kd", "#228833"), ("none", "#4477aa")):
    axis.plot(counts, [found[count][method] for count in counts], "o-", color=color, label=method)
axis.axhline(ceiling, color="#4477aa", linestyle=":", label="none, all labels")
axis.set(xscale="log", xlabel="labels", ylabel="test accuracy", ylim=(0, 1))
axis.set_xticks(counts, [str(count) for count in counts])
axis.legend(frameon=False)
for count, row in found.items():
    print(f"{count:4} labels: teacher {row['teacher']:.1%}, alone {row['none']:.1%}, kd {row['kd']:.1%}")
print(f"all labels: alone {ceiling:.1%}")

# %% [markdown]
# The gap between the two lower curves is what a teacher gives. It is wide when labels are few, and closes as their
# number grows. One seed and 8 epochs show the shape. For reliable figures, use more seeds and train to convergence:
#
# ```
# cmkd run --data digits --labels 40 --methods none,self_training,kd,ds,all_labels --seeds 5 --out runs/few
# ```
#
# Keep `self_training` in such a table. It uses the same unlabeled pairs without any teacher, so a skeptic would try
# it first.
