"""The losses in a LightningModule, driven by the real Trainer through its usual hooks."""

from pathlib import Path

import lightning
import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from rarelab.losses import LossWarmupWrapper, SmoothAPLoss

ROWS, BATCH, WARMUP, BLEND, DECAY = 64, 16, 1, 2, 10
STEPS_PER_EPOCH = ROWS // BATCH

pytestmark = [
    # Advice for machines with more processors.
    pytest.mark.filterwarnings("ignore:.* does not have many workers:UserWarning"),
    # Caused by Lightning's use of torch, not ours.
    pytest.mark.filterwarnings("ignore:`isinstance.treespec, LeafSpec.`:FutureWarning"),
]


class Classifier(lightning.LightningModule):
    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(3, 4)
        self.loss_fn = LossWarmupWrapper(
            warmup_loss=nn.CrossEntropyLoss(),
            main_loss=SmoothAPLoss(num_classes=4, queue_size=32),
            warmup_epochs=WARMUP,
            blend_epochs=BLEND,
            temp_start=0.5,
            temp_end=0.01,
            temp_decay_steps=DECAY,
        )
        self.seen: list[tuple[float, float | None, int]] = []

    def on_train_epoch_start(self) -> None:
        self.loss_fn.on_train_epoch_start(self.current_epoch)

    def on_train_batch_start(self, batch: list[Tensor], batch_idx: int) -> None:
        self.loss_fn.on_train_batch_start(self.global_step)
        queued = len(self.loss_fn.main_loss.pool.ring)  # type: ignore[arg-type,union-attr]
        self.seen.append((self.loss_fn.ap_weight, self.loss_fn.current_temperature, queued))

    def training_step(self, batch: list[Tensor], batch_idx: int) -> Tensor:
        x, targets = batch
        loss = self.loss_fn(self.layer(x), targets)
        self.log("train/loss", loss)
        self.log("train/ap_weight", self.loss_fn.ap_weight)
        if (temperature := self.loss_fn.current_temperature) is not None:
            self.log("train/temperature", temperature)
        return loss

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=0.1)


def fit(module: Classifier, epochs: int, folder: Path, checkpoint: Path | None = None):
    trainer = lightning.Trainer(
        max_epochs=epochs,
        accelerator="cpu",
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        default_root_dir=folder,
    )
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(ROWS, 3, generator=generator)
    data = DataLoader(TensorDataset(x, torch.arange(ROWS) % 4), batch_size=BATCH)
    trainer.fit(module, data, ckpt_path=checkpoint)
    return trainer


def test_warmup_blend_and_decay_follow_the_hooks(tmp_path: Path) -> None:
    module = Classifier()
    before = module.layer.weight.detach().clone()
    trainer = fit(module, 5, tmp_path)
    weights = [step[0] for step in module.seen]
    expected = [w for w in (0, 1 / 3, 2 / 3, 1, 1) for _ in range(STEPS_PER_EPOCH)]
    assert weights == pytest.approx(expected)
    temperatures = [step[1] for step in module.seen[STEPS_PER_EPOCH:]]
    decay = [0.5 * 0.02 ** min(1, t / DECAY) for t in range(len(temperatures))]
    assert temperatures == pytest.approx(decay)
    queued = [step[2] for step in module.seen]
    assert queued[: STEPS_PER_EPOCH + 3] == [0] * STEPS_PER_EPOCH + [0, 16, 32]
    assert trainer.callback_metrics["train/ap_weight"] == 1
    assert trainer.callback_metrics["train/loss"].isfinite()
    assert not torch.equal(module.layer.weight, before)
    assert list(tmp_path.iterdir()) == []


def test_a_run_resumed_from_a_checkpoint_ends_like_an_uninterrupted_one(tmp_path: Path) -> None:
    torch.manual_seed(0)
    start = Classifier().state_dict()
    unbroken, broken, resumed = Classifier(), Classifier(), Classifier()
    unbroken.load_state_dict(start)
    broken.load_state_dict(start)
    fit(unbroken, 4, tmp_path)
    fit(broken, 2, tmp_path).save_checkpoint(tmp_path / "half.ckpt")
    fit(resumed, 4, tmp_path, tmp_path / "half.ckpt")
    assert resumed.seen == unbroken.seen[2 * STEPS_PER_EPOCH :]
    torch.testing.assert_close(resumed.state_dict(), unbroken.state_dict())
