alter table sessions
    add column conversation_id text collate "C",
    add column fault text collate "C",
    add column metadata_terms text[] collate "C",
    alter column reason type text collate "C";
update sessions set flow_id = left(flow_id, 256) where length(flow_id) > 256;
-- Postgres cannot take a document apart that has \u0000 in it: U+FFFD stands for it, as in the view's columns.
update sessions
   set conversation_id = nullif(left(documents.details ->> 'conversation_id', 256), ''),
       fault = documents.details ->> 'fault',
       metadata_terms = (
           select array_agg(key || '=' || value order by place)
             from (
                 select key, case json_typeof(value) when 'string' then value #>> '{}' else value::text end, place
                   from json_each(documents.metadata) with ordinality as member (key, value, place)
                  where json_typeof(value) in ('string', 'number', 'boolean')
                    and key !~ '[=\x1f]'
             ) as term (key, value, place)
            where value !~ '\x1f' and length(key) + 1 + length(value) <= 512
              and place <= 50
       )
  from (
      select session_id,
             regexp_replace(details::text, '(?<!\\)((\\\\)*)\\u0000', '\1\\ufffd', 'g')::json as details,
             regexp_replace(metadata::text, '(?<!\\)((\\\\)*)\\u0000', '\1\\ufffd', 'g')::json as metadata
        from sessions
       where ended_at is not null
          or metadata::text <> '{}'
          or details::text like '%"conversation_id":"%'
  ) as documents
 where documents.session_id = sessions.session_id;
create index sessions_tenant_flow_id_created_at_session_id_idx
    on sessions (tenant, flow_id, created_at, session_id) where flow_id is not null;
create index sessions_tenant_conversation_id_created_at_session_id_idx
    on sessions (tenant, conversation_id, created_at, session_id) where conversation_id is not null;
create index sessions_tenant_reason_created_at_session_id_idx
    on sessions (tenant, reason, created_at, session_id) where reason is not null;
create index sessions_tenant_fault_created_at_session_id_idx
    on sessions (tenant, fault, created_at, session_id) where fault is not null;
create index sessions_metadata_terms_idx on sessions using gin (metadata_terms)
