"""Ray for real: started here, and a cluster of two nodes on the loopback interface."""

import logging
import urllib.request

import cv2
import pytest

pytest.importorskip("pyarrow", reason="the extra batch is not installed")
pytest.importorskip("ray", reason="the extra batch is not installed")

from feredge.benchmarks.experiments.batch_kills import KillPlan, measure_kills
from feredge.benchmarks.experiments.batch_plot import plot_timeline
from feredge.runtime.batch import batch
from feredge.runtime.batch.backends import ray as ray_backend
from feredge.runtime.batch.settings import new_job
from feredge.runtime.errors import UsageError

SECONDS = 600  # Ray alone takes up to 30 s to start on two busy cores


class DashboardVisitor(logging.Handler):
    """Opens Ray's dashboard when the log names its address: the run goes on meanwhile."""

    def __init__(self):
        super().__init__()
        self.pages = []

    def emit(self, record):
        message = record.getMessage()
        if "dashboard" in message:
            with urllib.request.urlopen(message.split()[-1], timeout=60) as answer:
                self.pages.append(answer.status)


@pytest.fixture
def dashboard(caplog):
    visitor = DashboardVisitor()
    with caplog.at_level("INFO", logger=ray_backend.LOG.name):
        ray_backend.LOG.addHandler(visitor)
        yield visitor
        ray_backend.LOG.removeHandler(visitor)


@pytest.mark.slow
@pytest.mark.timeout(SECONDS)
def test_ray_writes_the_rows_of_processes_and_survives_a_poison_picture(
    options, pictures, poison, tmp_path, read_rows, dashboard
):
    (pictures / "0007-poison.jpg").write_bytes((pictures / "0007.jpg").read_bytes())
    summary = batch(options(ray="local", workers=2))
    assert (summary.rows, summary.errors) == (21, 1)
    assert dashboard.pages == [200]
    batch(options(output=str(tmp_path / "processes")))
    assert read_rows(options().output) == read_rows(tmp_path / "processes")


@pytest.mark.slow
@pytest.mark.timeout(SECONDS)
def test_actor_node_and_driver_may_be_killed_at_any_time(
    engine, pictures, new_pictures, astronaut, write_clip, tmp_path
):
    new_pictures(pictures, 400)
    clip = write_clip([astronaut[k : k + 400, k : k + 400] for k in range(110)])
    plan = KillPlan([str(pictures), str(clip)], str(engine), tmp_path,
                    ["actor", "driver", "node", "actor"], pause_s=(0.5, 4.0))
    counts = measure_kills(plan)
    assert sum(counts.kills.values()) == 4
    assert sum(rows for _, rows in counts.timeline["files"]) == 510
    plot_timeline(counts.timeline, tmp_path / "cluster.png")
    assert cv2.imread(str(tmp_path / "cluster.png")).shape[1] == 880
    assert counts.rows == counts.outputs * 510
    assert (counts.lost, counts.doubled, counts.different) == (0, 0, 0)


def test_a_cluster_that_is_not_there_is_an_error(options):
    with pytest.raises(UsageError, match=r"no Ray cluster at 127.0.0.1:1"):
        batch(options(ray="127.0.0.1:1"))


@pytest.mark.parametrize(
    "workers, gpus, share", [(1, 1, 1), (4, 1, 0.25), (4, 2, 0.5), (3, 2, 0.5)])
def test_workers_with_a_plan_share_the_gpus(options, workers, gpus, share):
    """The numbers that Ray gets; no GPU has run this."""
    from dataclasses import replace

    job = new_job(options())
    on_gpu = replace(job, engine="x.plan")
    resources = ray_backend.worker_resources(on_gpu, workers, gpus)
    assert resources == {"num_cpus": 1, "num_gpus": share}
    assert ray_backend.worker_resources(job, workers, gpus) == {"num_cpus": 1}


def test_a_plan_needs_a_cluster_with_gpus(options):
    from dataclasses import replace

    with pytest.raises(UsageError, match="needs a GPU and the Ray cluster has none"):
        ray_backend.worker_resources(replace(new_job(options()), engine="x.plan"), 1, 0)
