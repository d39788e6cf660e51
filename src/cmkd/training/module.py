"""The LightningModule that trains teachers and students alike."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, replace
from functools import partial
from typing import Any

import torch
import torch.distributed as dist
from lightning.pytorch import LightningModule
from lightning.pytorch.utilities.types import OptimizerLRSchedulerConfig
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from cmkd.config import AugmentationConfig, OptimizerConfig
from cmkd.distributed import anywhere, rank, world_size
from cmkd.errors import DivergedError
from cmkd.methods import Method
from cmkd.models import Model
from cmkd.models.base import Preprocess
from cmkd.ops import in_float64
from cmkd.training.augment import augment, stronger
from cmkd.training.ema import ModelEma, infinite
from cmkd.training.job import TrainingJob
from cmkd.training.loader import PairLoader
from cmkd.training.objective import Objective
from cmkd.training.schedule import PlateauSchedule
from cmkd.types import UNLABELED, Batch

WARMUP = 200  # steps at most: a larger limit does not need a longer warm-up
CHECK_EVERY = 50  # steps between finiteness checks; each synchronizes the GPU


class DistillationModule(LightningModule):
    """Optimize the `Objective` of a job, measure the model on validation pairs, and keep the history.

    Args:
        job: training job, with the model and its pairs.
        optimizer: optimizer and schedule.
        augmentation: resolved augmentation of the training pairs.
        batch_size: pairs per step, over all processes together; it scales the learning rate.
        window: shuffle within windows of this many pairs.
    """

    def __init__(
        self,
        job: TrainingJob,
        optimizer: OptimizerConfig,
        augmentation: AugmentationConfig,
        *,
        batch_size: int,
        window: int | None = None,
    ) -> None:
        super().__init__()
        self.window = window
        self.job, self.optimizer_config, self.augmentation, self.batch_size = job, optimizer, augmentation, batch_size
        taught, places = torch.from_numpy(job.taught), None
        if job.method is not None and "index" in job.method.needs:
            places = torch.full((len(job.pack),), -1)
            places[taught] = torch.arange(len(taught))
        self.objective = Objective(
            job.model,
            teacher=job.teacher,
            teacher_modality=job.teacher_modality,
            method=job.method,
            label_smoothing=optimizer.label_smoothing,
            always_paired=job.always_paired,
            modality_dropout=job.modality_dropout,
            seed=job.seed,
            places=places,
        )
        if job.method is not None:
            job.method.on_train_start(len(taught))
        methods = [(name, part) for name, part in self.named_modules() if isinstance(part, Method)]
        self._alike = [f"{name}.{buffer}" for name, method in methods for buffer in method.alike]
        DistributedDataParallel._set_params_and_buffers_to_ignore_for_model(self, self._alike)
        epoch = len(self.train_dataloader())
        steps = epoch * job.epochs
        self.schedule = PlateauSchedule(steps, max(1, min(WARMUP, round(optimizer.warmup * steps))), epoch)
        self.average = ModelEma(job.model, optimizer.ema) if optimizer.ema else None
        self.history: list[dict[str, float]] = []
        self._sums: dict[str, float] = {}
        self._pending: list[dict[str, Tensor]] = []
        self._scores = torch.zeros(3, dtype=torch.float64)
        self._scalings: Mapping[str, Preprocess] | None = None  # found in the first step: models are on their device
        self._infinite = infinite(job.model)

    def __setattr__(self, name: str, value: Any) -> None:  # noqa: ANN401
        """Set an attribute; strings and None directly.

        Lightning stores the name of each hook that it calls, about fifty times per step, and torch would check whether
        the value is a parameter, which takes ten times as long.
        """
        if (value is None or isinstance(value, str)) and name in self.__dict__:
            self.__dict__[name] = value
        else:
            super().__setattr__(name, value)

    @property
    def model(self) -> Model:
        """The model to evaluate and to save: the moving average if there is one."""
        return self.objective.model if self.average is None else self.average.model  # type: ignore[return-value]

    def configure_optimizers(self) -> OptimizerLRSchedulerConfig:
        """Build optimizer and per-step schedule."""
        config, groups = self.optimizer_config, self._groups()
        if config.name == "adamw":
            built: torch.optim.Optimizer = torch.optim.AdamW(groups, fused=self._fused)
        else:
            built = torch.optim.SGD(groups, momentum=config.momentum, nesterov=config.momentum > 0)
        schedule = torch.optim.lr_scheduler.LambdaLR(built, self.schedule.factor)
        return {"optimizer": built, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}

    def _groups(self) -> list[dict[str, Any]]:
        """Group the trained parameters by learning rate and weight decay; a teacher that trains has its own rate."""
        config, objective, adamw = self.optimizer_config, self.objective, self.optimizer_config.name == "adamw"
        ratio = self.train_dataloader().batch_size / 128  # with few pairs, a batch holds all of them
        scale, fit = (math.sqrt(ratio), 1.0) if adamw else (ratio, 10.0)
        along = objective.teacher if objective.trains_teacher else None
        theirs = set() if along is None else set(along.parameters())
        rates, groups = dict[tuple[bool, float], list[nn.Parameter]](), list[dict[str, Any]]()
        for parameter in (one for one in objective.parameters() if one.requires_grad):
            model = along if along is not None and parameter in theirs else objective.model
            rates.setdefault((parameter.dim() <= 1, model.learning_rate), []).append(parameter)
        for (bias, suits), members in sorted(rates.items(), key=lambda group: group[0]):
            rate = suits * fit if config.learning_rate is None else config.learning_rate
            groups.append({"params": members, "lr": rate * scale, "weight_decay": 0.0 if bias else config.weight_decay})
        return groups

    @property
    def _fused(self) -> bool:
        """Whether to use the optimizer's fused kernel; with mixed precision, Lightning refuses to clip with it."""
        precision = "32-true" if self._trainer is None else self._trainer.precision
        return self.device.type in ("cpu", "cuda") and precision == "32-true"

    def train_dataloader(self) -> PairLoader:
        """Return this process's training batches."""
        return self.job.loader("train", self.batch_size, self.window)

    def val_dataloader(self) -> PairLoader:
        """Return this process's validation batches."""
        return self.job.loader("validation", self.batch_size)

    def transfer_batch_to_device(self, batch: Batch, device: torch.device, dataloader_idx: int) -> Batch:
        """Move a batch to the device."""
        return batch.to(device, non_blocking=True)

    def on_fit_start(self) -> None:
        """Move the teacher, since Lightning moves only registered modules, and broadcast buffers that DDP ignores."""
        self.objective.move(self.device)
        if world_size() > 1:
            for name in self._alike:
                dist.broadcast(self.get_buffer(name), 0)

    def on_train_start(self) -> None:
        """Pass the epoch to the method: if a run resumes within an epoch, Lightning skips `on_train_epoch_start`."""
        self.trainer.should_stop = self.global_step >= self.schedule.stop
        for optimizer in self.trainer.optimizers:
            align(optimizer)
        if self.objective.method is not None:
            self.objective.method.on_train_epoch_start(self.current_epoch)

    def on_train_epoch_start(self) -> None:
        """Pass the epoch to loader and method. Lightning restores the loader itself only within an epoch."""
        assert self.trainer.train_dataloader is not None
        self.trainer.train_dataloader.set_epoch(self.current_epoch)
        if self.objective.method is not None:
            self.objective.method.on_train_epoch_start(self.current_epoch)

    def on_train_batch_start(self, batch: Batch, batch_idx: int) -> None:
        """Make this step's random numbers a function of (seed, step, process), so that a resumed run repeats them."""
        seed = (self.job.seed * 1_000_003 + self.global_step) * 1_009 + rank()
        if self.device.type == "cpu":
            # torch.manual_seed would also queue the seed, with a stack trace, for devices not yet initialized
            torch.default_generator.manual_seed(seed)
        else:
            torch.manual_seed(seed)

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """Return the loss of one batch."""
        job = self.job
        if self._scalings is None:
            teacher = self.objective.teacher
            self._scalings = {**(teacher.scalings if teacher else {}), **self.objective.model.scalings}
        change = partial(
            augment,
            modalities=job.pack.modalities,
            seed=job.view_seed if job.views else job.seed,
            co_registered=job.pack.card.co_registered,
            scalings=self._scalings,
        )
        strong = None
        if job.method is not None and job.method.strong_view:
            strong = replace(batch, view=-1 - batch.view)  # a view that no other step sees
            strong = change(strong, strengths=stronger(self.augmentation), cutout=True)
        output, terms = self.objective(change(batch, strengths=self.augmentation), strong)
        loss = torch.stack([term.float() for term in terms.values()]).sum()
        with torch.no_grad():
            counts = {"right": (output.logits.argmax(1) == batch.target).sum(), "labeled": batch.labeled.sum()}
            self._pending.append({"loss": loss.detach(), **counts} | {k: v.detach() for k, v in terms.items()})
        if self.device.type == "cpu" or len(self._pending) >= CHECK_EVERY:
            self._settle()
        return loss

    def optimizer_step(self, *arguments: Any, **options: Any) -> None:  # noqa: ANN401  # Lightning's signature
        """Take a step, then update the moving average, before callbacks save the state at the end of the batch."""
        super().optimizer_step(*arguments, **options)
        if self.average is not None:
            self.average.update(self.objective.model, self.global_step)

    def on_validation_start(self) -> None:
        """Reset the counters."""
        self._scores = torch.zeros(3, dtype=torch.float64, device=self._exact)

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        """Add up correct answers and the cross-entropy of labeled pairs, over all subsets of the model's modalities.

        The best model is therefore the one that is best on average over the subsets it may meet in use. Lightning runs
        this during training, on its device and processes; `cmkd.inference` is for trained models.
        """
        if not len(batch):  # a process may get no pair of the last batch
            return
        for names in self.model.subsets:
            whole = torch.stack([batch.present[name] for name in names]).all(0)
            target = batch.target.masked_fill(~whole, UNLABELED)
            logits = self.model.classify({name: batch.inputs[name] for name in names}).logits.float()
            entropy = nn.functional.cross_entropy(logits, target, ignore_index=UNLABELED, reduction="sum")
            found = [(logits.argmax(1) == target).sum(), entropy, (target != UNLABELED).sum()]
            self._scores += torch.stack([in_float64(value) for value in found]).to(self._scores)

    def on_train_epoch_end(self) -> None:
        """Add a row to the history, the same in every process."""
        means = self._settled_sums()
        if world_size() > 1:
            dist.all_reduce(self._scores)
        steps = means.pop("steps")
        right, entropy, count = self._scores.tolist()
        row = {"epoch": float(self.current_epoch), "step": float(self.global_step)}
        row["train_accuracy"] = means.pop("right") / max(means.pop("labeled"), 1.0)
        row |= {f"train_{name}": value / steps for name, value in means.items()}
        row |= {"validation_accuracy": right / max(count, 1), "validation_loss": entropy / max(count, 1)}
        self._check_finite(row["validation_loss"])
        accuracies = [past["validation_accuracy"] for past in [*self.history, row]]
        self.schedule.observe(self.global_step, accuracies, early_stop=self.optimizer_config.early_stop)
        self.history.append(row | {"leveled": float(self.schedule.leveled)})
        self.trainer.should_stop = self.global_step >= self.schedule.stop
        self._sums = {}
        self.log_dict({k: v for k, v in row.items() if k not in ("epoch", "step")}, sync_dist=False)

    def _check_finite(self, loss: float) -> None:
        """Stop all processes if weights or validation loss are not finite; a step's loss precedes its update."""
        tensors = [
            value
            for model in (self.objective.model, self.model)
            for name, value in model.state_dict().items()
            if value.is_floating_point() and name not in self._infinite
        ]
        finite = math.isfinite(loss) and bool(torch.stack([value.isfinite().all() for value in tensors]).all())
        if anywhere(not finite, self.device):
            raise _diverged(self.global_step, f"weights or the validation loss ({loss:.3g}) are not finite")

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Save the history, the sums of the epoch so far, and the state of the schedule."""
        sums = self._settled_sums()
        checkpoint["cmkd"] = {"history": self.history, "sums": sums, "schedule": asdict(self.schedule)}

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Restore the history, the sums and the schedule."""
        kept = checkpoint["cmkd"]
        self.history = kept["history"]
        self._sums = kept["sums"] if rank() == 0 else dict.fromkeys(kept["sums"], 0.0)  # sums over all processes
        for name, value in kept["schedule"].items():
            setattr(self.schedule, name, value)  # in place: the optimizer's schedule refers to this object

    @property
    def _exact(self) -> torch.device:
        """The device of the module, or the CPU if the device has no 64-bit floats."""
        return torch.device("cpu") if self.device.type == "mps" else self.device

    def _settled_sums(self) -> dict[str, float]:
        """Return the sums of the epoch so far over all processes."""
        self._settle()
        names = sorted(self._sums)
        sums = torch.tensor([self._sums[name] for name in names], dtype=torch.float64, device=self._exact)
        if world_size() > 1 and names:
            dist.all_reduce(sums)
        return dict(zip(names, sums.tolist(), strict=True))

    def _settle(self) -> None:
        """Add the pending steps to the sums, and stop all processes if one of their losses is not finite."""
        steps, self._pending = [{name: float(value) for name, value in each.items()} for each in self._pending], []
        spoiled = [step for step in steps if not math.isfinite(step["loss"])]
        if steps and anywhere(bool(spoiled), self.device):  # one alone would leave the others waiting for gradients
            shown = {k: v for k, v in spoiled[0].items() if k not in ("loss", "right", "labeled")} if spoiled else {}
            terms = ", ".join(f"{k}={v:.3g}" for k, v in shown.items()) or "in another process"
            raise _diverged(self.global_step, f"the loss is not finite ({terms})")
        for step in steps:
            for name, number in {**step, "steps": 1.0}.items():
                self._sums[name] = self._sums.get(name, 0.0) + number


def _diverged(step: int, what: str) -> DivergedError:
    return DivergedError(
        f"training diverged near step {step}: {what}; lower --optimizer.learning_rate or the weight of a term, or use "
        "--trainer.precision 32-true"
    )


def align(optimizer: torch.optim.Optimizer) -> None:
    """Give each tensor of an optimizer's state the memory layout of its parameter.

    A restored state is contiguous, although the parameter may be channels-last, and torch's fused kernel pairs both by
    their position in memory.
    """
    for parameter, state in optimizer.state.items():
        for name, value in state.items():
            if isinstance(value, Tensor) and value.shape == parameter.shape and value.stride() != parameter.stride():
                state[name] = torch.empty_like(parameter, dtype=value.dtype).copy_(value)
