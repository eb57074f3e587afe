"""Peer: LitServe with batching, by its documentation: decode, batch, predict, unbatch, encode.

Two workers, so that one decodes while the other runs its model: with one worker its decoding and
its model never overlap.
"""

from typing import Any

import litserve as ls
import torch
from fastapi import Request

from benchmarks.online.torch_tagger import Files, TorchTagger

MAX_BATCH, BATCH_TIMEOUT_S, WORKERS = 8, 0.02, 2


class TagAPI(ls.LitAPI):  # type: ignore[misc]
    """Clips of a batch differ in their numbers of pictures, so they are joined by hand."""

    def __init__(self, files: Files, **options: Any) -> None:
        super().__init__(**options)
        self._files = files

    def setup(self, device: str) -> None:
        self._tagger = TorchTagger(self._files)

    # LitServe reads this annotation as it stands: no `from __future__ import annotations` here.
    def decode_request(self, request: Request) -> torch.Tensor:
        return self._tagger.pictures(request["file"].file.read())

    def batch(self, inputs: list[torch.Tensor]) -> list[torch.Tensor]:
        return inputs

    def predict(self, x: list[torch.Tensor]) -> list[torch.Tensor]:
        return list(self._tagger.scores(torch.cat(x)).split([len(part) for part in x]))

    def unbatch(self, output: list[torch.Tensor]) -> list[torch.Tensor]:
        return output

    def encode_response(self, output: torch.Tensor) -> dict[str, Any]:
        return self._tagger.answer(output)


if __name__ == "__main__":
    files = Files.of_command_line()
    api = TagAPI(files, max_batch_size=MAX_BATCH, batch_timeout=BATCH_TIMEOUT_S, api_path="/tags")
    server = ls.LitServer(api, accelerator="cpu", workers_per_device=WORKERS, timeout=300)
    server.run(host="127.0.0.1", port=files.port, log_level="error", generate_client_file=False)
