-- Upsert turns. A row shows one event: the last turn.saved that its own agent wrote, else the last recovered one,
-- else the last turn.started. A recovered turn is the note of a killed agent, and may be older than its turn.
-- Of all it keeps the time of the start and the first sequence, so the order of the events does not matter.
with advanced as materialized (select advance_projection($1, $2, $3, $4))
insert into turns (
    session_id, epoch, turn, tenant, agent_id, state, interrupted, recovered, occurred_at, sequence, first_sequence,
    tool_call_ids, metrics, started_at, user_text, assistant_text, assistant_text_generated, language, confidence
)
select row.*
  from advanced,
       unnest(
         $5::text[], $6::text[], $7::integer[], $8::text[], $9::text[], $10::text[], $11::boolean[],
         $12::boolean[], $13::timestamptz[], $14::integer[], $15::integer[], $16::json[], $17::json[],
         $18::timestamptz[], $19::text[], $20::text[], $21::text[], $22::text[], $23::float8[]
       ) as row
on conflict (session_id, epoch, turn) do update set
    (
        agent_id, state, interrupted, recovered, occurred_at, sequence, tool_call_ids, metrics,
        user_text, assistant_text, assistant_text_generated, language, confidence
    ) = (
        select shown.*
          from (
            values (
                excluded.agent_id, excluded.state, excluded.interrupted, excluded.recovered, excluded.occurred_at,
                excluded.sequence, excluded.tool_call_ids, excluded.metrics, excluded.user_text,
                excluded.assistant_text, excluded.assistant_text_generated, excluded.language, excluded.confidence
            ), (
                turns.agent_id, turns.state, turns.interrupted, turns.recovered, turns.occurred_at,
                turns.sequence, turns.tool_call_ids, turns.metrics, turns.user_text,
                turns.assistant_text, turns.assistant_text_generated, turns.language, turns.confidence
            )
          ) as shown (agent_id, state, interrupted, recovered, occurred_at, sequence)
         order by shown.state desc, shown.recovered, shown.sequence desc  -- 'saved' before 'open'
         limit 1
    ),
    first_sequence = least(turns.first_sequence, excluded.first_sequence),
    started_at = least(turns.started_at, excluded.started_at)
where (excluded.state, not excluded.recovered, excluded.sequence) > (turns.state, not turns.recovered, turns.sequence)
   or excluded.first_sequence < turns.first_sequence
   or excluded.started_at < coalesce(turns.started_at, 'infinity')
