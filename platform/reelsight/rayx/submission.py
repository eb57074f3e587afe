"""Jobs on a cluster, through its job server: submit, follow, ask, stop.

It speaks to the dashboard's port (8265) over HTTP and joins no cluster. The token that Ray's
authentication wants is found where Ray itself looks for it. What a job does is in `jobs`.
"""

from __future__ import annotations

import asyncio
import logging
import os
import shlex
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
import requests
from ray.exceptions import AuthenticationError, RayError
from ray.job_submission import JobStatus, JobSubmissionClient

from reelsight.errors import ConfigError, RunError, SubmitError

__all__ = ["JobServer", "JobState", "runtime_env"]

_LOCAL = "http://127.0.0.1:8265"
_ADDRESS = "RAY_API_SERVER_ADDRESS"
# Each sets a level of its own, and tells of every file and of every line's end.
_NOISY = (
    "ray.dashboard.modules.dashboard_sdk",
    "ray.dashboard.modules.job.sdk",
    "ray._private.runtime_env.packaging",
    "ray._private.runtime_env.working_dir",
)
_TERMINAL = {JobStatus.SUCCEEDED, JobStatus.FAILED, JobStatus.STOPPED}
# Relative: workers and drivers start in the uploaded directory, and the directory itself is put in
# front of it by Ray.
_SOURCE_ROOT = "platform"


@dataclass(frozen=True, slots=True)
class JobState:
    """A job as its server knows it.

    Attributes:
        job: Its id.
        status: PENDING, RUNNING, SUCCEEDED, FAILED or STOPPED.
        command: What was run.
        exit_code: Of the command; None while it runs, and where it never began.
        message: What Ray says of it.
    """

    job: str
    status: str
    command: str
    exit_code: int | None
    message: str

    @property
    def ended(self) -> bool:
        """Whether nothing will change any more."""
        return self.status in _TERMINAL


def runtime_env(working_dir: Path | None, env: Mapping[str, str]) -> dict[str, Any]:
    """What a job needs from whichever node runs a part of it.

    Args:
        working_dir: The repository, uploaded without what .gitignore and .rayignore name; None
            where the nodes have reelsight installed.
        env: Variables of every process of the job. Ray shows them in its dashboard.
    """
    if working_dir is None:
        return {"env_vars": dict(env)} if env else {}
    path = os.pathsep.join(filter(None, [_SOURCE_ROOT, env.get("PYTHONPATH")]))
    return {
        "working_dir": str(working_dir.absolute()),
        "env_vars": {**env, "PYTHONPATH": path},
    }


class JobServer:
    """The job server of a cluster.

    Args:
        address: `http://HOST:8265` or `HOST:8265`; None for RAY_API_SERVER_ADDRESS, RAY_ADDRESS,
            or this machine.

    Raises:
        RunError: Nobody answers there.
        SubmitError: The token is missing or wrong.
        ConfigError: The token's file cannot be read.
    """

    def __init__(self, address: str | None = None) -> None:
        for noisy in _NOISY:
            logging.getLogger(noisy).setLevel(logging.ERROR)
        given = address or os.environ.get(_ADDRESS) or os.environ.get("RAY_ADDRESS") or _LOCAL
        self.address = given
        if address is not None and "://" not in address:
            self.address = f"http://{address}"
        token = _token()
        headers = {"Authorization": f"Bearer {token}"} if token else None
        with self._in_words(), _asked_at(self.address):
            self._client = JobSubmissionClient(self.address, headers=headers)

    def submit(self, command: list[str], env: dict[str, Any], job: str | None = None) -> str:
        """Upload what the job needs and start it.

        Args:
            command: Program and arguments.
            env: As `runtime_env` gives it.
            job: Its id; None for one that Ray makes.

        Returns:
            The job's id.

        Raises:
            SubmitError: The id is taken, or the directory is too large.
        """
        with self._in_words(job):
            said: str = self._client.submit_job(
                entrypoint=shlex.join(command), runtime_env=env, submission_id=job
            )
        return said

    def state(self, job: str) -> JobState:
        """What is known of a job.

        Raises:
            SubmitError: There is none of that id.
        """
        with self._in_words(job):
            return _state_of(self._client.get_job_info(job))

    def jobs(self) -> list[JobState]:
        """Every job that was submitted, oldest first."""
        with self._in_words():
            found = [d for d in self._client.list_jobs() if d.submission_id]
        return [_state_of(d) for d in sorted(found, key=lambda d: d.start_time or 0)]

    def logs(self, job: str) -> str:
        """What a job has printed so far."""
        with self._in_words(job):
            text: str = self._client.get_job_logs(job)
        return text

    def stop(self, job: str) -> bool:
        """End a job; False if it had ended before."""
        with self._in_words(job):
            stopped: bool = self._client.stop_job(job)
        return stopped

    def follow(self, job: str, say: Callable[[str], None], poll_s: float = 0.2) -> JobState:
        """Hand on what a job prints until it has ended.

        Args:
            job: Its id.
            say: Gets pieces of text, as they come.
            poll_s: Seconds between two looks at the state, once nothing more is printed.

        Raises:
            SubmitError: There is no such job.
            RunError: The connection broke; the job goes on.
        """
        self.state(job)

        async def tail() -> None:
            async for piece in self._client.tail_job_logs(job):
                say(piece)

        try:
            asyncio.run(tail())
        except (aiohttp.ClientError, RuntimeError) as error:
            if not (state := self.state(job)).ended:
                raise RunError(
                    f"lost the log of job {job}, which goes on: {error}",
                    code="run.log_lost",
                    hint=f"Take it up again with `reelsight job logs {job} --follow`.",
                ) from error
            return state
        while not (state := self.state(job)).ended:
            time.sleep(poll_s)
        return state

    @contextmanager
    def _in_words(self, job: str | None = None) -> Iterator[None]:
        """Whatever Ray's client raises, as an error that says what to do."""
        try:
            yield
        except AuthenticationError as error:
            missing = "Missing authentication token" in str(error)
            raise SubmitError(
                f"{self.address} wants {'a token' if missing else 'another token'}",
                code="submit.unauthorised",
                hint="Put the cluster's token into ~/.ray/auth_token, or its file into "
                "RAY_AUTH_TOKEN_PATH; `ray get-auth-token` on the head prints it.",
            ) from error
        except (ConnectionError, requests.RequestException, RayError) as error:
            raise RunError(
                f"no job server answers at {self.address}",
                code="run.no_cluster",
                hint="Give --address http://HEAD:8265; from outside, `ray dashboard cluster.yaml` "
                "or `kubectl port-forward` brings that port here.",
            ) from error
        except (RuntimeError, ValueError) as error:
            raise self._refused(str(error), job) from error

    def _refused(self, said: str, job: str | None) -> SubmitError:
        if job is not None and "status code 404" in said:
            return SubmitError(
                f"there is no job {job!r} at {self.address}",
                code="submit.no_job",
                hint="`reelsight job list` names those that are there.",
            )
        if "already exists" in said:
            return SubmitError(
                f"there is a job {job!r} at {self.address} already",
                code="submit.job_exists",
                hint="Give another --id, or none.",
            )
        if "exceeds the maximum size" in said:
            return SubmitError(
                f"the working directory is too large to upload: {said.splitlines()[0]}",
                code="submit.working_dir_too_large",
                hint="Name what the job does not need in .rayignore.",
            )
        return SubmitError(f"{self.address} refused: {' '.join(said.split())}")


def _state_of(details: Any) -> JobState:
    return JobState(
        job=details.submission_id or details.job_id,
        status=str(getattr(details.status, "value", details.status)),
        command=details.entrypoint,
        exit_code=details.driver_exit_code,
        message=details.message or "",
    )


def _token() -> str | None:
    """Ray's token, by Ray's order of precedence; None where there is none.

    Ray's client sends it only when RAY_AUTH_MODE says token. It is sent without that here, because
    a cluster that asks for no token does not look at it.
    """
    if os.environ.get("RAY_AUTH_MODE", "").lower() == "disabled":
        return None
    if token := os.environ.get("RAY_AUTH_TOKEN", "").strip():
        return token
    named = os.environ.get("RAY_AUTH_TOKEN_PATH")
    path = Path(named) if named else Path.home() / ".ray" / "auth_token"
    try:
        return path.read_text(encoding="utf-8").strip() or None
    except OSError as error:
        if named:
            raise ConfigError(
                f"cannot read the token in {path}: {error.strerror}",
                code="config.no_token",
                hint="RAY_AUTH_TOKEN_PATH names it.",
            ) from error
        return None


@contextmanager
def _asked_at(address: str) -> Iterator[None]:
    """Ray prefers RAY_ADDRESS to what it is given; only this variable goes before that."""
    before = os.environ.get(_ADDRESS)
    os.environ[_ADDRESS] = address
    try:
        yield
    finally:
        if before is None:
            del os.environ[_ADDRESS]
        else:
            os.environ[_ADDRESS] = before
