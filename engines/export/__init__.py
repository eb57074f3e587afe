"""From an open_clip model to what every runtime reads: ONNX towers, tokenizer, model.json.

Importing this package costs nothing and needs neither torch nor open_clip: they are imported in the
functions that use them, and their absence is a `ModelError` with the command that installs them.
"""

from __future__ import annotations

__all__: list[str] = []
