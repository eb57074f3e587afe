"""The online composition: the Ray Serve application behind HTTP.

`deployments.app` puts it together; what it shares with the jobs is `reelsight.engine`, the plan and
the steps in `reelsight.steps`.
"""
