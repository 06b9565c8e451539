"""What a bad disk, a long name or another user of a shared folder does to a download: an error of ours, no harm."""

from __future__ import annotations

import os
import subprocess
import threading
from contextlib import suppress

import pytest

from airflow_provider_xethub.exceptions import XetDestinationError, XetInputError, XetTransferError
from airflow_provider_xethub.hooks.xethub import XetHubConnection
from airflow_provider_xethub.operators.xethub import XetDownloadOperator
from airflow_provider_xethub.xet.files.targets import local_targets, temporary_files, write
from airflow_provider_xethub.xet.process import temporary_names
from airflow_provider_xethub.xet.process.temporary_names import Attempt
from support.airflow_runs import RUN_ID
from support.builders import TEXT, binary, names, publish
from xethub_local.control.faults import Fault

TOO_LONG = "n{10}.*(longer than the 255 bytes|[Ff]ile name too long)"
READS = "GET /cas/.*/v./reconstructions/.*"


@pytest.fixture
def files(hub, connection, repo, tmp_path):
    """Records of a file in CAS and of an inline one, by path."""
    large = "".join(f"{number}\n" for number in range(40_000)).encode()
    publish(repo, tmp_path / "before", {"a.bin": binary(3000), "b.csv": TEXT, "large.csv": large})
    return {file["path"]: file for file in XetHubConnection().list_files(repo)}


@pytest.mark.parametrize("path", ["a.bin", "b.csv"])
@pytest.mark.parametrize("below", ["", "folder/"], ids=["name", "folder"])
def test_a_name_that_the_disk_does_not_take_is_ours_and_named(files, hook, tmp_path, path, below):
    name = "n" * 300
    record = {**files[path], "path": f"{name}/x" if below else name}
    with pytest.raises((XetInputError, XetDestinationError), match=TOO_LONG):
        hook.download(tmp_path / "out", [record])
    if path == "a.bin":  # the Hub itself refuses to read an inline file of that name
        with pytest.raises(XetDestinationError, match=TOO_LONG):
            hook.download(f"file://{tmp_path}/out/", [record])
    assert names(tmp_path / "out") == []


def test_a_destination_that_is_too_long_is_refused(files, hook, tmp_path):
    for single in (True, False):
        # Only the beginning of a long destination is shown.
        with pytest.raises((XetInputError, XetDestinationError), match=TOO_LONG.partition(".*")[2]):
            hook.download(tmp_path / ("n" * 300), [files["a.bin"]], single=single)


@pytest.fixture
def small_disk(tmp_path):
    """A folder with room for 64 KiB."""
    place = tmp_path / "small"
    place.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(place)]
    if os.geteuid() or subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("nothing can be mounted here")
    yield place
    subprocess.run(["umount", str(place)], check=True)


def test_a_disk_that_is_full_while_an_inline_file_is_written_is_named(files, hook, small_disk):
    assert files["large.csv"]["xet_hash"] is None
    text = f"{small_disk}/large.csv cannot be written .*no space left on device.*large.csv of hf://.*"
    with pytest.raises(XetDestinationError, match=text):
        hook.download(small_disk, [files["large.csv"], files["b.csv"]])
    assert "large.csv" not in names(small_disk)
    assert not [name for name in names(small_disk) if name.endswith(".xetpart")]


def test_nothing_is_written_through_a_link_under_a_temporary_name(files, tmp_path):
    victim = tmp_path / "victim"
    victim.write_text("mine")
    (target,) = local_targets([files["b.csv"]], tmp_path / "out", single=False)
    with temporary_files([target]):
        target.part.symlink_to(victim)
        write(target, TEXT)
        assert target.part.read_bytes() == TEXT
        assert not target.part.is_symlink()
    assert victim.read_text() == "mine"


def test_a_link_that_is_put_in_place_of_a_temporary_file_is_not_written_through(hub, files, hook, tmp_path):
    """Somebody who may write into the folder swaps each temporary file that appears."""
    out, victim, over = tmp_path / "out", tmp_path / "victim", threading.Event()
    out.mkdir()
    victim.write_text("mine")

    def swap():
        while not over.is_set():
            for part in list(out.glob(".*.xetpart")):
                if not part.is_symlink():
                    part.unlink(missing_ok=True)
                    part.symlink_to(victim)

    hub.faults.add(Fault(READS, delay=0.3))
    thread = threading.Thread(target=swap)
    thread.start()
    try:
        with suppress(XetTransferError):  # what was put there may be read, and then is not the file
            hook.download(out, [files["a.bin"]])
    finally:
        over.set()
        thread.join()
    assert victim.read_text() == "mine"


@pytest.mark.parametrize("as_uri", [False, True], ids=["path", "file://"])
def test_a_retry_removes_what_its_own_attempts_left_and_nothing_of_another_map_index(
    files, run_task, tmp_path, monkeypatch, as_uri
):
    """All of them on other hosts, which write into the same shared folder."""
    out = tmp_path / "out"
    out.mkdir()
    options = {"destination": f"file://{out}/" if as_uri else str(out), "files": [files["a.bin"]]}
    attempts = [Attempt.of(1, "test", RUN_ID, "task", index, "2026-11-20 00:00:00+00:00") for index in (-1, 0)]
    with monkeypatch.context() as patch:
        patch.setattr(temporary_names, "_system", lambda: "ab" * 6)
        own, other = (temporary_names.new(out / "a.bin", attempt) for attempt in attempts)
    own.touch()
    other.touch()
    run_task(XetDownloadOperator, **options).value  # noqa: B018
    assert names(out) == sorted(["a.bin", own.name, other.name])
    run_task(XetDownloadOperator, try_number=2, **options).value  # noqa: B018
    assert names(out) == sorted(["a.bin", other.name])
