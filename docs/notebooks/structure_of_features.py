# %% [markdown]
# # The structure of features
#
# Dimensional structure has two sides: do the channels of a feature space say different things, and are the samples
# spread over the hypersphere? Here both are measured for a teacher and for two students of the same few labels.

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
# Every stage of each model, from the first feature map to the logits.

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
# The correlation of the class probabilities over the pairs: white off the diagonal means that a channel says what no
# other does. A student that confuses two classes answers with both, and their channels are correlated.

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
# Uniformity is lower where features spread more evenly (Wang and Isola 2020). The accuracy of a linear probe says how
# much of the classes is in a stage.

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
# Read such figures as one run's. A structure that goes with a better student is an observation, and does not say that
# it is the cause. `cmkd analyze` draws the same for any run, with more measures and with what limits them.
