"""Jobs: clips that are answered later. What they are is in `deployments.jobs.store`."""
