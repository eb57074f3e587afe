"""The store: manifests in, runs of Reports out, and queries over them."""
