"""How a sweep keeps any engine busy, tested with an engine made of lists."""

from collections.abc import Sequence

import pytest

from rarelab.errors import Terminated
from rarelab.sweep.in_flight import run_in_flight
from rarelab.sweep.job import Job, Result


def job(number: int) -> Job:
    return Job(
        number=number,
        name=f"seed={number}",
        overrides=(),
        config={},
        choices={},
        signature=f"signature-{number}",
        code="code",
        data="data",
    )


class Line:
    """A FIFO engine: one job ends per poll; holds up to ``room`` jobs and runs ``slots``."""

    def __init__(self, room: int, slots: int = 1, failing: Sequence[int] = ()) -> None:
        self._room, self._slots, self._failing = room, slots, failing
        self.there: list[int] = []
        self.most = 0
        self.interrupted: list[int] = []

    def room(self) -> int:
        return self._room

    def submit(self, jobs: Sequence[Job]) -> list[int]:
        self.there += [job.number for job in jobs]
        self.most = max(self.most, len(self.there))
        return [job.number for job in jobs]

    def ended(self, handles: Sequence[int], seconds: float) -> list[int]:
        assert list(handles) == self.there
        return [self.there.pop(0)] if self.there else []

    def result(self, handle: int, job: Job) -> Result:
        assert handle == job.number
        return Result(handle, "killed" if handle in self._failing else "done")

    def withdraw(self, handles: Sequence[int]) -> list[int]:
        queued = self.there[self._slots :]
        del self.there[self._slots :]
        return queued

    def interrupt(self, handles: Sequence[int]) -> None:
        self.interrupted += handles


JOBS = [job(number) for number in range(6)]


@pytest.mark.parametrize("room", [1, 2, 100])
def test_all_jobs_run_and_never_more_at_once_than_there_is_room_for(room: int) -> None:
    line, reported = Line(room, failing=[2]), []
    results = run_in_flight(line, JOBS, lambda result: not reported.append(result))
    assert results == reported
    assert [result.number for result in results] == [0, 1, 2, 3, 4, 5]
    assert [result.status for result in results].count("done") == 5
    assert line.most == min(room, 6)


@pytest.mark.parametrize("room", [2, 100])
def test_after_a_stop_running_jobs_finish_and_no_others_start(room: int) -> None:
    line = Line(room, slots=2, failing=[1])
    results = run_in_flight(line, JOBS, lambda result: not result.failed)
    # Job 1 fails while 2 (and 3, if there is room) is running.
    assert [result.number for result in results] == [0, 1, 2] + [3] * (room > 2)


@pytest.mark.parametrize("reason", [KeyboardInterrupt, Terminated])
def test_an_interruption_ends_running_jobs_and_propagates(reason: type[BaseException]) -> None:
    line, reported = Line(4, slots=2), []

    def report(result: Result) -> bool:
        reported.append(result.number)
        if result.number == 0:
            raise reason
        return True

    with pytest.raises(reason):
        run_in_flight(line, JOBS, report)
    assert reported == [0, 1, 2]
    assert line.interrupted == [1, 2]
    assert line.there == []


def test_an_engine_that_reports_no_room_still_gets_one_job() -> None:
    engine = Line(room=0)
    assert len(run_in_flight(engine, JOBS, lambda result: True)) == len(JOBS)
    assert engine.most == 1


def test_an_empty_job_list_gives_no_results() -> None:
    assert run_in_flight(Line(1), [], lambda result: True) == []
