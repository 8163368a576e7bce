"""What conf/ may say: the fields, their bounds, and the rules across them."""

from tidemill.engines.config.schema.data import LabelPolicy, Quality, Select, SourceUse, SplitRule
from tidemill.engines.config.schema.general import (
    Collect,
    General,
    NightLimits,
    OptOut,
    Runtime,
    Serving,
    comes,
)
from tidemill.engines.config.schema.judging import Gate, Score
from tidemill.engines.config.schema.recipe import DATA_HALF, MODEL_HALF, RecipeConfig
from tidemill.engines.config.schema.serving import Export, Serve, WaitingFiles
from tidemill.engines.config.schema.source import (
    Clean,
    Mirror,
    NightBudget,
    PinnedPackage,
    Rule,
    Source,
    Weights,
)
from tidemill.engines.config.schema.training import Dimension, Sweep, Trainer

__all__ = [
    "DATA_HALF",
    "MODEL_HALF",
    "Clean",
    "Collect",
    "Dimension",
    "Export",
    "Gate",
    "General",
    "LabelPolicy",
    "Mirror",
    "NightBudget",
    "NightLimits",
    "OptOut",
    "PinnedPackage",
    "Quality",
    "RecipeConfig",
    "Rule",
    "Runtime",
    "Score",
    "Select",
    "Serve",
    "Serving",
    "Source",
    "SourceUse",
    "SplitRule",
    "Sweep",
    "Trainer",
    "WaitingFiles",
    "Weights",
    "comes",
]
