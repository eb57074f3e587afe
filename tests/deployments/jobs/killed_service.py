"""A service that takes jobs and is killed by SIGKILL: when all are taken, or when one has ended.

Prints the names of the jobs for which it answered 202, one a line, before it dies.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from pathlib import Path

import httpx

from deployments.app import single_api
from engines.catalog import recipe_for
from reelsight.plan import plan_for
from reelsight.settings import Settings


async def live(jobs_dir: Path, when: str, clips: list[Path]) -> None:
    settings = Settings.load(
        None,
        {"engine.backend": "fake", "serve.jobs_dir": jobs_dir, "serve.job_lease_s": 1.0},
    )
    recipe = recipe_for(settings)
    api = single_api(recipe, plan_for(recipe, settings), settings)
    async with (
        api.router.lifespan_context(api),
        httpx.AsyncClient(transport=httpx.ASGITransport(api), base_url="http://door") as client,
    ):
        names = []
        for clip in clips:
            answer = await client.post("/v1/jobs", files={"file": clip.read_bytes()})
            assert answer.status_code == 202, answer.text
            names.append(answer.headers["location"])
            print(names[-1], flush=True)
        if when == "ended":
            await client.get(f"{names[0]}/events")
        os.kill(os.getpid(), signal.SIGKILL)


if __name__ == "__main__":
    asyncio.run(live(Path(sys.argv[1]), sys.argv[2], [Path(name) for name in sys.argv[3:]]))
