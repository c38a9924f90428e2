from .energy_allocation import EnergyAllocator as EnergyAllocator
from .energy_allocation import EnergyMeter as EnergyMeter
from .energy_allocation import TrainingCost as TrainingCost
from .feature_transfer import FeatureTransfer as FeatureTransfer
from .job import Job as Job
from .job import Training as Training
from .losses import bit_loss as bit_loss
from .losses import confidence_weights as confidence_weights
from .losses import distillation_loss as distillation_loss
from .losses import regression_loss as regression_loss
from .losses import sinr_weights as sinr_weights
from .objective import Distillation as Distillation
from .objective import Objective as Objective
from .objective import Schedule as Schedule
from .optim import Lamb as Lamb
from .teachers import Teacher as Teacher
from .teachers import TeacherOutput as TeacherOutput
from .trainer import DivergenceError as DivergenceError
from .trainer import StepState as StepState
from .trainer import train as train

__all__ = [
    "Distillation",
    "DivergenceError",
    "EnergyAllocator",
    "EnergyMeter",
    "FeatureTransfer",
    "Job",
    "Lamb",
    "Objective",
    "Schedule",
    "StepState",
    "Teacher",
    "TeacherOutput",
    "Training",
    "TrainingCost",
    "bit_loss",
    "confidence_weights",
    "distillation_loss",
    "regression_loss",
    "sinr_weights",
    "train",
]
