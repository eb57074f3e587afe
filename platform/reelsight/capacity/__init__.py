"""What a backfill will take: a sample is measured, the rest is arithmetic. No Ray, no cloud."""
