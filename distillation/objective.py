"""How a student listens to its teacher."""

from __future__ import annotations

from pydantic import Field

from channels import Record


class Distillation(Record):
    """How a student listens to its teacher: :func:`distillation.losses.distillation_loss`."""

    teacher: str | None = None
    temperature: float = Field(2.0, gt=0)
    alpha: float = Field(0.5, ge=0, le=1)
    generations: int = Field(1, ge=1)
