"""Jobs are done one after the other beside the caller, who gets what they return or raise."""

import gc
import threading

import pytest

from fusefs.base.worker import Worker


def test_jobs_are_done_in_their_order_in_another_thread() -> None:
    worker, done = Worker("test"), []

    def note(number: int) -> int:
        done.append((number, threading.get_ident()))
        return number

    jobs = [worker.submit(lambda number=number: note(number)) for number in range(20)]
    assert [job.result() for job in reversed(jobs)] == list(reversed(range(20)))
    assert [number for number, _ in done] == list(range(20))
    assert len({thread for _, thread in done} - {threading.get_ident()}) == 1


def test_one_that_is_not_done_says_so() -> None:
    worker, goes_on = Worker("test"), threading.Event()
    job = worker.submit(goes_on.wait)
    assert not job.is_done
    goes_on.set()
    job.wait()
    assert job.is_done
    assert job.result() is True


def test_an_error_is_that_of_the_job_alone() -> None:
    worker = Worker("test")
    bad, good = worker.submit(lambda: 1 / 0), worker.submit(lambda: 1)
    bad.wait()
    for _ in range(2):
        with pytest.raises(ZeroDivisionError):
            bad.result()
    assert good.result() == 1


def test_the_thread_ends_with_the_worker() -> None:
    worker = Worker("test that ends")
    assert worker.submit(lambda: 1).result() == 1
    (thread,) = [one for one in threading.enumerate() if one.name == "test that ends"]
    del worker
    gc.collect()
    thread.join(10)
    assert not thread.is_alive()
