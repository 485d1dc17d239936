"""When the sample of a job is answered: what it tells, and that the job rests with it."""

from __future__ import annotations

import json

import msgspec

from batch.coordinator.feeder import Feeder
from batch.coordinator.pauses import Pauses
from batch.estimator.estimate import guess_again
from batch.store.jobstore import JobRow, JobStore
from batch.tables import pack_sizes, score
from batch.tables.answer_judge import judge_of
from batch.tables.pack_sizes import sizes_of
from batch.tables.score import gold_of, score_of
from jobs.message import N_
from jobs.pause_reasons import PauseReason
from jobs.states import JobState


class Sampling:
    """Of one job."""

    def __init__(self, store: JobStore, feeder: Feeder, pauses: Pauses) -> None:
        self._store, self._feeder, self._pauses = store, feeder, pauses

    def look(self, job: JobRow) -> JobRow:
        """When the sample is answered, the job rests with what it tells."""
        done = job.sample and job.state is JobState.IN_PROGRESS
        if not done or not self._store.queue.head_is_done(job.sample):
            return job
        if job.left and self._is_comparing(job):
            return job
        job = self._take_stock(job)
        guess = guess_again(self._store, self._store.home)
        self._store.set_guess(guess)
        self._store.queue.leave_head()
        gold = gold_of(self._store)
        if job.left and gold is not None and job.spec.task is not None:
            least = job.spec.task.min_accuracy
            if least is not None and gold.accuracy < least:
                share, wanted = f"{gold.accuracy:.3f}", f"{least:g}"
                text = N_(
                    "{right} of {rows} known answers are right (accuracy {share}), and"
                    " --min-accuracy asks for {wanted}",
                    right=gold.right,
                    rows=gold.rows,
                    share=share,
                    wanted=wanted,
                )
                self._pauses.pause(PauseReason.LOW_ACCURACY, text)
                return self._store.job()
        if job.left:
            text = N_("the sample is complete")
            if guess.likely is not None and guess.low is not None and guess.high is not None:
                text = N_(
                    "estimated from the sample, the whole job will cost about {likely} ({low} to"
                    " {high})",
                    likely=guess.likely,
                    low=guess.low,
                    high=guess.high,
                )
            self._pauses.pause(PauseReason.SAMPLED, text)
        return self._store.job()

    def _is_comparing(self, job: JobRow) -> bool:
        """Whether packs of the sample are still to be answered."""
        task = job.spec.task
        compares = task is not None and bool(sizes_of(task, job.sample))
        return compares and (not self._feeder.compared or self._store.trials.is_out())

    def _take_stock(self, job: JobRow) -> JobRow:
        """What the sample of a table tells: how large packs may be, how much is right."""
        task, trials = job.spec.task, self._store.trials
        if task is None:
            return job
        if expected := trials.expected():
            found = score_of(self._store, task, {n: json.loads(e) for n, e in expected.items()})
            trials.find(score.KIND, msgspec.json.encode(found).decode())
        if job.left and trials.sizes():
            packs = pack_sizes.measure(
                self._store, task, trials.head(job.sample)[: pack_sizes.MOST_ROWS]
            )
            trials.find(pack_sizes.KIND, msgspec.json.encode(packs).decode())
            task = task.model_copy(update={"pack": packs.chosen})
            with self._store.transaction():
                # Somebody may have changed the rest of the spec meanwhile.
                now = self._store.job().spec
                self._store.change_spec(now.model_copy(update={"task": task}))
            job = self._store.job()
            self._feeder.judge_by(judge_of(job.id, job.spec))
        return job
