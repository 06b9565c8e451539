"""The libraries that read and write Parquet through the filesystem, and copies from and to S3."""

from __future__ import annotations

import pytest
from airflow.sdk import ObjectStoragePath

from airflow_provider_xethub.hooks.xethub import XetHubConnection
from airflow_provider_xethub.xet.publish.commit import CommitRequest
from support.builders import TEXT, binary, commits, publish
from support.filesystem_places import at, name

pytestmark = [
    pytest.mark.long,
    # Of universal_pathlib, about any scheme that it does not bring itself.
    pytest.mark.filterwarnings("ignore:UPath 'xethub' filesystem not explicitly implemented"),
]

ROWS = 400_000


@pytest.fixture
def table():
    """Eight columns of numbers that do not compress, in four row groups."""
    import numpy
    import pyarrow

    numbers = numpy.random.default_rng(1)
    return pyarrow.table({f"c{each}": numbers.integers(0, 1 << 60, ROWS) for each in range(8)})


@pytest.fixture
def stored(table, repo, fs, tmp_path):
    """A path of a Parquet file of 26 MB."""
    from pyarrow import parquet

    parquet.write_table(table, tmp_path / "t.parquet", compression="none", row_group_size=ROWS // 4)
    XetHubConnection().publish(tmp_path / "t.parquet", CommitRequest(repo, ()))
    return at(repo, "t.parquet")


def received(hub) -> int:
    return sum(each.bytes_out for each in hub.log.counters() if "/data/" in each.route)


def _pandas_of_a_file(path):
    import pandas

    with path.open("rb") as file:
        return pandas.read_parquet(file, columns=["c3"])["c3"]


def _pandas_of_a_filesystem(path):
    import pandas

    return pandas.read_parquet(path.path, filesystem=path.fs, columns=["c3"])["c3"]


def _pandas_of_an_address(path):
    import pandas

    return pandas.read_parquet(f"xethub://xethub_default@{path.path}", columns=["c3"])["c3"]


def _polars_lazily(path):
    import polars
    import pyarrow.dataset

    return (
        polars.scan_pyarrow_dataset(pyarrow.dataset.dataset(path.path, filesystem=path.fs)).select("c3").collect()["c3"]
    )


def _polars_with_pyarrow(path):
    import polars

    options = {"filesystem": path.fs}
    return polars.read_parquet(path.path, use_pyarrow=True, columns=["c3"], pyarrow_options=options)["c3"]


def _pyarrow(path):
    from pyarrow import parquet

    return parquet.read_table(path.path, filesystem=path.fs, columns=["c3"])["c3"].to_numpy()


def _duckdb(path):
    import duckdb

    with duckdb.connect() as database:
        database.register_filesystem(path.fs)
        query = f"SELECT c3 FROM read_parquet('xethub://{path.path}')"
        return database.execute(query).df()["c3"]


@pytest.mark.parametrize("read", [_pandas_of_a_file, _pandas_of_a_filesystem, _pandas_of_an_address, _polars_lazily,
                                  _polars_with_pyarrow, _pyarrow, _duckdb])  # fmt: skip
def test_one_column_of_parquet_is_read_without_the_others(read, stored, table, hub):
    hub.log.clear()
    assert int(sum(map(int, read(stored)))) == sum(map(int, table["c3"].to_pylist()))
    assert ROWS * 8 < received(hub) < 0.8 * stored.stat().st_size
    assert len(hub.log.requests("GET /cas/.*/reconstructions/.*")) < 40
    assert not hub.log.requests("GET .*/resolve/.*")


def test_polars_reads_all_of_an_open_file(stored, table):
    import polars

    with stored.open("rb") as file:
        assert polars.read_parquet(file)["c7"].to_list() == table["c7"].to_pylist()


def test_what_they_write_is_a_commit(repo, fs, hub):
    import duckdb
    import pandas
    import polars

    frame = pandas.DataFrame({"species": ["Adelie", "Gentoo"], "count": [1, 2]})
    before = commits(hub, repo)
    with at(repo, "pandas.parquet").open("wb") as file:
        frame.to_parquet(file)
    frame.to_csv(f"xethub://xethub_default@{name(repo, 'pandas.csv')}", index=False)
    with at(repo, "polars.parquet").open("wb") as file:
        polars.DataFrame({"count": [1, 2]}).write_parquet(file)
    with duckdb.connect() as database:
        database.register_filesystem(fs)
        database.execute(f"COPY (SELECT 42 AS answer) TO 'xethub://{name(repo, 'duck.parquet')}'")
        assert database.execute(f"SELECT * FROM 'xethub://{name(repo, 'duck*.parquet')}'").fetchall() == [(42,)]
    assert commits(hub, repo) == before + 4
    assert pandas.read_parquet(at(repo, "pandas.parquet").open("rb")).equals(frame)
    assert at(repo, "pandas.csv").open("r").read() == "species,count\nAdelie,1\nGentoo,2\n"
    with fs.transaction:
        for part in range(3):
            with fs.open(name(repo, f"parts/{part}.parquet"), "wb") as file:
                frame.to_parquet(file)
    assert commits(hub, repo) == before + 5


# --- S3 ---------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def s3():
    from support.object_stores import s3_server

    with s3_server() as server:
        yield server


def test_airflow_copies_from_and_to_s3(s3, repo, connection, hub, monkeypatch, tmp_path):
    wanted = {"a.bin": binary(12_000_000, "s3"), "b.csv": TEXT}
    s3.connect(monkeypatch)
    s3.client.create_bucket(Bucket="lake")
    s3.put("lake", {f"in/{path}": data for path, data in wanted.items()})
    before = commits(hub, repo)
    lake = ObjectStoragePath("s3://aws@lake/in")
    (lake / "a.bin").copy(at(repo, "one.bin"))
    assert at(repo, "one.bin").open("rb").read() == wanted["a.bin"]
    assert commits(hub, repo) == before + 1
    folder = at(repo, "folder", "xethub")
    with folder.fs.transaction:
        for source in lake.iterdir():
            source.copy(folder / source.name)
    assert {path: (folder / path).read_bytes() for path in wanted} == wanted
    assert commits(hub, repo) == before + 2
    publish(repo, tmp_path, {"out/c.bin": binary(9_000_000, "out")})
    at(repo, "out/c.bin").copy(ObjectStoragePath("s3://aws@lake/out/c.bin"))
    assert s3.content("lake")["out/c.bin"] == binary(9_000_000, "out")
    (lake / "a.bin").move(folder / "moved.bin")
    assert (folder / "moved.bin").read_bytes() == wanted["a.bin"]
    assert "in/a.bin" not in s3.content("lake")


def test_an_upload_takes_files_of_another_repository(repo, make_repo, connection, tmp_path):
    bucket = make_repo("bucket")
    publish(bucket, tmp_path, {"raw/a.bin": binary(9_000_000, "raw")})
    source = f"hf://xethub_default@{name(bucket, 'raw/')}"
    result = XetHubConnection().publish(source, CommitRequest(repo, ()), path_in_repo="from_bucket")
    assert [file["path"] for file in result["files"]] == ["from_bucket/a.bin"]
    assert at(repo, "from_bucket/a.bin").open("rb").read() == binary(9_000_000, "raw")
