from __future__ import annotations

import errno
import hashlib
import io
import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_provider_xethub.exceptions import XetDestinationError, XetInputError, XetIntegrityError
from airflow_provider_xethub.xet.files import spellings
from airflow_provider_xethub.xet.files.targets import (
    Target,
    check_names,
    check_record,
    complete,
    complete_from_disk,
    digest,
    local_targets,
    longest_name,
    repo_of,
    source_of,
    state_of,
    temporary_files,
    write,
)
from airflow_provider_xethub.xet.process import temporary_names
from airflow_provider_xethub.xet.publish.commit import git_blob_id
from airflow_provider_xethub.xet.repo import Repo
from airflow_provider_xethub.xet.transfer import existing
from support.failing_disk import fail_at

URI = "hf://datasets/acme/corpus@main"


def record(path="a.bin", content=b"content", **changes) -> dict:
    return {
        "path": path,
        "size": len(content),
        "sha256": hashlib.sha256(content).hexdigest(),
        "xet_hash": "ab" * 32,
        "repo": URI,
        **changes,
    }


def inline(path="a.txt", content=b"content", **changes) -> dict:
    return record(path, content, sha256=None, xet_hash=None, blob_id=git_blob_id(content), **changes)


def planned(folder, *files, single=False) -> list[str]:
    return [str(target.path.relative_to(folder)) for target in local_targets(files, folder, single=single)]


def arrived(folder, file, content=b"content") -> Target:
    """A target whose temporary file holds ``content``."""
    (target,) = local_targets([file], folder, single=False)
    target.part.parent.mkdir(parents=True, exist_ok=True)
    target.part.write_bytes(content)
    return target


# --- records


def test_all_files_must_be_of_one_repository():
    assert repo_of([record("1"), record("2")]) == Repo("acme/corpus", "dataset")
    with pytest.raises(
        XetInputError, match=r"of several repositories \(hf://acme/m@main, hf://datasets/acme/corpus@main"
    ):
        repo_of([record("1"), record("2", repo="hf://acme/m@main")])
    with pytest.raises(XetInputError, match="there are no files"):
        repo_of([])


def test_files_of_two_revisions_can_be_read_together_and_are_not_one_revision():
    both = [record("1", repo="hf://acme/m@v1"), record("2", repo="hf://acme/m@v2")]
    assert source_of(both) == Repo("acme/m", revision="v1")
    with pytest.raises(XetInputError) as caught:
        repo_of(both)
    assert str(caught.value) == (
        "the files are of several revisions (hf://acme/m@v1, hf://acme/m@v2). Name the revision."
    )


@pytest.mark.parametrize(
    ("files", "why"),
    [
        ([], "there are no files: an empty list does not name a repository."),
        (
            [record(repo="hf://acme/m@main"), record(), record(repo="hf://acme/n@main"), record(repo="hf://a/b@main")],
            "the files are of several repositories (hf://a/b@main, hf://acme/m@main, hf://acme/n@main and 1 more). "
            "Use one task for each.",
        ),
    ],
)
def test_files_are_read_from_one_repository(files, why):
    for function in (source_of, repo_of):
        with pytest.raises(XetInputError) as caught:
            function(files)
        assert str(caught.value) == why


@pytest.mark.parametrize(("path", "named"), [("a.bin", " ('a.bin')"), (7, ""), ("n" * 300, f" ('{'n' * 199})")])
def test_a_record_that_was_edited_is_refused_by_its_name(path, named):
    with pytest.raises(XetInputError) as caught:
        check_record(record(path, size=-1) if isinstance(path, str) else {"path": path})
    text = str(caught.value)
    assert text.startswith("files has a record with ")
    assert text.endswith(f"{named}. Pass records as XetUploadOperator or XetListOperator return them.")
    assert caught.value.__suppress_context__


def test_a_record_is_returned_as_it_was_checked():
    assert check_record(record()) == record()


@pytest.mark.parametrize("value", [None, "a.bin", [], {"path": 7}])
def test_what_is_no_record_is_refused(value):
    with pytest.raises(XetInputError, match=r"^files has a record with [^(X]*\. Pass records as XetUploadOperator"):
        check_record(value)


# --- planning


def test_files_keep_their_paths_below_the_destination(tmp_path):
    assert planned(tmp_path, record("a.bin"), record("b/c.bin"), record("b/ü 🎉")) == ["a.bin", "b/c.bin", "b/ü 🎉"]
    (target,) = local_targets([record("b/c.bin")], tmp_path, single=False)
    assert target.part.parent == target.path.parent
    assert target.part.name.startswith(".")


@pytest.mark.parametrize(
    ("destination", "expected"),
    [("new.bin", "new.bin"), ("new/", "new/d/a.bin"), ("folder", "folder/d/a.bin"), ("folder/x", "folder/x")],
)
def test_a_single_file_takes_the_destinations_name_unless_that_is_a_folder(tmp_path, destination, expected):
    (tmp_path / "folder").mkdir()
    (target,) = local_targets([record("d/a.bin")], f"{tmp_path}/{destination}", single=True)
    assert target.path == tmp_path / expected


def test_only_what_was_asked_for_singly_takes_the_destinations_name(tmp_path):
    assert local_targets([record("a.bin")], tmp_path / "x", single=False)[0].path == tmp_path / "x/a.bin"
    assert planned(tmp_path / "x", record("a"), record("b"), single=True) == ["a", "b"]


def test_a_destination_may_begin_with_the_home_folder(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    assert local_targets([record("a")], "~/out", single=False)[0].path == tmp_path / "out/a"
    with pytest.raises(XetInputError, match="destination '~no-such-user/x' is in the home folder of an unknown user"):
        local_targets([record("a")], "~no-such-user/x", single=False)


@pytest.mark.parametrize("single", [True, False])
@pytest.mark.parametrize("path", ["../x", "/etc/passwd", "a/../../b", "..", "a\\..\\b", "", ".git/hooks/post-checkout"])
def test_a_path_that_leaves_the_destination_is_refused(tmp_path, path, single):
    with pytest.raises(XetInputError, match="in a repository is not valid"):
        local_targets([record("good"), record(path)], tmp_path / "out", single=single)
    assert not (tmp_path / "out").exists()


@given(
    st.lists(st.sampled_from(["..", ".", "", "a", "...", "\\", "~", "C:", "b"]), min_size=1, max_size=6).map("/".join)
)
def test_no_path_is_planned_outside_of_the_destination(path):
    root = os.path.realpath("/tmp/xethub-destination")
    try:
        (target,) = local_targets([record(path)], root, single=False)
    except XetInputError:
        return
    assert os.path.realpath(target.path).startswith(root + os.sep)


def test_a_link_inside_the_destination_that_leads_out_is_refused(tmp_path):
    out, elsewhere = tmp_path / "out", tmp_path / "elsewhere"
    elsewhere.mkdir()
    (out / "real").mkdir(parents=True)
    (out / "link").symlink_to(elsewhere)
    (out / "dangling").symlink_to(tmp_path / "nothing")
    (out / "inside").symlink_to(out / "real")
    for path in ("link/a", "link/sub/a", "dangling/a"):
        with pytest.raises(XetInputError, match=rf"{path} of {URI} would be written outside of .*/out\."):
            local_targets([record(path)], out, single=False)
    assert planned(out, record("inside/a")) == ["inside/a"]


def test_a_destination_that_is_a_link_itself_is_fine(tmp_path):
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "real")
    assert planned(tmp_path / "link", record("sub/a")) == ["sub/a"]


def test_two_files_for_one_path_are_refused(tmp_path):
    with pytest.raises(XetInputError, match=f"two of the files would be written to {tmp_path}/a"):
        local_targets([record("a"), record("a")], tmp_path, single=False)


def test_an_empty_destination_is_refused():
    with pytest.raises(XetInputError, match="destination is empty"):
        local_targets([record()], "", single=False)


def test_a_destination_may_be_the_working_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert [target.path for target in local_targets([record("a")], ".", single=False)] == [Path("a")]


def test_temporary_files_have_the_name_of_the_attempt(tmp_path):
    attempt = temporary_names.Attempt.of(2, "dag", "run", "task")
    [target] = local_targets([record()], tmp_path, single=False, attempt=attempt)
    assert f"-{attempt.instance}-2-" in target.part.name


@pytest.fixture
def compared(monkeypatch):
    """What is compared with the names that the destination has."""
    calls = []

    def check(names, folder, paths, repo, *, on_disk=False):
        assert isinstance(names, spellings.Local)
        calls.append((folder, list(paths), repo, on_disk))

    monkeypatch.setattr(spellings, "check", check)
    return calls


def test_the_names_of_files_are_compared_in_the_folder_that_gets_them(tmp_path, compared):
    files = [record("a"), record("b/A")]
    local_targets(files, tmp_path / "out", single=False)
    local_targets(files[1:], tmp_path / "out", single=True)
    check_names(iter(files), tmp_path / "out", "hf://acme/m@v1")
    assert compared == [
        (f"{tmp_path}/out", ["a", "b/A"], URI, False),
        (str(tmp_path), ["out"], URI, False),
        (f"{tmp_path}/out", ["a", "b/A"], "hf://acme/m@v1", True),
    ]


def test_names_that_were_compared_before_and_no_names_are_not_compared(tmp_path, compared):
    local_targets([record("a")], tmp_path, single=False, names_checked=True)
    local_targets([], tmp_path, single=False)
    assert compared == []


def test_names_are_checked_for_any_number_of_files_without_planning_them(tmp_path):
    check_names(iter([record("a"), record("b/a")]), tmp_path / "out", URI)
    with pytest.raises(XetInputError, match=r"path '\.\./a' in a repository is not valid"):
        check_names(iter([record("b"), record("../a")]), tmp_path / "out", URI)
    with pytest.raises(XetInputError, match="destination is empty"):
        check_names(iter([record("b")]), "", URI)
    assert not (tmp_path / "out").exists()


def test_a_name_that_is_too_long_for_the_file_system_is_refused(tmp_path):
    longest = longest_name(tmp_path)
    assert planned(tmp_path, record("a/" + "n" * longest)) == ["a/" + "n" * longest]
    too_long = "n" * (longest + 1)
    with pytest.raises(XetInputError) as caught:
        local_targets([record(f"a/{too_long}/b")], tmp_path, single=False)
    assert str(caught.value) == (
        f"'a/{'n' * 57} of {URI} cannot be written: '{'n' * 59} is longer than the {longest} bytes that the file "
        "system of this worker allows for a name."
    )


def test_the_longest_name_is_that_of_the_nearest_folder_that_exists(tmp_path, monkeypatch):
    asked = []

    def pathconf(folder, name):
        asked.append((folder, name))
        if folder != tmp_path:
            raise FileNotFoundError
        return 143

    monkeypatch.setattr(os, "pathconf", pathconf)
    assert longest_name(tmp_path / "a/b") == 143
    assert asked == [(folder, "PC_NAME_MAX") for folder in (tmp_path / "a/b", tmp_path / "a", tmp_path)]
    assert longest_name(Path("/elsewhere")) == 255

    def unknown(folder, name):
        raise ValueError("unrecognized configuration name")

    monkeypatch.setattr(os, "pathconf", unknown)
    assert longest_name(tmp_path) == 255


# --- the folders


def test_a_destination_that_cannot_be_written_is_named(tmp_path):
    (tmp_path / "file").write_text("x")
    targets = local_targets([record("sub/a")], tmp_path / "file", single=False)
    with pytest.raises(XetDestinationError, match=r"file/sub cannot be written on this worker: not a directory"):
        temporary_files(targets).__enter__()
    targets = local_targets([record("a")], "/proc/no/such", single=False)
    with pytest.raises(XetDestinationError, match=r"/proc/no/such cannot be written.*Nothing was written there"):
        temporary_files(targets).__enter__()


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_without_permission_is_named(tmp_path):
    tmp_path.chmod(0o500)
    with pytest.raises(XetDestinationError, match="permission denied"):
        temporary_files(local_targets([record("a")], tmp_path, single=False)).__enter__()


def test_a_file_cannot_take_the_place_of_a_folder(tmp_path):
    (tmp_path / "a").mkdir()
    with pytest.raises(XetDestinationError, match=r"/a is a folder; a cannot replace it"):
        temporary_files(local_targets([record("a")], tmp_path, single=False)).__enter__()
    assert [path.name for path in tmp_path.iterdir()] == ["a"]


def test_temporary_files_are_gone_at_the_end_whatever_happens(tmp_path):
    targets = local_targets([record("s/a"), record("s/b")], tmp_path, single=False)

    def stop_in_the_middle():
        with temporary_files(targets):
            targets[0].part.write_bytes(b"half")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        stop_in_the_middle()
    assert list((tmp_path / "s").iterdir()) == []


def test_a_download_without_temporary_files_ends_without_an_error(tmp_path):
    targets = local_targets([record("s/a"), record("s/b")], tmp_path, single=False)
    with temporary_files(targets):
        targets[0].part.touch()
    assert list((tmp_path / "s").iterdir()) == []


# --- keeping


@pytest.mark.parametrize("file", [record(), inline(), record(sha256=None)])
def test_what_arrived_whole_gets_its_name(tmp_path, file):
    target = arrived(tmp_path, file)
    target.path.write_bytes(b"old")
    complete_from_disk(target)
    assert target.path.read_bytes() == b"content"
    assert list(tmp_path.iterdir()) == [target.path]


def test_a_link_under_the_name_is_replaced_and_not_written_through(tmp_path):
    (tmp_path / "precious").write_text("precious")
    target = arrived(tmp_path / "out", record())
    target.path.symlink_to(tmp_path / "precious")
    complete_from_disk(target)
    assert not target.path.is_symlink()
    assert (tmp_path / "precious").read_text() == "precious"


@pytest.mark.parametrize(
    ("file", "content", "text"),
    [
        (record(), b"conten", "arrived damaged. .*: it has 6 bytes instead of 7"),
        (record(), b"content+", "arrived damaged. .*: it has 8 bytes instead of 7"),
        (record(sha256=None), b"", "arrived damaged. .*: it has 0 bytes instead of 7"),
        (record(), b"CONTENT", "arrived damaged. .*: sha256 is .* instead of"),
        (inline(), b"CONTENT", "arrived damaged. .*: git blob sha1 is .* instead of"),
    ],
)
def test_what_is_not_the_file_leaves_the_old_one_as_it_was(tmp_path, file, content, text):
    (target,) = local_targets([file], tmp_path, single=False)
    target.path.write_bytes(b"old")
    with temporary_files([target]):
        target.part.write_bytes(content)
        with pytest.raises(XetIntegrityError, match=f"{file['path']} of {URI} {text}"):
            complete_from_disk(target)
    assert target.path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [target.path]


def test_sha256_goes_before_the_blob_id(tmp_path):
    target = arrived(tmp_path, record(blob_id="0" * 40))
    complete_from_disk(target)
    assert target.path.read_bytes() == b"content"


def test_files_of_more_than_one_block_are_verified_to_the_end(tmp_path):
    content = bytes(3 << 20) + b"end"
    complete_from_disk(arrived(tmp_path, record(content=content), content))
    with pytest.raises(XetIntegrityError, match="sha256 is"):
        complete_from_disk(arrived(tmp_path, record(content=content), content[:-3] + b"END"))


def test_what_was_read_while_it_was_written_is_not_read_again(tmp_path, monkeypatch):
    target = arrived(tmp_path, record())
    with monkeypatch.context() as patch:
        patch.setattr(Path, "open", None)
        complete(target, iter([b"con", b"tent"]))
    assert target.path.read_bytes() == b"content"


@pytest.mark.parametrize("file", [record(), inline()])
@pytest.mark.parametrize(
    ("pieces", "on_disk", "is_right"),
    [
        ([b"CONTENT"], b"content", True),  # what was read too early
        ([b"content"], b"content+", False),
        ([b"content"], b"conten", False),
        ([b"CONTENT"], b"CONTENT", False),
    ],
)
def test_the_file_on_disk_decides_and_not_what_was_read_of_it(tmp_path, file, pieces, on_disk, is_right):
    target = arrived(tmp_path, file, on_disk)
    if is_right:
        complete(target, iter(pieces))
    else:
        with pytest.raises(XetIntegrityError, match="arrived damaged"):
            complete(target, iter(pieces))
    assert target.path.exists() == is_right


def test_a_file_without_a_digest_is_compared_by_its_size(tmp_path):
    target = arrived(tmp_path, record(sha256=None))
    complete(target, iter([b"con"]))
    assert target.path.read_bytes() == b"content"


def test_a_damaged_file_is_named_with_what_differs(tmp_path):
    with pytest.raises(XetIntegrityError) as caught:
        complete_from_disk(arrived(tmp_path, record(), b"CONTENT"))
    found, wanted = (hashlib.sha256(content).hexdigest() for content in (b"CONTENT", b"content"))
    assert str(caught.value) == (
        f"a.bin of {URI} arrived damaged. Let the task retry; what arrived was discarded: "
        f"sha256 is {found} instead of {wanted}."
    )


def test_content_is_written_to_the_temporary_file_and_never_through_a_link(tmp_path):
    (target,) = local_targets([record()], tmp_path, single=False)
    (tmp_path / "precious").write_text("precious")
    target.part.symlink_to(tmp_path / "precious")
    write(target, b"content")
    assert not target.part.is_symlink()
    assert target.part.read_bytes() == b"content"
    assert (tmp_path / "precious").read_text() == "precious"
    assert not target.path.exists()


@pytest.mark.parametrize(("mask", "mode"), [(0, 0o666), (0o027, 0o640)])
def test_the_umask_decides_who_can_read_a_file(tmp_path, mask, mode):
    (target,) = local_targets([record()], tmp_path, single=False)
    before = os.umask(mask)
    try:
        write(target, b"content")
    finally:
        os.umask(before)
    assert target.part.stat().st_mode & 0o7777 == mode


def test_a_digest_is_computed_in_blocks(monkeypatch):
    sizes = []

    class Stream(io.BytesIO):
        def read(self, size=-1, /):
            sizes.append(size)
            return super().read(size)

    monkeypatch.setattr(Path, "open", lambda path, mode: Stream(bytes(3 << 20)))
    assert digest(Path("a.bin"), "sha256", 3 << 20) == hashlib.sha256(bytes(3 << 20)).hexdigest()
    assert sizes == [1 << 20] * 4


def test_the_state_of_a_target_is_that_of_a_regular_file(tmp_path):
    (target,) = local_targets([record("a/b")], tmp_path, single=False)
    assert state_of(target) is None
    (tmp_path / "a").write_text("a file where the folder would be")
    assert state_of(target) is None
    (tmp_path / "a").unlink()
    target.path.mkdir(parents=True)
    assert state_of(target) is None
    target.path.rmdir()
    target.path.write_bytes(b"content")
    assert state_of(target).size == 7


# --- already there


@pytest.mark.parametrize(
    ("file", "content", "there"),
    [
        (record(), b"content", True),
        (inline(), b"content", True),
        (record(), b"CONTENT", False),
        (inline(), b"CONTENT", False),
        (record(), b"conten", False),
        (record(sha256=None), b"content", False),
    ],
)
def test_a_file_is_there_only_if_it_can_be_shown_to_be_equal(tmp_path, file, content, there):
    (target,) = local_targets([file], tmp_path, single=False)
    assert not existing.equal([target], None)
    target.path.write_bytes(content)
    assert existing.equal([target], None) == ({target.path} if there else set())


def test_neither_a_link_nor_a_folder_is_the_file(tmp_path):
    (target,) = local_targets([record()], tmp_path, single=False)
    (tmp_path / "same").write_bytes(b"content")
    target.path.symlink_to(tmp_path / "same")
    assert not existing.equal([target], None)
    target.path.unlink()
    target.path.mkdir()
    assert not existing.equal([target], None)


@pytest.mark.parametrize("destination", ["out\0", "out\ud800"])
def test_a_destination_that_no_file_system_has_is_refused(destination):
    with pytest.raises(XetInputError, match="contains a character that file names cannot have"):
        local_targets([record()], destination, single=False)


# --- a disk that fails


def test_a_destination_that_cannot_be_read_now_may_be_read_later(tmp_path, monkeypatch):
    fail_at(monkeypatch, os, "stat", "/out")
    with pytest.raises(XetDestinationError) as caught:
        local_targets([record()], tmp_path / "out", single=True)
    assert str(caught.value) == (
        f"{tmp_path}/out cannot be read on this worker: input/output error. Correct that, or choose another "
        "destination. Nothing was downloaded."
    )
    assert caught.value.retryable


@pytest.mark.parametrize(("number", "error"), [(errno.EIO, XetDestinationError), (errno.ENAMETOOLONG, XetInputError)])
def test_a_disk_that_fails_is_named_with_the_file_that_was_for_it(tmp_path, monkeypatch, number, error):
    (target,) = local_targets([record()], tmp_path, single=False)
    fail_at(monkeypatch, os, "open", target.part.name, number)
    with pytest.raises(error) as caught:
        write(target, b"content")
    reason = {errno.EIO: "input/output error", errno.ENAMETOOLONG: "file name too long"}[number]
    assert str(caught.value) == (
        f"{tmp_path}/a.bin cannot be written on this worker: {reason}. Correct that, or choose another destination. "
        f"It was for a.bin of {URI}, which was discarded."
    )


@pytest.mark.parametrize(
    ("name", "call"), [("lstat", state_of), ("replace", complete_from_disk), ("unlink", lambda it: write(it, b"x"))]
)
def test_whatever_fails_on_disk_names_the_path_that_was_wanted(tmp_path, monkeypatch, name, call):
    target = arrived(tmp_path, record())
    fail_at(monkeypatch, Path, name, "a.bin" if name == "lstat" else target.part.name)
    with pytest.raises(
        XetDestinationError, match=rf"^{tmp_path}/a\.bin cannot be written on this worker: input/output"
    ):
        call(target)


def test_a_destination_whose_name_is_too_long_is_an_input_error(tmp_path, monkeypatch):
    fail_at(monkeypatch, os, "stat", "/out", errno.ENAMETOOLONG)
    with pytest.raises(XetInputError, match=r"^destination '.*' cannot exist on this worker: file name too long\.$"):
        local_targets([record()], tmp_path / "out", single=True)


@pytest.mark.parametrize("verify", [complete_from_disk, lambda target: complete(target, iter([b"content"]))])
def test_a_temporary_file_that_cannot_be_read_does_not_get_its_name(tmp_path, monkeypatch, verify):
    target = arrived(tmp_path, record())
    fail_at(monkeypatch, Path, "stat", target.part.name)
    with pytest.raises(XetDestinationError, match=r"a.bin cannot be written on this worker: input/output error"):
        verify(target)
    assert not target.path.exists()


def test_pieces_that_cannot_be_read_do_not_get_the_name(tmp_path):
    def pieces():
        yield b"cont"
        raise OSError(5, "Input/output error")

    target = arrived(tmp_path, record())
    with pytest.raises(XetDestinationError, match="input/output error"):
        complete(target, pieces())
    assert not target.path.exists()


def test_one_temporary_file_that_stays_does_not_keep_the_others(tmp_path, monkeypatch):
    targets = [arrived(tmp_path, record(name)) for name in ("a", "b", "c")]
    failed = fail_at(monkeypatch, Path, "unlink", targets[0].part.name, errno.EACCES)
    text = "cannot be removed on this worker: permission denied"
    with pytest.raises(XetDestinationError, match=text), temporary_files(targets):
        pass
    assert failed == [str(targets[0].part)]
    assert [target.part.exists() for target in targets] == [True, False, False]


def test_a_temporary_file_that_stays_does_not_hide_why_the_download_failed(tmp_path, monkeypatch):
    targets = [arrived(tmp_path, record())]
    fail_at(monkeypatch, Path, "unlink", targets[0].part.name)
    with pytest.raises(RuntimeError, match="the first error"), temporary_files(targets):
        raise RuntimeError("the first error")


def test_what_an_earlier_attempt_left_and_cannot_be_removed_is_named(tmp_path, monkeypatch):
    [target] = local_targets([record()], tmp_path, single=False)

    def fail(*_):
        raise OSError(errno.EIO, os.strerror(errno.EIO), "left.xetpart")

    monkeypatch.setattr(temporary_names, "remove_abandoned", fail)
    text = r"cannot be removed on this worker: input/output error \(left.xetpart\)"
    with pytest.raises(XetDestinationError, match=text), temporary_files([target]):
        pass


@pytest.mark.parametrize("file", [record(), record(sha256=None)], ids=["sha256", "Xet hash"])
def test_an_existing_file_that_cannot_be_read_is_an_error_that_names_it(tmp_path, monkeypatch, file):
    (tmp_path / "a.bin").write_bytes(b"content")
    targets = local_targets([file], tmp_path, single=False)

    def fail(*_):
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(existing, "digest", fail)
    monkeypatch.setattr(existing.native_client, "xet_hashes", fail)
    with pytest.raises(XetDestinationError) as caught:
        existing.equal(targets, None)
    # The client does not say which of several files it is.
    named = tmp_path / "a.bin" if file["sha256"] else tmp_path
    assert str(caught.value) == (
        f"{named} cannot be read on this worker, to compare it: input/output error. Correct that, or remove the file. "
        "Nothing was downloaded."
    )
