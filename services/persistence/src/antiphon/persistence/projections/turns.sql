-- Upsert turns; skip a row from a later event.
with advanced as materialized (select advance_projection($1, $2, $3, $4))
insert into turns (
    session_id, turn, tenant, agent_id, interrupted, recovered, occurred_at, sequence, tool_call_ids, metrics,
    user_text, assistant_text, assistant_text_generated, language, confidence
)
select row.*
  from advanced,
       unnest(
         $5::text[], $6::integer[], $7::text[], $8::text[], $9::boolean[], $10::boolean[], $11::timestamptz[],
         $12::integer[], $13::json[], $14::json[], $15::text[], $16::text[], $17::text[], $18::text[],
         $19::float8[]
       ) as row
on conflict (session_id, turn) do update set
    agent_id = excluded.agent_id,
    interrupted = excluded.interrupted,
    recovered = excluded.recovered,
    occurred_at = excluded.occurred_at,
    sequence = excluded.sequence,
    tool_call_ids = excluded.tool_call_ids,
    metrics = excluded.metrics,
    user_text = excluded.user_text,
    assistant_text = excluded.assistant_text,
    assistant_text_generated = excluded.assistant_text_generated,
    language = excluded.language,
    confidence = excluded.confidence
where turns.sequence < excluded.sequence
