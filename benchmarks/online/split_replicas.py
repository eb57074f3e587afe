"""The door in `split`: two media and two engine replicas behind one ingress, and where they are.

What Serve says of the replicas is written to a file twice a second: of each its deployment, state,
process id, and how many of it there shall be. Settings come by REELSIGHT_ variables, which replicas
inherit.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import threading
from pathlib import Path
from typing import Any

import ray
from ray import serve
from ray.serve.context import _get_global_client
from ray.serve.schema import ServeDeploySchema

_APP = "reelsight"
_EVERY_S = 0.5
_WATCHED, _REPLICAS = ("media", "engine"), 2


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--replicas-file", type=Path, required=True)
    options = parser.parse_args()
    told = threading.Event()
    os.environ["REELSIGHT_SERVE__TOPOLOGY"] = "split"
    ray.init(address="local", num_cpus=8, include_dashboard=False, log_to_driver=False)
    serve.start(http_options={"host": "127.0.0.1", "port": options.port})
    client = _get_global_client()
    application = {
        "name": _APP,
        "route_prefix": "/",
        "import_path": "deployments.app:app",
        # The periods of deployments/serve.yaml.
        "deployments": [
            {"name": name, "num_replicas": _REPLICAS, "health_check_period_s": 5}
            for name in _WATCHED
        ],
    }
    client.deploy_apps(ServeDeploySchema(applications=[application]), _blocking=True)
    signal.signal(signal.SIGTERM, lambda *_: told.set())
    while not told.wait(_EVERY_S):
        deployments = client.get_serve_details()["applications"][_APP]["deployments"]
        found = [
            one | {"wanted": _REPLICAS}
            for name in _WATCHED
            for one in _replicas(name, deployments[name])
        ]
        draft = options.replicas_file.with_suffix(".draft")
        draft.write_text(json.dumps(found))
        draft.rename(options.replicas_file)
    serve.shutdown()
    ray.shutdown()


def _replicas(name: str, details: dict[str, Any]) -> list[dict[str, Any]]:
    """Those with a process; one that only starts has none yet."""
    return [
        {
            "deployment": name,
            "pid": one["pid"],
            "state": str(getattr(one["state"], "value", one["state"])),
        }
        for one in details["replicas"]
        if one.get("pid")
    ]


if __name__ == "__main__":
    main()
