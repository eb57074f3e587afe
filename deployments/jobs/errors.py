"""What can be wrong with jobs."""

from __future__ import annotations

from reelsight.errors import ReelsightError

__all__ = [
    "JobAbandoned",
    "JobCancelled",
    "JobExpired",
    "JobStoreBroken",
    "JobStoreFull",
    "JobUnknown",
    "WebhookRefused",
]


class JobError(ReelsightError):
    """Base of what can be wrong with jobs."""

    stage = "job"


class JobUnknown(JobError):
    """There is no such job, or it expired long ago."""

    code = "job.unknown"
    http_status = 404
    hint = "Its name is in the Location of the 202; names of expired jobs are forgotten in time."


class JobExpired(JobError):
    """The job's result was kept for as long as results are kept, or was deleted."""

    code = "job.expired"
    http_status = 410
    hint = "Send the clip again; serve.job_ttl_s is how long results are kept."


class JobCancelled(JobError):
    """The client did not want the job any more."""

    code = "job.cancelled"
    http_status = 409
    hint = "Send the clip again if it is wanted after all."


class JobAbandoned(JobError):
    """Every process that ran the job died, or fell silent, before it had a result."""

    code = "job.abandoned"
    http_status = 500
    hint = "Send the clip again; if it ends like this again, report it with the clip."


class JobStoreFull(JobError):
    """No more jobs are kept."""

    code = "job.store_full"
    http_status = 503
    retryable = True
    hint = "Try again when others have expired, or raise serve.jobs_max and serve.jobs_max_bytes."


class JobStoreBroken(JobError):
    """The store of jobs cannot be written or read."""

    code = "job.store_failed"
    http_status = 503
    retryable = True
    hint = "Check the disk of serve.jobs_dir: space and permissions."


class WebhookRefused(JobError):
    """Results are not posted to where the client asked."""

    code = "job.webhook_refused"
    http_status = 422
    hint = "Ask without a webhook and poll, or have the host added to serve.webhook_hosts."
