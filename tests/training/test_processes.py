"""Several real processes train one model: they follow one alone, survive a kill, and change number.

Each runs what a user types: `torchrun --nproc-per-node=2 -m skipwise train ...`, gloo on loopback.
"""

import contextlib
import importlib.util
import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file

from skipwise.errors import RunError, SettingError
from skipwise.features.dataset import Dataset
from skipwise.training.checkpoint import load_run
from skipwise.training.processes import ALONE, Processes, joined
from skipwise.training.sharding import ShardedTables
from skipwise.training.unfinished import find_unfinished
from tests.long_form import long_form

TORCHRUN = ("-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2")
NO_CHANCE = ("history_dropout=0", "model.inputs.id_dropout=0", "loss.retrieval=0")
"""What is left to chance depends on how many processes there are."""
WORDS = (
    *("--preset", "tiny", "passes_at_most=1", "refit=false", "tokens_per_batch=128"),
    *("model.inputs.ids=true", "optimizer.sparse_from_rows=20", "checkpoint_every_s=0"),
    *NO_CHANCE,
)


@pytest.fixture(scope="module")
def sharding() -> None:
    """TorchRec is here; else skips (fails in CI)."""
    if importlib.util.find_spec("torchrec") is None:
        message = "TorchRec is not installed; `make distributed` installs it"
        if os.environ.get("SKIPWISE_REQUIRE_DATA"):
            pytest.fail(message)
        pytest.skip(message)


def begin(dataset: Dataset, out: Path, *words: str, by: tuple[str, ...] = TORCHRUN) -> Any:
    """Start training in processes of its own group."""
    environment = os.environ | {"OMP_NUM_THREADS": "1", "SKIPWISE_ALLOCATOR": "system"}
    return subprocess.Popen(  # noqa: S603 - our own program
        [
            sys.executable,
            *by,
            *("-m", "skipwise", "train", str(dataset.path), "--out", str(out), *WORDS, *words),
        ],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )


def end(begun: Any) -> str:
    """Wait for it, and return what it said."""
    said, _ = begun.communicate(timeout=180)
    assert begun.returncode == 0, said[-3000:]
    return str(said)


def wait_for_step(begun: Any, out: Path, step: int) -> None:
    """Wait until a checkpoint of that step, or a later one, is there."""
    while True:
        assert begun.poll() is None, begun.communicate()[0][-3000:]
        try:
            if find_unfinished(out).position["step"] >= step:
                return
        except RunError:
            pass
        time.sleep(0.02)


def losses(out: Path) -> list[float]:
    """Return what each pass was validated with."""
    lines = (out / "progress.jsonl").read_text().splitlines()
    return [json.loads(line)["validation_loss"] for line in lines]


@pytest.fixture(scope="module")
def alone(small_dataset: Dataset, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same training by one process."""
    out = tmp_path_factory.mktemp("alone") / "RUN"
    end(begin(small_dataset, out, by=()))
    return out


@pytest.mark.slow
@pytest.mark.usefixtures("sharding")
def test_a_run_of_two_killed_whole_goes_on_with_one_and_follows_it(
    small_dataset: Dataset, alone: Path, tmp_path: Path
) -> None:
    out = tmp_path / "RUN"
    begun = begin(small_dataset, out)
    wait_for_step(begun, out, 10)
    kill_whole(begun)
    state = find_unfinished(out).state
    assert_each_has_half_the_rows(state, load_run(alone).vocabulary.sizes["videos"])
    end(begin(small_dataset, out, "--resume", by=()))
    assert losses(out) == pytest.approx(losses(alone), abs=0.01)
    assert_alike(out, alone)


def assert_each_has_half_the_rows(state: Path, num_rows: int) -> None:
    found = []
    for file in sorted(state.glob("*.safetensors")):
        with safe_open(file, "pt") as tensors:
            found.append(tensors.get_slice("table.0.weight").get_shape()[0])
            assert tensors.get_slice("table.0.state").get_shape() == [found[-1]]
    assert sorted(found) == [num_rows // 2, num_rows - num_rows // 2]


def assert_alike(out: Path, other: Path) -> None:
    """Two processes leave a RUN of the same sizes, weights near those of one."""
    one, two = (load_file(each / "model.safetensors") for each in (out, other))
    assert {name: value.shape for name, value in one.items()} == {
        name: value.shape for name, value in two.items()
    }
    video = "inputs.video.weight"
    assert not torch.equal(one[video], two[video]), "gradients of another order of sums"
    torch.testing.assert_close(one[video], two[video], atol=0.05, rtol=0)


@pytest.mark.slow
@pytest.mark.usefixtures("sharding")
def test_a_killed_worker_is_started_again_and_a_run_of_one_goes_on_with_two(
    small_dataset: Dataset, alone: Path, tmp_path: Path
) -> None:
    out = tmp_path / "RUN"
    begun = begin(small_dataset, out, by=())
    wait_for_step(begun, out, 4)
    begun.kill()
    begun.communicate()
    first = find_unfinished(out)
    assert first.state.is_file(), "one process writes one file"
    begun = begin(small_dataset, out, "--resume", by=(*TORCHRUN, "--max-restarts=1"))
    wait_for_step(begun, out, first.position["step"] + 10)
    os.kill(max(children(begun.pid)), signal.SIGKILL)
    end(begun)
    assert losses(out) == pytest.approx(losses(alone), abs=0.01)
    assert_alike(out, alone)


@long_form
@pytest.mark.slow
def test_a_machine_that_comes_anew_meets_the_other_whatever_each_has_counted(
    small_dataset: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two torchruns on loopback stand for two machines; one dies whole and is started again.

    It has restarted nothing, the other one has: they go on all the same.
    """
    # torch 2.13 tells a machine that comes later no address otherwise
    monkeypatch.setenv("TORCH_DISABLE_SHARE_RDZV_TCP_STORE", "1")
    out, words = tmp_path / "RUN", ("optimizer.sparse_from_rows=100000",)
    port = free_port()
    stays = begin(small_dataset, out, *words, by=one_of_two_machines(port))
    wait_for_port(stays, port)  # of where machines meet, which the other must not keep
    goes = begin(small_dataset, out, *words, by=one_of_two_machines(port))
    try:
        wait_for_step(stays, out, 10)
        before = find_unfinished(out).position["step"]
        kill_whole(goes)
        goes = begin(small_dataset, out, *words, by=one_of_two_machines(port))
        for each in (goes, stays):
            end(each)
    finally:
        for each in (goes, stays):
            if each.poll() is None:
                kill_whole(each)
    assert find_steps(out)[-1] > before
    assert load_run(out)


def find_steps(out: Path) -> list[int]:
    """Return the step after each pass."""
    lines = (out / "progress.jsonl").read_text().splitlines()
    return [json.loads(line)["step"] for line in lines]


def free_port() -> int:
    """Return a port of loopback that nobody listens to."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])


def wait_for_port(begun: Any, port: int) -> None:
    """Wait until somebody listens."""
    while True:
        assert begun.poll() is None, begun.communicate()[0][-3000:]
        with contextlib.suppress(ConnectionRefusedError):
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
            return
        time.sleep(0.05)


def one_of_two_machines(port: int) -> tuple[str, ...]:
    """Return how torchrun is started on each of two machines that meet at a port here."""
    return (
        *("-m", "torch.distributed.run", "--nnodes=2", "--nproc-per-node=1", "--max-restarts=3"),
        *("--rdzv-backend=c10d", f"--rdzv-endpoint=127.0.0.1:{port}", "--local-addr=127.0.0.1"),
    )


def children(parent: int) -> list[int]:
    """Return the processes that one has started."""
    listed = Path(f"/proc/{parent}/task/{parent}/children").read_text()
    return [int(child) for child in listed.split()]


def kill_whole(begun: Any) -> None:
    """Kill torchrun and its workers, which are groups of their own."""
    workers = children(begun.pid)
    for process in (begun.pid, *workers):
        os.kill(process, signal.SIGKILL)
    begun.communicate()


def test_a_process_that_cannot_reach_the_others_says_the_address_and_nothing_else(
    small_dataset: Dataset, tmp_path: Path
) -> None:
    """As a user starts it; torch's own account of each try, with a trace, is not shown."""
    environment = {
        **{"RANK": "1", "WORLD_SIZE": "2", "LOCAL_RANK": "1"},
        **{"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "9"},
        **{"SKIPWISE_PROCESSES_TIMEOUT_S": "1", "SKIPWISE_ALLOCATOR": "system"},
    }
    done = subprocess.run(  # noqa: S603 - our own program
        [
            *(sys.executable, "-m", "skipwise", "train", str(small_dataset.path)),
            *("--out", str(tmp_path / "RUN"), "device=cpu"),
        ],
        env=os.environ | environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2
    *_, last = done.stderr.splitlines()
    assert "did not reach the others at 127.0.0.1:9 within 1 s" in last
    assert "--master-addr" in last
    assert "frame #" not in done.stderr
    assert "Traceback" not in done.stderr


def test_a_process_that_loses_the_others_says_so_plainly(tmp_path: Path) -> None:
    """The first one is gone in the middle, with no word."""
    code = (
        "import os, torch\nfrom skipwise.training.processes import joined\n"
        "from skipwise.errors import RunError\n"
        "try:\n    with joined(device='cpu') as processes:\n"
        "        processes.wait()\n"
        "        if processes.first:\n            os._exit(0)\n"
        "        while True:\n            processes.summed(torch.ones(1))\n"
        "except RunError as problem:\n    print(problem)\n"
    )
    done = two_of(code, tmp_path)
    assert done.stdout.startswith("process 1 of 2 lost the others (")
    assert "127.0.0.1" in done.stdout
    assert "gloo" not in done.stdout
    assert "--resume" in done.stdout


def two_of(code: str, folder: Path) -> subprocess.CompletedProcess[str]:
    """Run a script in two processes that torchrun starts."""
    (folder / "script.py").write_text(code)
    return subprocess.run(  # noqa: S603 - our own program
        [sys.executable, *TORCHRUN, str(folder / "script.py")],
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=True,
    )


def test_processes_that_differ_are_refused_before_they_begin(tmp_path: Path) -> None:
    code = (
        "import os\nfrom skipwise.training.processes import joined\n"
        "from skipwise.errors import RunError\n"
        "with joined(device='cpu') as processes:\n"
        "    processes.check_alike({'dataset': 'the same'})\n"
        "    try:\n        processes.check_alike({'code': os.environ['RANK']})\n"
        "    except RunError as problem:\n        print(problem)\n"
    )
    done = two_of(code, tmp_path)
    says = "code is 0 in process 0 of 2, but 1 in process 1; all must have the same"
    assert done.stdout.count(says) == 2


def test_without_torchrec_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torchrec", None)
    table = torch.nn.Embedding(4, 2)
    with pytest.raises(SettingError, match=r"TorchRec is not installed .*`make distributed`"):
        ShardedTables(torch.nn.Sequential(table), [table], 0.1, Processes(rank=0, number=2))


@pytest.mark.slow
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU on this machine")
@pytest.mark.usefixtures("sharding")
def test_every_gpu_trains_by_nccl(small_dataset: Dataset, alone: Path, tmp_path: Path) -> None:
    number = f"--nproc-per-node={torch.cuda.device_count()}"
    end(begin(small_dataset, tmp_path / "RUN", "device=cuda", by=(*TORCHRUN[:-1], number)))
    assert losses(tmp_path / "RUN") == pytest.approx(losses(alone), abs=0.02)


def test_without_torchrun_there_is_one_process() -> None:
    with joined({}) as processes:
        assert processes == ALONE
    assert processes.first
    assert processes.decided(by_first=True)
    assert processes.summed(torch.tensor([2.0])).tolist() == [2.0]


def test_a_time_out_must_be_a_number() -> None:
    environment = {"RANK": "0", "WORLD_SIZE": "1", "LOCAL_RANK": "0"}
    with (
        pytest.raises(SettingError, match=r"TIMEOUT_S = 'soon', must be a number of seconds"),
        joined(environment | {"SKIPWISE_PROCESSES_TIMEOUT_S": "soon"}),
    ):
        pass


def test_every_stretch_of_a_batch_is_somebodys() -> None:
    for whole in (1, 2, 7):
        parts = [list(Processes(rank=rank, number=3).part(whole)) for rank in range(3)]
        assert {place for part in parts for place in part} == set(range(whole))
        assert all(parts), "nobody may be without: all step together"
