-- Upsert sessions; skip a row that includes a later event. A document that is null has not changed; the columns
-- to filter by change with the details.
with advanced as materialized (select advance_projection($1, $2, $3, $4))
insert into sessions (
    session_id, tenant, created_at, flow_id, flow_revision, user_id, room, language, ended_at, reason,
    conversation_id, fault, metadata, details, participants, usage,
    status, agent_state, user_state, turns, turns_by_epoch, skipped, updated_at, sequence, metadata_terms
)
select row.session_id, row.tenant, row.created_at, row.flow_id, row.flow_revision, row.user_id, row.room,
       row.language, row.ended_at, row.reason, row.conversation_id, row.fault,
       row.metadata, row.details, row.participants, row.usage,
       row.status, row.agent_state, row.user_state, row.turns, row.turns_by_epoch, row.skipped, row.updated_at,
       row.sequence, string_to_array(row.metadata_terms, E'\x1f')
  from advanced,
       unnest(
         $5::text[], $6::text[], $7::timestamptz[], $8::text[], $9::integer[], $10::text[], $11::text[],
         $12::text[], $13::timestamptz[], $14::text[],
         $15::text[], $16::text[], $17::json[], $18::json[], $19::json[], $20::json[],
         $21::text[], $22::text[], $23::text[], $24::integer[], $25::json[], $26::integer[], $27::timestamptz[],
         $28::integer[], $29::text[]
       ) as row (
         session_id, tenant, created_at, flow_id, flow_revision, user_id, room, language, ended_at, reason,
         conversation_id, fault, metadata, details, participants, usage,
         status, agent_state, user_state, turns, turns_by_epoch, skipped, updated_at, sequence, metadata_terms
       )
on conflict (session_id) do update set
    created_at = excluded.created_at,
    flow_id = case when excluded.details is null then sessions.flow_id else excluded.flow_id end,
    flow_revision = case when excluded.details is null then sessions.flow_revision else excluded.flow_revision end,
    user_id = case when excluded.details is null then sessions.user_id else excluded.user_id end,
    room = case when excluded.details is null then sessions.room else excluded.room end,
    language = case when excluded.details is null then sessions.language else excluded.language end,
    ended_at = case when excluded.details is null then sessions.ended_at else excluded.ended_at end,
    reason = case when excluded.details is null then sessions.reason else excluded.reason end,
    conversation_id =
        case when excluded.details is null then sessions.conversation_id else excluded.conversation_id end,
    fault = case when excluded.details is null then sessions.fault else excluded.fault end,
    metadata = coalesce(excluded.metadata, sessions.metadata),
    details = coalesce(excluded.details, sessions.details),
    participants = coalesce(excluded.participants, sessions.participants),
    usage = coalesce(excluded.usage, sessions.usage),
    status = excluded.status,
    agent_state = excluded.agent_state,
    user_state = excluded.user_state,
    turns = excluded.turns,
    turns_by_epoch = coalesce(excluded.turns_by_epoch, sessions.turns_by_epoch),
    skipped = excluded.skipped,
    updated_at = excluded.updated_at,
    sequence = excluded.sequence,
    metadata_terms = coalesce(excluded.metadata_terms, sessions.metadata_terms)
where sessions.sequence < excluded.sequence
