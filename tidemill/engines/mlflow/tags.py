"""The names of Tidemill's tags in MLflow: what machines read of a run or a version.

Who reads a tag compares it or parses a number; a sentence in a tag is for people alone.
"""

# Of a run and of the version it made.
KEY = "tidemill.key"
SNAPSHOT = "tidemill.snapshot"
VERDICT = "tidemill.verdict"
BECAUSE = "tidemill.because"

# Of a version.
DIGEST = "tidemill.digest"  # of the package's files
BESIDE = "tidemill.beside"  # the champion that it was judged beside; NONE where there was none
SEAL = "tidemill.seal"  # a signature over the version, its digest, its verdict and BESIDE
VERIFIED = "tidemill.verified"
VERIFIED_BECAUSE = "tidemill.verified.because"
VERIFIED_AT = "tidemill.verified.at"
NONE = "none"

# Of a run.
KIND = "tidemill.kind"
APPLICATION = "tidemill.application"
CODE = "tidemill.code"
DRIFT = "tidemill.drift"  # of code and libraries that are not in the key
CHANGED = "tidemill.changed"  # what a later plan of the same training changed
PLAN = "tidemill.plan"  # the digest of run.json
STATE = "tidemill.state"
VERSION = "tidemill.version"
DATASHEET = "tidemill.datasheet"
SLOT = "tidemill.slot"
CHAMPION = "tidemill.champion"
CHALLENGER = "tidemill.challenger"

# Of a run: how it was trained.
WEIGHTS = "tidemill.weights"
START = "tidemill.start"  # in words
START_VERSION = "tidemill.start.version"
TAUGHT = "tidemill.taught"  # in words
TAUGHT_VERSION = "tidemill.taught.version"
PRUNED = "tidemill.pruned"  # in words
MEMBERS = "tidemill.members"
RESUMES = "tidemill.resumes"
PARTS = "tidemill.parts"
RATE = "tidemill.rate"
BUDGET = "tidemill.budget"  # in words
