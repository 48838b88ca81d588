-- Upsert sessions; skip a row that includes a later event.
with advanced as materialized (select advance_projection($1, $2, $3, $4))
insert into sessions (
    session_id, tenant, status, flow_id, flow_revision, user_id, created_at, updated_at, turns, sequence, state,
    language, ended_at, reason
)
select row.*
  from advanced,
       unnest(
         $5::text[], $6::text[], $7::text[], $8::text[], $9::integer[], $10::text[], $11::timestamptz[],
         $12::timestamptz[], $13::integer[], $14::integer[], $15::json[], $16::text[], $17::timestamptz[],
         $18::text[]
       ) as row
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
