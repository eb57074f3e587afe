"""Peer: the shape of Ray Serve's own video tutorial.

An ingress decodes an upload off its event loop and hands the pictures to a deployment that holds
the model; each request is one call of the model, and nothing is batched.
"""

import asyncio
import signal
import threading
from typing import Any

import ray
import torch
from fastapi import FastAPI, UploadFile
from ray import serve
from ray.serve.handle import DeploymentHandle

from benchmarks.online.torch_tagger import Files, TorchTagger

AT_ONCE = 64
app = FastAPI()


@serve.deployment(max_ongoing_requests=AT_ONCE)
class Encoder:
    """Scores the pictures of one request."""

    def __init__(self, files: Files) -> None:
        self._tagger = TorchTagger(files)

    def __call__(self, pictures: torch.Tensor) -> torch.Tensor:
        return self._tagger.scores(pictures)


@serve.deployment(max_ongoing_requests=AT_ONCE)
@serve.ingress(app)
class Tags:
    """HTTP and decoding."""

    def __init__(self, files: Files, encoder: DeploymentHandle) -> None:
        self._tagger, self._encoder = TorchTagger(files), encoder

    @app.get("/health")
    def health(self) -> dict[str, str]:
        return {"status": "ok"}

    @app.post("/tags")
    async def tags(self, file: UploadFile) -> dict[str, Any]:
        pictures = await asyncio.to_thread(self._tagger.pictures, await file.read())
        return self._tagger.answer(await self._encoder.remote(pictures))


def main() -> None:
    files = Files.of_command_line()
    told = threading.Event()
    ray.init(address="local", num_cpus=8, include_dashboard=False, log_to_driver=False)
    serve.start(http_options={"host": "127.0.0.1", "port": files.port})
    encoder = Encoder.bind(files)  # type: ignore[attr-defined]
    serve.run(Tags.bind(files, encoder))  # type: ignore[attr-defined]
    signal.signal(signal.SIGTERM, lambda *_: told.set())
    told.wait()
    serve.shutdown()
    ray.shutdown()


if __name__ == "__main__":
    main()
