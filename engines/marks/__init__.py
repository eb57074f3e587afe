"""The extractor of a pair as a model that engines are built of, and how one is opened."""
