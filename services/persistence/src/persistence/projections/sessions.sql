-- Write sessions as they are now; a row that is further on stays as it is.
insert into sessions (
    session_id, tenant, status, flow_id, flow_revision, user_id, created_at, updated_at, turns, sequence, state,
    language, ended_at, reason
)
select *
  from unnest(
    $1::text[], $2::text[], $3::text[], $4::text[], $5::integer[], $6::text[], $7::timestamptz[],
    $8::timestamptz[], $9::integer[], $10::integer[], $11::json[], $12::text[], $13::timestamptz[], $14::text[]
  )
on conflict (session_id) do update set
    status = excluded.status,
    flow_id = excluded.flow_id,
    flow_revision = excluded.flow_revision,
    user_id = excluded.user_id,
    created_at = excluded.created_at,
    updated_at = excluded.updated_at,
    turns = excluded.turns,
    sequence = excluded.sequence,
    state = excluded.state,
    language = excluded.language,
    ended_at = excluded.ended_at,
    reason = excluded.reason
where sessions.sequence < excluded.sequence
