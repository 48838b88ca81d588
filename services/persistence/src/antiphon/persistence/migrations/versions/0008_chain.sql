-- Continue a hash chain by an entry: the state function of `chain`. Written in SQL it takes twice as long.
create or replace function chain_link(p_state bytea, p_start bytea, p_entry bytea) returns bytea
language plpgsql immutable parallel safe
as $$ begin return sha256(coalesce(p_state, p_start) || p_entry); end $$;

-- The hash chain of entries, from the value before the first of them; used as a window function.
create or replace aggregate chain(p_start bytea, p_entry bytea) (sfunc = chain_link, stype = bytea);

-- What the chain of a partition starts from, after the position up to which events have no hash.
create or replace function chain_start(p_partition smallint, p_chained_after bigint) returns bytea
language sql stable parallel safe
return sha256(
    convert_to('antiphon chain of partition ' || p_partition || ' after ' || p_chained_after, 'UTF8')
);

-- The digest of an event: all of its row. Numbers have a fixed length and no text contains a zero byte, so
-- two different rows never have the same bytes.
create or replace function event_digest(
    p_sequence integer,
    p_position bigint,
    p_partition smallint,
    p_version smallint,
    p_occurred_at timestamptz,
    p_committed_at timestamptz,
    p_session_id text,
    p_tenant text,
    p_event_id text,
    p_type text,
    p_envelope json
) returns bytea
language sql stable parallel safe
return sha256(
    int4send(p_sequence) || int8send(p_position) || int2send(p_partition) || int2send(p_version)
    || timestamptz_send(p_occurred_at) || timestamptz_send(p_committed_at)
    || convert_to(p_session_id, 'UTF8') || '\x00'::bytea
    || convert_to(p_tenant, 'UTF8') || '\x00'::bytea
    || convert_to(p_event_id, 'UTF8') || '\x00'::bytea
    || convert_to(p_type, 'UTF8') || '\x00'::bytea
    || convert_to(p_envelope::text, 'UTF8')
)
