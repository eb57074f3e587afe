"""Label banks while the service runs: drafts, releases, and the replicas that follow them."""
