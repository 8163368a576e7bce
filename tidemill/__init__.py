"""What the steps, the flows and the applications share. The one name that an installed wheel adds.

Importing it turns telemetry off, before any engine is imported: some read these variables only
then. A variable that is set already stays as it is.
"""

import os

TELEMETRY_OFF = {
    "DO_NOT_TRACK": "true",  # MLflow takes only this word
    "ORT_DISABLE_TELEMETRY": "1",  # ONNX Runtime 1.32 sends events on Linux otherwise
    "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
    "PREFECT_SERVER_UI_SHOW_PROMOTIONAL_CONTENT": "false",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_MODEL_CATALOG_URI": "",
    "DVC_NO_ANALYTICS": "1",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "RAY_USAGE_STATS_ENABLED": "0",
}
for _name, _value in TELEMETRY_OFF.items():
    os.environ.setdefault(_name, _value)
