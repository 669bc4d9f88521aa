"""The adapter over libauc, with the package itself (slow)."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

# Runs in a separate interpreter that has libauc.
SCRIPT = """
import copy
import torch
import reference_soap
import rarelab
from rarelab.losses.protocols import Indexed
from rarelab.losses.soap import APLoss

torch.manual_seed(0)
loss = APLoss(1, 50, gamma=0.6, margin=0.8)
assert isinstance(loss, Indexed)
slow = reference_soap.Soap(50, 0.6, 0.8)
for step in range(6):
    rows = torch.randperm(50)[:16]
    logits = torch.randn(16, 1, dtype=torch.float64, requires_grad=True)
    targets = (torch.arange(16) % 5 == 0).long()
    targets[3] = -100
    loss.on_train_batch_rows(rows)
    value = loss(logits, targets)
    value.backward()
    kept = targets != -100
    expected = slow.gradient(logits[kept, 0].tolist(), targets[kept].tolist(), rows[kept].tolist())
    torch.testing.assert_close(logits.grad[kept, 0], torch.tensor(expected, dtype=torch.float64))
    assert logits.grad[3] == 0
state = copy.deepcopy(loss.state_dict())
again = APLoss(1, 50, gamma=0.6, margin=0.8)
again.load_state_dict(state)
for each in (loss, again):
    each.on_train_batch_rows(rows)
assert torch.equal(loss(logits, targets), again(logits, targets))
loss.on_train_batch_rows(rows)
before = loss.published.u_pos.clone()
assert loss(torch.full((16, 1), torch.inf), targets).isnan()
assert torch.equal(loss.published.u_pos, before)
for labels in (torch.zeros(16), torch.full((16,), -100.0)):
    loss.on_train_batch_rows(rows)
    value = loss(logits, labels)
    value.backward()
    assert value == 0
try:
    loss(logits, targets)
except ValueError as error:
    assert "on_train_batch_rows" in str(error)
small = ["dataset.n_samples=4000", "dataset.pos_rate=0.02", "tracking=none", "sampler=stratified"]
done = rarelab.train(["loss=soap", "sampler.min_positives=4", *small])
assert done.metrics["test/aucpr"] > 0.5, done.metrics["test/aucpr"]
print("soap", done.metrics["test/aucpr"])
"""


@pytest.mark.slow
def test_the_adapter_gives_the_published_estimate_and_trains(tmp_path: Path) -> None:
    install = [sys.executable, "-m", "pip", "install", "--no-deps", "--target", str(tmp_path)]
    constraints = Path(__file__).parent.parent / "constraints.txt"
    subprocess.run([*install, "-c", str(constraints), "libauc"], check=True, capture_output=True)
    folders = [str(tmp_path), str(Path(__file__).parent), os.environ.get("PYTHONPATH", "")]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, folders))}
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", SCRIPT],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "soap" in done.stdout
    suites = ["tests/test_every_loss_on_every_task.py", "tests/test_losses_contract.py"]
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", *suites, "-k", "soap or APLoss and not Smooth"],
        cwd=Path(__file__).parent.parent,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout
    assert "skipped" not in done.stdout, done.stdout
