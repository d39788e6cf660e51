# %% [markdown]
# # Your own data
#
# This notebook goes from a folder of paired files to predictions on new files. Its files are made from scikit-learn's
# digits: a sharp image is the rich sensor, and a noisy one the poor sensor. Replace `pairs` with your own folder.

# %%
from pathlib import Path
from tempfile import mkdtemp

import matplotlib.pyplot as plt
import numpy as np
from PIL import Image
from sklearn.datasets import load_digits

import cmkd

home = Path(mkdtemp())
images, labels = load_digits(n_class=5, return_X_y=True)
order = np.random.default_rng(0).permutation(len(labels))
images, labels = images[order], labels[order]
sharp = (images.reshape(-1, 8, 8) * 15).astype(np.uint8)
noise = np.random.default_rng(0).normal(0, 90, sharp.shape)
noisy = np.clip(sharp + noise, 0, 255).astype(np.uint8)

# %% [markdown]
# ## The layout
#
# Each modality has a folder with a folder for each class in it. The two files of a pair share a name. The last 60 noisy
# images are kept out of the training data: they are tomorrow's files, and nobody has a sharp image of them.

# %%
for number, label in enumerate(labels[:-60]):
    for modality, stack in (("sharp", sharp), ("noisy", noisy)):
        file = home / "pairs" / modality / f"digit_{label}" / f"{number:04d}.png"
        file.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(stack[number]).save(file)
incoming = home / "incoming"
incoming.mkdir()
for number in range(len(labels) - 60, len(labels)):
    Image.fromarray(noisy[number]).save(incoming / f"{number:04d}.png")

figure, axes = plt.subplots(2, 8, figsize=(8, 2.2))
for column in range(8):
    for row, stack in enumerate((sharp, noisy)):
        axes[row, column].imshow(stack[column], cmap="gray")
        axes[row, column].set_axis_off()
axes[0, 0].set_title("sharp", loc="left")
axes[1, 0].set_title("noisy", loc="left")
# %% [markdown]
# ## Train
#
# The teacher sees the sharp images, and the students see the noisy ones. 40 pairs have a label; all others help only
# the distillation. `none` is the student without a teacher, against which the gain of a method is measured.

# %%
config = cmkd.RunConfig(
    data=str(home / "pairs"),
    out=home / "run",
    methods="none,ds",
    seeds=1,
    epochs=12,
    labels=40,
    teacher=cmkd.TeacherConfig("sharp"),
    student=cmkd.StudentConfig("noisy"),
    trainer=cmkd.TrainerConfig(progress="none"),
)
results = cmkd.Experiment(config, page=False).run()
print(f"teacher on sharp images: {results['teacher']['test_accuracy']:.1%} of the test pairs")
for row in results["summary"]:
    print(f"{row['method']:>4} on noisy images: {row['mean']:.1%}")

# %% [markdown]
# One seed gives a first impression. `seeds=5` gives an interval, and `page=True` writes the report.
#
# ## Use
#
# The run recommends one student, chosen on the validation pairs, with calibrated probabilities. That student needs
# only the noisy file.

# %%
student = cmkd.load_student(home / "run")
table = student.predict(sorted(incoming.glob("*.png")))
print(table.iloc[:5, :4].to_string(index=False))
right = table["class"] == [f"digit_{label}" for label in labels[-60:]]
print(f"\nright: {right.sum()} of {len(right)} new files, {results['recommended']['method']}")
