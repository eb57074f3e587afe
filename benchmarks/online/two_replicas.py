"""The door in two replicas, as a deployment file asks for them, and where they are.

What Serve says of the replicas is written to a file twice a second. Settings come by REELSIGHT_
variables, which replicas inherit.
"""

from __future__ import annotations

import argparse
import json
import signal
import threading
from pathlib import Path

import ray
from ray import serve
from ray.serve.context import _get_global_client
from ray.serve.schema import ServeDeploySchema

from deployments.app import INGRESS

_APP = "reelsight"
_EVERY_S = 0.5


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--replicas-file", type=Path, required=True)
    options = parser.parse_args()
    told = threading.Event()
    ray.init(address="local", num_cpus=8, include_dashboard=False, log_to_driver=False)
    serve.start(http_options={"host": "127.0.0.1", "port": options.port})
    client = _get_global_client()
    application = {
        "name": _APP,
        "route_prefix": "/",
        "import_path": "deployments.app:app",
        "deployments": [{"name": INGRESS, "num_replicas": 2}],
    }
    client.deploy_apps(ServeDeploySchema(applications=[application]), _blocking=True)
    signal.signal(signal.SIGTERM, lambda *_: told.set())
    while not told.wait(_EVERY_S):
        deployments = client.get_serve_details()["applications"][_APP]["deployments"]
        # One that only starts has no process yet.
        found = [
            {"pid": one["pid"], "state": str(getattr(one["state"], "value", one["state"]))}
            for one in deployments[INGRESS]["replicas"]
            if one.get("pid")
        ]
        draft = options.replicas_file.with_suffix(".draft")
        draft.write_text(json.dumps(found))
        draft.rename(options.replicas_file)
    serve.shutdown()
    ray.shutdown()


if __name__ == "__main__":
    main()
