"""Peer: FastAPI and PyTorch, as people write it: one model, and FastAPI's own pool of threads."""

from __future__ import annotations

from typing import Any

import uvicorn
from fastapi import FastAPI, UploadFile

from benchmarks.online.torch_tagger import Files, TorchTagger


def make_app(tagger: TorchTagger) -> FastAPI:
    app = FastAPI()

    @app.get("/health")
    def health() -> dict[str, str]:
        return {"status": "ok"}

    @app.post("/tags")
    def tags(file: UploadFile) -> dict[str, Any]:
        return tagger.tag(file.file.read())

    return app


if __name__ == "__main__":
    files = Files.of_command_line()
    uvicorn.run(make_app(TorchTagger(files)), host="127.0.0.1", port=files.port, log_level="error")
