"""Statements of record_reports(): set-based, bound parameters only.

Each round trip costs as much as storing ten polls, so statements that need nothing of each other's go together.
"""

# State rows are locked in one order, whatever order the sites answered in. Row-level security refuses COPY into a
# protected table, so rows come through a temporary one: it is made by the role that uses it, empties itself at commit,
# and stays with the connection.
BEGIN_BATCH = """
SELECT 1 FROM edge_sites_sitestate WHERE site_id = ANY(%s) ORDER BY site_id FOR NO KEY UPDATE;
CREATE TEMPORARY TABLE IF NOT EXISTS poll_batch (
    site_id int8, provider_id int8, version int8, is_update bool, at timestamptz, due_at timestamptz, rtt_ms int8,
    cpu_count int8, cpu_ratio float8, load1 float8, mem_bytes int8, mem_total_bytes int8, disk_bytes int8,
    disk_total_bytes int8, net_rx_bytes_total int8, net_tx_bytes_total int8, temp_celsius float8, power_watts float8,
    clock_offset_ms int8, mono_ms int8, journal_seq int8, journal_head text
) ON COMMIT DELETE ROWS
"""
# Binary, at a third of the cost of text. Every number is an int8 up to here: psycopg cuts what is too large for an int4
# without a word, but raises OverflowError for an int8.
COPY_BATCH = "COPY poll_batch FROM STDIN (FORMAT BINARY)"
BATCH_TYPES = (
    *("int8", "int8", "int8", "bool", "timestamptz", "timestamptz", "int8"),
    *("int8", "float8", "float8", "int8", "int8", "int8"),
    *("int8", "int8", "int8", "float8", "float8", "int8", "int8"),
    *("int8", "text"),
)

# A sample belongs to the provider as of its time; lateness is from the moment the poll was due to this write.
STORE_BATCH = """
WITH stored AS (
    INSERT INTO sample (site_id, provider_id, at, late_ms, rtt_ms, cpu_count, cpu_ratio, load1, mem_bytes,
        mem_total_bytes, disk_bytes, disk_total_bytes, net_rx_bytes_total, net_tx_bytes_total, temp_celsius,
        power_watts)
    SELECT site_id::int4, provider_id::int4, at,
        LEAST(2147483647, GREATEST(0, extract(epoch FROM clock_timestamp() - due_at) * 1000))::integer,
        rtt_ms::int4, LEAST(cpu_count, 32767)::int2, cpu_ratio, load1, mem_bytes, mem_total_bytes, disk_bytes,
        disk_total_bytes, net_rx_bytes_total, net_tx_bytes_total, temp_celsius, power_watts
    FROM poll_batch
    RETURNING late_ms
)
SELECT max(late_ms) FROM stored;
UPDATE edge_sites_sitestate s
SET version = s.version + 1, last_poll_at = b.at, last_good_at = b.at, rtt_ms = b.rtt_ms::int4, cpu_ratio = b.cpu_ratio,
    mem_ratio = b.mem_bytes::float8 / NULLIF(b.mem_total_bytes, 0),
    disk_ratio = b.disk_bytes::float8 / NULLIF(b.disk_total_bytes, 0),
    temp_celsius = b.temp_celsius, clock_offset_ms = b.clock_offset_ms, mono_ms = b.mono_ms,
    journal_seq = b.journal_seq, journal_head = b.journal_head
FROM poll_batch b
WHERE b.is_update AND s.site_id = b.site_id AND s.version = b.version
"""

INSERT_COMPONENT_SETS = """
INSERT INTO edge_sites_componentset (digest, components)
SELECT digest, components FROM jsonb_to_recordset(%s::jsonb) AS c(digest text, components jsonb)
ON CONFLICT (digest) DO NOTHING
"""

# Rows are locked in one order, and written only where a size is new.
WRITE_IMAGE_SIZES = """
INSERT INTO edge_sites_imagesize AS i (digest, provider_id, bytes)
SELECT DISTINCT ON (digest, provider_id) digest, provider_id, bytes
FROM jsonb_to_recordset(%s::jsonb) AS c(digest text, provider_id integer, bytes bigint)
ORDER BY digest, provider_id
ON CONFLICT (digest, provider_id) DO UPDATE SET bytes = EXCLUDED.bytes, recorded_at = now()
WHERE i.bytes <> EXCLUDED.bytes
"""

UPDATE_STATES = """
UPDATE edge_sites_sitestate s
SET version = s.version + 1, last_poll_at = c.at, availability = c.availability,
    availability_since = c.availability_since, reachability = c.reachability,
    reachability_since = c.reachability_since, shown = c.shown, shown_since = c.shown_since,
    candidate = c.candidate, candidate_count = c.candidate_count, candidate_since = c.candidate_since,
    misses = c.misses, last_good_at = c.last_good_at, last_error = c.last_error,
    last_error_detail = c.last_error_detail,
    changed_at = CASE WHEN c.visible THEN now() ELSE s.changed_at END,
    component_set_id = COALESCE(c.digest, s.component_set_id),
    reasons = COALESCE(c.reasons, s.reasons), workloads = COALESCE(c.workloads, s.workloads),
    workloads_at = CASE WHEN c.workloads IS NULL THEN s.workloads_at ELSE c.at END,
    boot = COALESCE(c.boot, s.boot), clock_offset_ms = COALESCE(c.clock_offset_ms, s.clock_offset_ms),
    mono_ms = COALESCE(c.mono_ms, s.mono_ms),
    journal_seq = COALESCE(c.journal_seq, s.journal_seq), journal_head = COALESCE(c.journal_head, s.journal_head),
    busy_until = CASE WHEN c.ok THEN c.busy_until ELSE s.busy_until END,
    busy_reason = COALESCE(c.busy_reason, s.busy_reason), desired = COALESCE(c.desired, s.desired),
    rtt_ms = COALESCE(c.rtt_ms, s.rtt_ms),
    cpu_ratio = COALESCE(c.cpu_ratio, s.cpu_ratio), mem_ratio = COALESCE(c.mem_ratio, s.mem_ratio),
    disk_ratio = COALESCE(c.disk_ratio, s.disk_ratio),
    temp_celsius = CASE WHEN c.ok THEN c.temp_celsius ELSE s.temp_celsius END
FROM jsonb_to_recordset(%s::jsonb) AS c(
    site_id integer, version bigint, at timestamptz, ok boolean, visible boolean, availability text,
    availability_since timestamptz, reachability text, reachability_since timestamptz, shown text,
    shown_since timestamptz, candidate text, candidate_count smallint, candidate_since timestamptz, misses integer,
    last_good_at timestamptz, last_error text, last_error_detail text, digest text, reasons jsonb, workloads jsonb,
    boot text, clock_offset_ms bigint, mono_ms bigint, journal_seq bigint, journal_head text, busy_until timestamptz,
    busy_reason text, desired text, rtt_ms integer, cpu_ratio float8, mem_ratio float8, disk_ratio float8,
    temp_celsius float8)
WHERE s.site_id = c.site_id AND s.version = c.version
RETURNING s.site_id, s.compliance
"""

UPDATE_BACKOFF = """
UPDATE edge_sites_pollschedule s SET backoff = c.backoff
FROM jsonb_to_recordset(%s::jsonb) AS c(site_id integer, backoff smallint) WHERE s.site_id = c.site_id
"""

_CHANGES = """jsonb_to_recordset(%s::jsonb)
    AS c(site_id integer, provider_id integer, axis text, state text, at timestamptz, evidence jsonb)"""

# For sites whose state changed: close the interval that is open and open the next, close or open an outage. A site that
# was down, fell silent and comes back down is still in the same outage.
WRITE_CHANGES = f"""
UPDATE edge_sites_stateinterval i
SET valid_to = GREATEST(c.at, i.valid_from), closed_at = now(), evidence_end = c.evidence
FROM {_CHANGES}
WHERE i.site_id = c.site_id AND i.axis = c.axis AND i.valid_to IS NULL AND i.superseded_at IS NULL;
INSERT INTO edge_sites_stateinterval
    (site_id, provider_id, axis, state, valid_from, recorded_at, source, evidence)
SELECT site_id, provider_id, axis, state, at, now(), 'poll', evidence FROM {_CHANGES};
UPDATE edge_sites_outage o
SET valid_to = GREATEST(c.at, o.valid_from), closed_at = now(), evidence_end = c.evidence
FROM {_CHANGES}
WHERE o.site_id = c.site_id AND c.axis = 'availability' AND c.state IN ('up', 'degraded')
  AND o.valid_to IS NULL AND o.superseded_at IS NULL;
INSERT INTO edge_sites_outage (site_id, provider_id, valid_from, recorded_at, source, evidence, cause)
SELECT site_id, provider_id, at, now(), 'poll', evidence, 'unknown' FROM {_CHANGES}
WHERE c.axis = 'availability' AND c.state = 'down' AND NOT EXISTS (
    SELECT 1 FROM edge_sites_outage o
    WHERE o.site_id = c.site_id AND o.valid_to IS NULL AND o.superseded_at IS NULL)
"""  # noqa: S608  (a constant, no value)

_SPANS = """jsonb_to_recordset(%s::jsonb)
    AS c(site_id integer, provider_id integer, digest text, at timestamptz, evidence jsonb)"""

WRITE_SPANS = f"""
UPDATE edge_sites_componentspan i
SET valid_to = GREATEST(c.at, i.valid_from), closed_at = now(), evidence_end = c.evidence
FROM {_SPANS}
WHERE i.site_id = c.site_id AND i.valid_to IS NULL AND i.superseded_at IS NULL;
INSERT INTO edge_sites_componentspan
    (site_id, provider_id, component_set_id, valid_from, recorded_at, source, evidence)
SELECT site_id, provider_id, digest, at, now(), 'poll', evidence FROM {_SPANS}
"""  # noqa: S608

CLEAR_ACKNOWLEDGEMENTS = """
UPDATE edge_sites_acknowledgement SET cleared_at = now() WHERE site_id = ANY(%s) AND cleared_at IS NULL
"""

# The proof that this poller was watching in this minute.
BEAT = """
INSERT INTO edge_sites_pollerbeat AS p (poller, minute, polls, failures, lag_max_ms)
VALUES (%s, date_trunc('minute', now()), %s, %s, %s)
ON CONFLICT (minute, poller) DO UPDATE
SET polls = p.polls + EXCLUDED.polls, failures = p.failures + EXCLUDED.failures,
    lag_max_ms = GREATEST(p.lag_max_ms, EXCLUDED.lag_max_ms)
"""

READ_JOURNALS = "UPDATE edge_sites_journalcursor SET next_at = now() WHERE site_id = ANY(%s)"

# What sites say of their documents has changed: the deliverer asks them for more, and for their receipts.
NOTE_DESIRED = """
UPDATE edge_sites_sitedesired t
SET reported_epoch = c.epoch, reported_version = c.version, reported_state = c.state, reported_detail = c.detail,
    reported_at = c.at, due_at = LEAST(t.due_at, now())
FROM jsonb_to_recordset(%s::jsonb) AS c(site_id integer, epoch bigint, version bigint, state text, detail text,
    at timestamptz)
WHERE t.site_id = c.site_id
"""

# Who fell silent together comes back together: when one answers again, the others that wait longer than their interval
# are due within it, spread over it. Rows that somebody holds are being polled, or brought forward, already.
POLL_SOON = """
UPDATE edge_sites_pollschedule p SET next_poll_at = now() + make_interval(secs => random() * p.interval_s)
FROM (
    SELECT d.site_id FROM edge_sites_pollschedule d JOIN edge_sites_sitestate t ON t.site_id = d.site_id
    WHERE t.reachability = 'unreachable' AND d.next_poll_at > now() + make_interval(secs => d.interval_s)
        AND EXISTS (SELECT 1 FROM unnest(%s::timestamptz[]) AS m(at)
            WHERE t.reachability_since BETWEEN m.at - interval '2 minutes' AND m.at + interval '3 minutes')
    ORDER BY d.site_id FOR UPDATE OF d SKIP LOCKED
) AS found
WHERE p.site_id = found.site_id
"""
