-- Write turns as they were saved; a row that a later event wrote stays as it is.
insert into turns (
    session_id, turn, tenant, agent_id, interrupted, recovered, occurred_at, sequence, tool_call_ids, metrics,
    user_text, assistant_text, assistant_text_generated, language, confidence
)
select *
  from unnest(
    $1::text[], $2::integer[], $3::text[], $4::text[], $5::boolean[], $6::boolean[], $7::timestamptz[],
    $8::integer[], $9::json[], $10::json[], $11::text[], $12::text[], $13::text[], $14::text[], $15::float8[]
  )
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
