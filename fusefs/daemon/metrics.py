"""The numbers of `status` in the text format of Prometheus; the only user of its library.

A number is added by a line in one of the tables, and its value in the record of `Service.status`.
"""

from collections.abc import Iterator
from typing import Any, NamedTuple

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

#: What `render` returns, for HTTP. The version of the format that every collector reads.
CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
_PREFIX = "fusefs_"


class Number(NamedTuple):
    """A number of the record: its `key` there, with dots between the keys of records in the record;
    its `name` here, and `help` for people."""

    key: str
    name: str
    help: str

    def of(self, record: dict[str, Any]) -> float:
        value: Any = record
        for key in self.key.split("."):
            value = value[key]
        return float(value or 0)


#: Of `counters`. They only grow while a store is open. ``_total`` is put behind the names.
COUNTERS = (
    Number("requests", "requests", "Requests of the kernel that were answered."),
    Number("bytes_received", "received_bytes", "Bytes that programs wrote."),
    Number("already_present", "already_present_blocks", "Written blocks that were there already."),
    Number("already_present_bytes", "already_present_bytes", "Content of these, not stored again."),
    Number("needed", "needed_blocks", "Written blocks that had to be stored."),
    Number("needed_bytes", "needed_bytes", "Content of these."),
    Number("bytes_stored", "stored_bytes", "What these take on the disk, after compression."),
    Number("fsyncs", "fsyncs", "Calls of fsync that were answered with success."),
    Number("log_syncs", "log_syncs", "Calls of fdatasync for the log."),
    Number("checkpoints", "checkpoints", "Times that the index caught up with the log."),
    Number("replayed_records", "replayed_records", "Records replayed when the store was opened."),
    Number("damaged_reads", "damaged_reads", "Reads of blocks that were bad."),
    Number("healed", "healed_blocks", "Bad blocks that were written anew."),
    Number("fetches", "fetches", "Parts of segments that were fetched from remotes."),
    Number("fetched_bytes", "fetched_bytes", "What these held."),
    Number("failed_fetches", "failed_fetches", "Readers that could not have what is in remotes."),
    Number("scrubbed", "scrubbed_blocks", "Blocks that were read just to verify them."),
    Number("scrubbed_bytes", "scrubbed_bytes", "What these take on the disk."),
    Number("uploads.requests", "upload_requests", "Offers of senders that were answered."),
    Number("uploads.already_present_bytes", "upload_already_present_bytes", "Offered, and there."),
    Number("uploads.needed_bytes", "upload_needed_bytes", "Offered, and asked for."),
    Number("uploads.received_bytes", "upload_received_bytes", "What was sent of these."),
    Number("uploads.resumes", "upload_resumes", "Uploads that went on with what was there."),
    Number("uploads.finished", "uploads_finished", "Uploads that came to their end."),
    Number("uploads.aborted", "uploads_aborted", "Uploads that were given up."),
)
#: Of the record itself. They go up and down.
GAUGES = (
    Number("corruption_records", "corruption_records", "Blocks that are known to be bad."),
    Number("partials.count", "partials", "Half-written files that nobody writes to."),
    Number("partials.bytes", "partials_bytes", "Their sizes."),
    Number("partials.old_bytes", "partials_old_bytes", "Sizes of the old ones among them."),
    Number("files", "files", "Files outside of the trash."),
    Number("live_bytes", "live_bytes", "Their data."),
    Number("trash_entries", "trash_entries", "Entries in the trash."),
    Number("trash_bytes", "trash_bytes", "Data of files in the trash."),
    Number("stored_bytes", "needed_stored_bytes", "Blocks on the disk that something needs."),
    Number("garbage_bytes", "garbage_bytes", "Blocks on the disk that nothing needs."),
    Number("dedup_saved_bytes", "dedup_saved_bytes", "Saved by storing equal blocks once."),
    Number("compression_saved_bytes", "compression_saved_bytes", "Saved by compression."),
    Number("segments_bytes", "segments_bytes", "Sizes of the files of the log."),
    Number("reclaimable_bytes", "reclaimable_bytes", "Of these, what a collection would free."),
    Number("away.cache_bytes", "cache_bytes", "What was fetched and is kept on the disk."),
    Number("away.away_bytes", "away_bytes", "Blocks that something needs, in remotes only."),
    Number("waiting_bytes", "waiting_bytes", "Written data that is in memory alone."),
    Number("unsynced_bytes", "unsynced_bytes", "The end of the log that is not synced."),
    Number("disk_free_bytes", "disk_free_bytes", "Free space of the disk."),
    Number("reserve_bytes", "disk_reserve_bytes", "Of it, what is kept in reserve."),
)
#: Of each of `remotes`; the first only grow.
REMOTE_COUNTERS = (
    Number("sent_bytes", "remote_sent_bytes", "Bytes that went to the remote."),
    Number("sent_objects", "remote_sent_objects", "Objects that went to the remote."),
    Number("retries", "remote_retries", "Calls to the remote that were made again."),
    Number("failures", "remote_failures", "Times that the remote could not be brought in step."),
)
REMOTE_GAUGES = (
    Number("is_in_step", "remote_in_step", "1 while everything is in the remote."),
    Number("behind_segments", "remote_behind_segments", "Segments that the remote lacks."),
    Number("behind_bytes", "remote_behind_bytes", "Their sizes."),
    Number("behind_s", "remote_behind_seconds", "Age of the last state that it has whole."),
    Number("bytes_per_s", "remote_bytes_per_second", "What goes there just now."),
    Number("is_paused", "remote_paused", "1 while nothing is sent there."),
)


def render(record: dict[str, Any]) -> bytes:
    """The numbers of a status record; each is labelled with the UUID of the store."""
    registry = CollectorRegistry(auto_describe=False)
    registry.register(_Numbers(record))
    return generate_latest(registry)


class _Numbers(Collector):
    def __init__(self, record: dict[str, Any]) -> None:
        self._record = record

    def collect(self) -> Iterator[Metric]:
        record = self._record
        label = [record["uuid"]]
        counter: CounterMetricFamily
        for one in COUNTERS:
            counter = CounterMetricFamily(_PREFIX + one.name, one.help, labels=["store"])
            counter.add_metric(label, one.of(record["counters"]))
            yield counter
        for one in GAUGES:
            yield _gauge(one.name, one.help, label, one.of(record))
        yield from self._remotes(label)
        is_mounted = record.get("state", "mounted") == "mounted"
        yield _gauge("mounted", "1 while a daemon serves the store.", label, int(is_mounted))

    def _remotes(self, label: list[str]) -> Iterator[Metric]:
        labels = ["store", "remote"]
        for one in REMOTE_COUNTERS:
            counter = CounterMetricFamily(_PREFIX + one.name, one.help, labels=labels)
            for remote in self._record["remotes"]:
                counter.add_metric([*label, remote["name"]], one.of(remote))
            yield counter
        for one in REMOTE_GAUGES:
            gauge = GaugeMetricFamily(_PREFIX + one.name, one.help, labels=labels)
            for remote in self._record["remotes"]:
                gauge.add_metric([*label, remote["name"]], one.of(remote))
            yield gauge


def _gauge(name: str, help_text: str, label: list[str], value: float) -> GaugeMetricFamily:
    gauge = GaugeMetricFamily(_PREFIX + name, help_text, labels=["store"])
    gauge.add_metric(label, value)
    return gauge
