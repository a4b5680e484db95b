"""Functional core of the model: features, training, export and scoring. Arrays in, arrays out.

The folders in the order in which they import each other: data, signals, inputs, network, graph, release,
evaluation, training, language. Beside them stand explanation, privacy and robust.
"""

import os

# ONNX Runtime and the Hugging Face hub report their use to their makers unless told not to, before import.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
