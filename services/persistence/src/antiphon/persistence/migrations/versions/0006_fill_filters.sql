-- Fill the new columns of the next sessions after $1, in the order of their ids, and return the last id. All
-- is computed from the row that is updated: another version of persistence may change it at the same time.
with batch as materialized (
    select session_id from sessions where session_id > $1 order by session_id limit $2
), filled as (
    update sessions
       set flow_id = left(flow_id, 256),
           (conversation_id, fault, metadata_terms) = (
               select nullif(left(documents.details ->> 'conversation_id', 256), ''),
                      documents.details ->> 'fault',
                      (
                          select array_agg(key || '=' || value order by place)
                            from (
                                select key,
                                       case json_typeof(value)
                                            when 'string' then value #>> '{}' else value::text end,
                                       place
                                  from json_each(documents.metadata) with ordinality
                                       as member (key, value, place)
                                 where json_typeof(value) in ('string', 'number', 'boolean')
                                   and key !~ '[=\x1f]'
                            ) as term (key, value, place)
                           where value !~ '\x1f' and length(key) + 1 + length(value) <= 512
                             and place <= 50
                      )
                 -- Postgres cannot take a document apart that has \u0000 in it: U+FFFD stands for it, as in
                 -- the view's columns.
                 from (
                     select regexp_replace(
                                sessions.details::text, '(?<!\\)((\\\\)*)\\u0000', '\1\\ufffd', 'g'
                            )::json,
                            regexp_replace(
                                sessions.metadata::text, '(?<!\\)((\\\\)*)\\u0000', '\1\\ufffd', 'g'
                            )::json
                 ) as documents (details, metadata)
           )
     where session_id in (select session_id from batch)
       and (length(flow_id) > 256
            or ended_at is not null
            or metadata::text <> '{}'
            or details::text like '%"conversation_id":"%')
)
select max(session_id) from batch
