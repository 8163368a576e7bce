"""What conf/ may say: the fields, their bounds, and the rules across them."""

from tidemill.engines.config.schema.data import Label, Quality, Select, Split, SplitRule, Use
from tidemill.engines.config.schema.general import (
    Approve,
    Collect,
    General,
    NightLimits,
    Notices,
    OptOut,
    Retention,
    Runtime,
    Serving,
    Step,
    comes,
)
from tidemill.engines.config.schema.judging import Gate, Score
from tidemill.engines.config.schema.recipe import DATA_HALF, MODEL_HALF, Recipe
from tidemill.engines.config.schema.serving import Export, Serve
from tidemill.engines.config.schema.source import Api, Budget, Clean, Mirror, Package, Rule, Source
from tidemill.engines.config.schema.training import (
    Dimension,
    Ensemble,
    Prune,
    Sweep,
    Teach,
    Trainer,
)

__all__ = [
    "DATA_HALF",
    "MODEL_HALF",
    "Api",
    "Approve",
    "Budget",
    "Clean",
    "Collect",
    "Dimension",
    "Ensemble",
    "Export",
    "Gate",
    "General",
    "Label",
    "Mirror",
    "NightLimits",
    "Notices",
    "OptOut",
    "Package",
    "Prune",
    "Quality",
    "Recipe",
    "Retention",
    "Rule",
    "Runtime",
    "Score",
    "Select",
    "Serve",
    "Serving",
    "Source",
    "Split",
    "SplitRule",
    "Step",
    "Sweep",
    "Teach",
    "Trainer",
    "Use",
    "comes",
]
