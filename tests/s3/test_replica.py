"""The replica: its facts are the index's, and the server holds exactly its objects."""

from __future__ import annotations

from typing import TYPE_CHECKING

from idcfs.demo.s3http import Connection

if TYPE_CHECKING:
    from tests.support.replica import ServedReplica


def test_the_server_lists_exactly_the_objects_that_were_built(replica: ServedReplica) -> None:
    with Connection(replica.endpoint_url) as connection:
        listed = {
            (bucket, key, *facts)
            for bucket in replica.built.buckets
            for key, facts in connection.list_objects(bucket).items()
        }
    assert listed == {
        (item.bucket, item.key, item.size_bytes, item.md5) for item in replica.built.objects
    }


def test_every_series_has_as_many_instances_as_the_index_says(replica: ServedReplica) -> None:
    for series in replica.series:
        assert len(replica.objects_of(series)) == series.instance_count
        assert len(list(replica.built.directory_of(series).iterdir())) == series.instance_count
