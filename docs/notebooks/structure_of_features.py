# %% [markdown]
# # The structure of features
#
# Dimensional structure has two sides: do the channels of a feature space say different things, and are the samples
# spread over the hypersphere? Here, both are measured for a teacher and two students, trained with the same few labels.

# %%
from pathlib import Path
from tempfile import mkdtemp

import matplotlib.pyplot as plt
import torch

import cmkd
from cmkd import structure
from cmkd.analysis.measure import stage_features

home = Path(mkdtemp())
config = cmkd.RunConfig(
    data="digits",
    out=home,
    methods="none,ds",
    seeds=1,
    epochs=15,
    labels=40,
    trainer=cmkd.TrainerConfig(progress="none"),
)
results = cmkd.Experiment(config, page=False).run()

# %% [markdown]
# ## Features of the validation pairs
#
# We read the features of every stage of each model, from the first feature map to the logits.

# %%
pack = cmkd.open_data("digits")
rows = pack.rows("validation", labeled=True)
target = torch.from_numpy(pack.index["label"].to_numpy()[rows].copy())
paths = {"teacher": home / "teacher" / "best.safetensors"}
paths |= {student["method"]: home / student["checkpoint"] for student in results["students"]}
features = {}
for name, path in paths.items():
    model, _ = cmkd.load_model(path)
    features[name] = {stage: torch.from_numpy(x) for stage, x in stage_features(model, pack, rows).items()}
print("stages:", ", ".join(features["teacher"]))

# %% [markdown]
# ## Channel-wise independence
#
# The figure shows the correlation of the class probabilities over the pairs. White off the diagonal means that a
# channel says what no other does. If a student confuses two classes, it answers with both, so their channels correlate.

# %%
figure, axes = plt.subplots(1, 3, figsize=(9, 3))
for axis, (name, stages) in zip(axes, features.items(), strict=True):
    matrix = structure.channel_correlation(stages["logits"].softmax(1))
    axis.imshow(matrix, cmap="RdBu_r", vmin=-1, vmax=1)
    off = matrix[~torch.eye(len(matrix), dtype=torch.bool)].abs().mean()
    axis.set(title=f"{name}: mean |r| = {off:.2f}", xlabel="class", xticks=[], yticks=[])

# %% [markdown]
# ## Uniformity and discriminability, stage by stage
#
# Uniformity is lower when features spread more evenly (Wang and Isola 2020). The accuracy of a linear probe says how
# well the classes can be read from a stage.

# %%
figure, axes = plt.subplots(1, 2, figsize=(9, 3))
measures = ("uniformity_centered", "linear_probe_accuracy")
for name, stages in features.items():
    found = [structure.describe(x, target) for stage, x in stages.items() if stage != "logits"]
    for axis, measure in zip(axes, measures, strict=True):
        axis.plot([one[measure] for one in found], "o-", label=name)
        axis.set(title=measure.replace("_", " "), xticks=range(len(found)), xlabel="stage, shallow to deep")
axes[0].legend(frameon=False)
for student in results["students"]:
    print(f"{student['method']}: test accuracy {student['test_accuracy']:.1%}")

# %% [markdown]
# These figures describe one run. That a structure goes with a better student is an observation, not proof that it is
# the cause. `cmkd analyze` draws the same figures for any run, with more measures and their limitations.
