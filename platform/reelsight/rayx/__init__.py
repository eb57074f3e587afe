"""Everything of the library that touches Ray: cluster, stages, sink."""
