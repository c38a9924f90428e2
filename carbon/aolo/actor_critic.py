"""The gradient steps of stable-baselines3's SAC with fewer operations.

The equations and the order of the random draws are those of ``stable_baselines3.SAC.train``. Adam is fused, gradients
are taken of the trained weights alone, the target networks move in one operation, and nothing is logged. With a
discount of 0 the next action and its value are not computed, because they are multiplied by 0.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from stable_baselines3 import SAC
from torch import Tensor
from torch.nn import functional

_TANH_MARGIN = 1e-6
"""Keeps the logarithm finite where an action is at its bound, as in stable-baselines3."""


class SoftActorCritic(SAC):
    """SAC of stable-baselines3 with faster gradient steps, an automatic entropy coefficient and no logs."""

    def train(self, gradient_steps: int, batch_size: int = 64) -> None:
        """Take gradient steps on critics, actor and entropy coefficient."""
        assert self.replay_buffer is not None
        for _ in range(gradient_steps):
            self._take_step(self.replay_buffer.sample(batch_size))
        self._n_updates += gradient_steps

    def _take_step(self, samples: Any) -> None:
        assert self.log_ent_coef is not None
        assert self.ent_coef_optimizer is not None
        actions, log_prob = self._sample(samples.observations)
        coefficient = self.log_ent_coef.detach().exp()
        assert isinstance(self.target_entropy, float)
        self.log_ent_coef.grad = -(log_prob.detach() + self.target_entropy).mean().reshape(self.log_ent_coef.shape)
        self.ent_coef_optimizer.step()

        target = samples.rewards
        if self.gamma > 0:
            with torch.no_grad():
                next_actions, next_log_prob = self._sample(samples.next_observations)
                values = torch.min(*self.critic_target(samples.next_observations, next_actions))
                value = values - coefficient * next_log_prob
                target = target + (1 - samples.dones) * self.gamma * value
        present = self.critic(samples.observations, samples.actions)
        critic_loss = 0.5 * sum((functional.mse_loss(value, target) for value in present), torch.zeros(()))
        _descend(critic_loss, self.critic.optimizer)

        best = torch.min(*self.critic(samples.observations, actions))
        _descend((coefficient * log_prob - best).mean(), self.actor.optimizer)
        if self.gamma > 0:
            with torch.no_grad():
                targets = tuple(self.critic_target.parameters())
                torch._foreach_lerp_(targets, tuple(self.critic.parameters()), self.tau)

    def _sample(self, observations: Tensor) -> tuple[Tensor, Tensor]:
        """Squashed Gaussian actions, and the logarithm of their density, ``(batch, 1)``."""
        mean, log_std, _ = self.actor.get_action_dist_params(observations)
        noise = torch.normal(torch.zeros_like(mean), 1.0)
        actions = torch.tanh(mean + log_std.exp() * noise)
        log_prob = -0.5 * noise**2 - log_std - torch.log(1 - actions**2 + _TANH_MARGIN)
        return actions, log_prob.sum(1, keepdim=True) - 0.5 * math.log(2 * math.pi) * mean.shape[1]


def _descend(loss: Tensor, optimizer: torch.optim.Optimizer) -> None:
    """One step of an optimizer, without the gradients of anything else."""
    weights = [weight for group in optimizer.param_groups for weight in group["params"]]
    for weight, gradient in zip(weights, torch.autograd.grad(loss, weights), strict=True):
        weight.grad = gradient
    optimizer.step()
