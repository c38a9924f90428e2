import pytest
import torch
from factories import untrained_receiver

from channels import Scenario, Slots, SlotStream
from distillation.feature_transfer import FeatureTransfer, attention_loss, feature_loss
from distillation.losses import bit_loss, confidence_weights, distillation_loss, regression_loss, sinr_weights
from distillation.objective import Distillation, Objective, Schedule
from distillation.teachers import Teacher, ensemble_llrs
from leanrx_core.errors import UserError
from receivers.neural.network import Network
from receivers.neural.registry import build
from receivers.neural.weights import NeuralReceiver

SMALL, LARGE = "deeprx-w0.0625-d3", "deeprx-w0.125-d3"


def receiver(spec: str = LARGE, seed: int = 9) -> NeuralReceiver:
    return untrained_receiver(spec, seed)


def teacher_of(settings: Distillation) -> Teacher:
    return Teacher(receiver(), [transfer.teacher for transfer in settings.transfers])


@pytest.fixture(scope="module")
def slots(small: Scenario) -> Slots:
    return SlotStream(small, 1, 4).block(0)


def run(net: Network, slots: Slots) -> torch.Tensor:
    return net(net.features(slots))


def loss_of(settings: Distillation, slots: Slots, progress: float = 0.5, student: str = SMALL) -> torch.Tensor:
    net, teacher = build(student, seed=1), teacher_of(settings)
    with Objective(settings, net, [teacher]) as objective:
        return objective(run(net, slots), slots, [teacher(slots)], progress)


def test_the_default_is_the_soft_bit_loss_bit_for_bit(slots: Slots) -> None:
    net, teacher = build(SMALL, seed=1), teacher_of(Distillation())
    objective = Objective(Distillation(), net, [teacher])
    assert not list(objective.parameters())
    llrs, reference_llrs = (run(net, slots).detach().requires_grad_() for _ in range(2))
    for progress in (0.0, 0.4, 1.0):
        loss = objective(llrs, slots, [teacher(slots)], progress)
        expected = distillation_loss(reference_llrs, receiver()(slots), slots, 2.0, 0.5)
        assert torch.equal(loss, expected)
    loss.backward()
    expected.backward()
    assert torch.equal(llrs.grad, reference_llrs.grad)


def test_without_settings_the_loss_is_that_of_true_bits(slots: Slots) -> None:
    net = build(SMALL, seed=1)
    llrs = run(net, slots)
    assert torch.equal(Objective(None, net)(llrs, slots, [], 0.3), bit_loss(llrs, slots))


def test_several_teachers_are_an_ensemble(slots: Slots) -> None:
    net = build(SMALL, seed=1)
    llrs = run(net, slots)
    teachers = [Teacher(receiver(seed=seed)) for seed in (8, 9)]
    output = [teacher(slots) for teacher in teachers]
    expected = distillation_loss(llrs, ensemble_llrs(output), slots, 2.0, 0.5)
    assert torch.equal(Objective(Distillation(), net, teachers)(llrs, slots, output, 0.0), expected)


@pytest.mark.parametrize("weighting", ["none", "confidence", "sinr"])
@pytest.mark.parametrize("loss", ["soft-bits", "regression"])
def test_each_loss_with_each_weighting(slots: Slots, loss: str, weighting: str) -> None:
    own_settings = {"clip": 4.0} if loss == "regression" else {"temperature": 3.0}
    settings = Distillation(loss=loss, weighting=weighting, alpha=0.7, **own_settings)
    llrs, output = run(build(SMALL, seed=1), slots), receiver()(slots)
    weights = {"none": None, "confidence": confidence_weights(output, slots), "sinr": sinr_weights(slots)}[weighting]
    if loss == "soft-bits":
        expected = distillation_loss(llrs, output, slots, 3.0, 0.7, weights)
    else:
        expected = regression_loss(llrs, output, slots, 4.0, 0.7, weights)
    assert torch.equal(loss_of(settings, slots), expected)


def test_schedules_are_linear_and_then_constant() -> None:
    schedule = Schedule(start=4.0, end=1.0, until=0.5)
    assert [schedule.value_at(p) for p in (0.0, 0.25, 0.5, 0.75, 1.0)] == [4.0, 2.5, 1.0, 1.0, 1.0]
    assert Schedule(start=0.1, end=0.7).value_at(1.0) == 0.7


def test_schedules_move_alpha_and_temperature(slots: Slots) -> None:
    scheduled = Distillation(alpha=Schedule(start=1.0, end=0.0), temperature=Schedule(start=8.0, end=2.0, until=0.5))
    for progress, alpha, temperature in ((0.0, 1.0, 8.0), (0.25, 0.75, 5.0), (0.5, 0.5, 2.0), (1.0, 0.0, 2.0)):
        constant = Distillation(alpha=alpha, temperature=temperature)
        assert torch.equal(loss_of(scheduled, slots, progress), loss_of(constant, slots))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"temperature": 0}, r"temperature: must be between 0\.01 and 1000"),
        ({"temperature": {"start": 2, "end": -1}}, r"temperature: must be between 0\.01 and 1000"),
        ({"temperature": 1e6}, "temperature: must be between .* 'loss: regression' is the limit of high temperatures"),
        ({"clip": 4}, "clip: has no effect with loss soft-bits; remove it or change the loss"),
        ({"loss": "regression", "temperature": 4}, "temperature: has no effect with loss regression"),
        ({"temperature": "hot"}, "temperature.number: Input should be a valid number"),
        ({"temperature": {"start": 2, "ende": 1}}, "temperature.schedule.ende: unknown key; did you mean 'end'"),
        ({"alpha": 1.01}, "alpha: must be between 0 and 1"),
        ({"alpha": {"start": 0, "end": 2}}, "alpha: must be between 0 and 1"),
        ({"alpha": {"start": 0, "end": 1, "until": 0}}, "alpha.schedule.until: Input should be greater than 0"),
        ({"clip": 0}, "clip: Input should be greater than or equal to 0.1"),
        ({"generations": 0}, "generations: Input should be greater than or equal to 1"),
        ({"loss": "mse"}, "loss: Input should be 'soft-bits' or 'regression'"),
        ({"teacher": "a+"}, "teacher: write names joined by"),
        ({"teacher": "a+a"}, "teacher: names a receiver twice"),
        ({"transfers": [{"student": "x", "teacher": "y", "weight": 0}]}, "transfers.0.weight: Input should be greater"),
        (
            {"transfers": [{"student": "x", "teacher": "y", "kind": "attention"}]},
            "transfers.0.kind: renamed to 'loss'",
        ),
    ],
)
def test_settings_out_of_range_are_refused(settings: dict[str, object], message: str) -> None:
    with pytest.raises(UserError, match=message):
        Distillation.parse(settings, "config.yaml")


def test_settings_survive_the_file(tmp_path) -> None:
    settings = Distillation(
        teacher="a+perfect CSI",
        temperature=Schedule(start=8, end=1),
        transfers=(FeatureTransfer(student="x", teacher="y"),),
    )
    (tmp_path / "d.yaml").write_text(settings.to_yaml())
    assert Distillation.load(tmp_path / "d.yaml") == settings


def test_transfers_are_added_with_their_weights(slots: Slots) -> None:
    settings = Distillation(
        transfers=(
            FeatureTransfer(student="blocks.1", teacher="blocks.1", weight=0.25),
            FeatureTransfer(student="norm_out", teacher="blocks.0", loss="attention", weight=3.0),
        )
    )
    net, teacher = build(SMALL, seed=1).eval(), teacher_of(settings)
    output = teacher(slots)
    with Objective(settings, net, [teacher], seed=4) as objective:
        llrs = run(net, slots)
        loss = objective(llrs, slots, [output], 0.0)
    x = net.conv_in(net.features(slots))
    x = net.blocks[1](net.blocks[0](x))
    feature = feature_loss(objective.adapters[0](x), output.activations["blocks.1"])
    attention = attention_loss(net.norm_out(net.blocks[2](x)), output.activations["blocks.0"])
    expected = distillation_loss(llrs, output.llrs, slots, 2.0, 0.5) + 0.25 * feature + 3.0 * attention
    torch.testing.assert_close(loss, expected)
    assert feature > 0.1
    assert attention > 0.01
    assert [sum(p.numel() for p in a.parameters()) for a in objective.adapters] == [8 * 16 + 16, 0]


def test_transfers_are_zero_at_the_teachers_weights(slots: Slots) -> None:
    settings = Distillation(
        transfers=(
            FeatureTransfer(student="blocks.1", teacher="blocks.1"),
            FeatureTransfer(student="conv_in", teacher="conv_in", loss="attention"),
        )
    )
    net, teacher = build(LARGE, seed=9).eval(), teacher_of(settings)
    with Objective(settings, net, [teacher]) as objective:
        llrs = run(net, slots)
        assert torch.equal(
            objective(llrs, slots, [teacher(slots)], 0.0), distillation_loss(llrs, llrs.detach(), slots, 2.0, 0.5)
        )


def test_adapters_are_seeded_trained_and_separate_from_the_network(slots: Slots) -> None:
    settings = Distillation(
        alpha=0.0, transfers=(FeatureTransfer(student="blocks.0", teacher="blocks.1", weight=10.0),)
    )
    net, teacher = build(SMALL, seed=1), teacher_of(settings)
    keys, state = list(net.state_dict()), torch.get_rng_state()
    objective, equal, other = (Objective(settings, net, [teacher], seed) for seed in (3, 3, 4))
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.equal(objective.adapters[0].weight, equal.adapters[0].weight)
    assert not torch.equal(objective.adapters[0].weight, other.adapters[0].weight)
    assert list(net.state_dict()) == keys
    assert list(objective.state_dict()) == ["adapters.0.weight", "adapters.0.bias"]
    equal.remove()
    other.remove()

    output = teacher(slots)
    optimizer = torch.optim.Adam([*net.parameters(), *objective.parameters()], 1e-2)
    losses = []
    for _ in range(30):
        loss = objective(run(net, slots), slots, [output], 0.0)
        optimizer.zero_grad()
        loss.backward()
        assert objective.adapters[0].weight.grad.abs().min() > 0
        assert net.conv_in.weight.grad.abs().max() > 0
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.5 * losses[0]
    objective.remove()
    assert not any(module._forward_hooks for module in net.modules())
    resumed = Objective(settings, net, [teacher], seed=7)
    resumed.load_state_dict(objective.state_dict())
    assert torch.equal(resumed.adapters[0].weight, objective.adapters[0].weight)


def test_transfers_work_between_families(slots: Slots) -> None:
    settings = Distillation(transfers=(FeatureTransfer(student="blocks.1.depthwise", teacher="blocks.1"),))
    plain = loss_of(Distillation(), slots, student="hybrid-w4-d2")
    assert loss_of(settings, slots, student="hybrid-w4-d2") > plain


def test_transfers_of_bfloat16_students_are_in_float32(slots: Slots) -> None:
    settings = Distillation(transfers=(FeatureTransfer(student="blocks.0", teacher="blocks.1"),))
    net, teacher = build(SMALL, seed=1), teacher_of(settings)
    values = []
    for enabled in (False, True):
        with Objective(settings, net, [teacher]) as objective:
            with torch.autocast("cpu", torch.bfloat16, enabled=enabled):
                llrs = run(net, slots).float()
            values.append(objective(llrs, slots, [teacher(slots)], 0.0))
        values[-1].backward()
    assert values[1].dtype == torch.float32
    torch.testing.assert_close(values[1], values[0], rtol=0.02, atol=0)


def test_unsuitable_teachers_and_modules_are_refused() -> None:
    net = build(SMALL, seed=1)
    with pytest.raises(UserError, match="distillation needs a teacher"):
        Objective(Distillation(), net)
    with pytest.raises(UserError, match="a teacher needs distillation settings"):
        Objective(None, net, [teacher_of(Distillation())])
    wrong = Distillation(transfers=(FeatureTransfer(student="block.1", teacher="blocks.1"),))
    with pytest.raises(UserError, match=r"student has no module 'block.1'; near names: blocks.1"):
        Objective(wrong, net, [teacher_of(wrong)])
    several = Distillation(transfers=(FeatureTransfer(student="blocks.1", teacher="blocks.1"),))
    with pytest.raises(UserError, match=r"'teacher\+teacher' are several networks to follow"):
        Objective(several, net, 2 * [teacher_of(several)])
    assert not any(module._forward_hooks for module in net.modules())
