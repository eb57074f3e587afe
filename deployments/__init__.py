"""The online composition: the Ray Serve application behind HTTP will live here.

Nothing is served yet. What it will share with the jobs is ready:
`reelsight.engine.EngineWorker.run` and the steps in `reelsight.steps`.
"""
